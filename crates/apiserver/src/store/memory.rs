//! All objects in memory, and what has lately happened to them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::watch;

use super::history::{Event, History};
use super::{Key, Record, Spec};

/// What the file held.
pub(super) struct Loaded {
    /// The newest version that was ever given.
    pub(super) version: u64,
    /// For every resource the version of its last change.
    pub(super) changed: Vec<u64>,
    /// The objects.
    pub(super) objects: Vec<(Key, Record)>,
}

/// A version that is too old to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expired {
    /// The version asked for.
    pub(crate) asked: u64,
    /// The oldest that can be answered.
    pub(crate) oldest: u64,
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
}

struct Table {
    objects: BTreeMap<Arc<str>, Arc<Record>>,
    history: History,
    changed: watch::Sender<u64>,
}

impl Memory {
    pub(super) fn new(specs: &[Arc<Spec>], loaded: Loaded) -> Self {
        let table = |index: usize| Table {
            objects: BTreeMap::new(),
            history: History::new(loaded.changed[index]),
            changed: watch::Sender::new(loaded.changed[index]),
        };
        let mut tables: Vec<Table> = (0..specs.len()).map(table).collect();
        for (key, record) in loaded.objects {
            tables[key.resource].objects.insert(key.path, Arc::new(record));
        }
        Self { version: loaded.version, tables }
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
