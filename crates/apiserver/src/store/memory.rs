//! All objects in memory, and what has lately happened to them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::history::{Event, Expired, History};
use super::{Key, Record, Spec};

/// What the file held.
pub(super) struct Loaded {
    /// The newest version that was ever given.
    pub(super) version: u64,
    /// For every resource the version of its last change.
    pub(super) changed: Vec<u64>,
    /// The objects.
    pub(super) objects: Vec<(Key, Record)>,
    /// What belongs to resources that are not known, or not yet, by their name.
    pub(super) unclaimed: BTreeMap<String, Unclaimed>,
}

/// What the file holds of a resource that nobody has defined.
#[derive(Default)]
pub(super) struct Unclaimed {
    /// The version of its last change.
    pub(super) changed: u64,
    /// Path, version and object.
    pub(super) objects: Vec<(Arc<str>, u64, Value)>,
}

/// Objects in the order of their paths.
pub(crate) struct Listing {
    /// Path and object.
    pub(crate) objects: Vec<(Arc<str>, Arc<Record>)>,
    /// The version of the whole.
    pub(crate) version: u64,
}

/// Which part of a resource to list, as it was at which version.
pub(crate) struct Page<'a> {
    /// Start of the paths.
    pub(crate) prefix: &'a str,
    /// Only paths behind this one; empty for the first page.
    pub(crate) after: &'a str,
    /// The version.
    pub(crate) version: u64,
}

/// The objects of every resource.
pub(super) struct Memory {
    version: u64,
    tables: Vec<Table>,
    unclaimed: BTreeMap<String, Unclaimed>,
}

struct Table {
    spec: Arc<Spec>,
    objects: BTreeMap<Arc<str>, Arc<Record>>,
    history: History,
    changed: watch::Sender<u64>,
}

impl Memory {
    pub(super) fn new(specs: Vec<Arc<Spec>>, loaded: Loaded) -> Self {
        let specs = specs.into_iter().zip(loaded.changed);
        let mut tables: Vec<Table> =
            specs.map(|(spec, changed)| Table::new(spec, changed)).collect();
        for (key, record) in loaded.objects {
            tables[key.resource].objects.insert(key.path, Arc::new(record));
        }
        Self { version: loaded.version, tables, unclaimed: loaded.unclaimed }
    }

    pub(super) fn define(&mut self, spec: Arc<Spec>) -> usize {
        if let Some(number) = self.tables.iter().position(|table| table.spec.name == spec.name) {
            self.tables[number].change(spec);
            return number;
        }
        let found = self.unclaimed.remove(&spec.name).unwrap_or_default();
        let mut table = Table::new(spec.clone(), found.changed);
        for (path, version, object) in found.objects {
            let record = Record::loaded(&spec, object, version);
            table.objects.insert(path, Arc::new(record));
        }
        self.tables.push(table);
        self.tables.len() - 1
    }

    pub(super) fn unclaimed(&self) -> Vec<String> {
        let held = self.unclaimed.iter().filter(|(_, found)| !found.objects.is_empty());
        held.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn spec(&self, resource: usize) -> Arc<Spec> {
        self.tables[resource].spec.clone()
    }

    /// Takes in committed events; watches see them all at once.
    pub(super) fn publish(&mut self, version: u64, events: Vec<(usize, Arc<Event>)>) {
        self.version = version;
        let mut changed = vec![0; self.tables.len()];
        for (resource, event) in events {
            let table = &mut self.tables[resource];
            if event.deleted {
                table.objects.remove(&event.path);
            } else {
                table.objects.insert(event.path.clone(), event.object.clone());
            }
            changed[resource] = event.object.version;
            table.history.push(event);
        }
        for (table, changed) in self.tables.iter().zip(changed) {
            if changed > 0 {
                table.changed.send_replace(changed);
            }
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.tables[key.resource].objects.get(&key.path).cloned()
    }

    pub(super) fn list(&self, resource: usize, prefix: &str) -> Listing {
        let page = Page { prefix, after: "", version: self.version };
        let objects = self.tables[resource]
            .range(&page)
            .map(|(path, record)| (path.clone(), record.clone()))
            .collect();
        Listing { objects, version: self.version }
    }

    /// The present objects with the later events taken back.
    pub(super) fn page(&self, resource: usize, page: &Page<'_>) -> Result<Listing, Expired> {
        let table = &self.tables[resource];
        let mut objects: BTreeMap<&Arc<str>, &Arc<Record>> = table.range(page).collect();
        for event in table.history.after(page.version)?.rev() {
            if !event.path.starts_with(page.prefix) || *event.path <= *page.after {
                continue;
            }
            match &event.old {
                Some(old) => objects.insert(&event.path, old),
                None => objects.remove(&event.path),
            };
        }
        let objects =
            objects.into_iter().map(|(path, record)| (path.clone(), record.clone())).collect();
        Ok(Listing { objects, version: page.version })
    }

    pub(super) fn events_after(
        &self,
        resource: usize,
        version: u64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let mut events = self.tables[resource].history.after(version)?;
        let taken: Vec<Arc<Event>> = events.by_ref().take(limit).cloned().collect();
        let complete = match taken.last() {
            Some(last) if events.next().is_some() => last.object.version,
            _ => self.version.max(version),
        };
        Ok((taken, complete))
    }

    pub(super) fn subscribe(&self, resource: usize) -> watch::Receiver<u64> {
        self.tables[resource].changed.subscribe()
    }
}

impl Table {
    fn new(spec: Arc<Spec>, changed: u64) -> Self {
        Self {
            spec,
            objects: BTreeMap::new(),
            history: History::new(changed),
            changed: watch::Sender::new(changed),
        }
    }

    /// Objects stay as they are written; what is known about them is found out anew.
    fn change(&mut self, spec: Arc<Spec>) {
        for record in self.objects.values_mut() {
            *record = Arc::new(Record::loaded(&spec, record.value(), record.version));
        }
        self.spec = spec;
    }

    fn range<'a>(
        &'a self,
        page: &Page<'a>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Record>)> + use<'a> {
        let from = if page.after >= page.prefix {
            Bound::Excluded(page.after)
        } else {
            Bound::Included(page.prefix)
        };
        let prefix = page.prefix;
        // An empty `after` with an empty prefix excludes only the empty path, which no object has.
        self.objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(prefix))
    }
}
