//! The served kinds as the store knows them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use wire::custom::CustomKind;
use wire::kinds::{Env, Kind, KindRow, kinds};

use crate::api::Stored;
use crate::store::{Key, Record, Spec, Store, encode};

/// Every kind that has objects of its own. The position of a compiled one is the store's resource
/// number; the others get theirs when they are defined.
pub(crate) struct Resources {
    rows: Vec<&'static KindRow>,
    specs: Vec<Arc<Spec>>,
    /// The store's numbers of custom resources, by `plural.group`. They outlive the definitions.
    numbers: Mutex<BTreeMap<String, usize>>,
    served: ArcSwap<Served>,
    /// Counts changes of what is served.
    changed: watch::Sender<u64>,
}

/// The kinds of definitions.
#[derive(Default)]
struct Served {
    /// Ordered by group, version and plural.
    sorted: Vec<Kind>,
    /// Ordered by group, with the preferred version of each first.
    preferred: Vec<Kind>,
    /// OpenAPI documents by group and version, made when somebody asks.
    documents: OnceLock<Vec<Document>>,
}

/// An OpenAPI document.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) body: Bytes,
}

impl Resources {
    /// From the table of kinds.
    pub(crate) fn new(env: &Env) -> Self {
        let rows: Vec<&KindRow> = kinds()
            .iter()
            .filter(|row| row.stored_as.is_none() && row.verbs.contains(&"get"))
            .collect();
        let specs = rows.iter().map(|row| Arc::new(spec(row, env))).collect();
        Self {
            rows,
            specs,
            numbers: Mutex::default(),
            served: ArcSwap::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// What the store has to know.
    pub(crate) fn specs(&self) -> Vec<Arc<Spec>> {
        self.specs.clone()
    }

    /// Every kind that has objects of its own, once, whatever its versions.
    pub(crate) fn stored(&self) -> Vec<Kind> {
        let mut known = BTreeSet::new();
        let compiled = self.rows.iter().copied().map(Kind::BuiltIn);
        let defined = self.served.load().preferred.clone();
        compiled.chain(defined).filter(|kind| known.insert(self.number(kind))).collect()
    }

    /// The store's number of a kind's objects.
    pub(crate) fn number(&self, kind: &Kind) -> usize {
        match kind {
            Kind::BuiltIn(row) => {
                let stored = row.stored_row();
                let is_stored = |candidate: &&KindRow| {
                    (candidate.group, candidate.plural) == (stored.group, stored.plural)
                };
                // Every stored row is in `rows`: `new` took them from the same table.
                self.rows.iter().position(is_stored).unwrap_or_default()
            }
            Kind::Custom(custom) => {
                let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                // A custom kind exists only after `define` has given it a number.
                numbers.get(&custom_name(custom)).copied().unwrap_or_default()
            }
        }
    }

    /// Where an object of a kind is.
    pub(crate) fn key(&self, kind: &Kind, namespace: &str, name: &str) -> Key {
        Key::new(self.number(kind), if kind.namespaced() { namespace } else { "" }, name)
    }

    /// The compiled kind of a group and plural.
    pub(crate) fn find(&self, group: &str, plural: &str) -> Option<Kind> {
        let mut rows = self.rows.iter().copied();
        rows.find(|row| row.group == group && row.plural == plural).map(Kind::BuiltIn)
    }

    /// A kind as paths name it.
    pub(crate) fn served(&self, group: &str, version: &str, plural: &str) -> Option<Kind> {
        if let Some(row) = wire::kinds::find(group, version, plural) {
            return Some(row.into());
        }
        let served = self.served.load();
        let wanted = (group, version, plural);
        let found = served.sorted.binary_search_by(|kind| identity(kind).cmp(&wanted)).ok()?;
        Some(served.sorted[found].clone())
    }

    /// Every kind: the table's, then those of definitions by group and preference.
    pub(crate) fn all_served(&self) -> Vec<Kind> {
        let custom = self.served.load();
        kinds().iter().map(Kind::from).chain(custom.preferred.iter().cloned()).collect()
    }

    /// The OpenAPI documents of groups and versions that have kinds of definitions.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let served = self.served.load();
        let make = || {
            let mut documents: Vec<Document> = Vec::new();
            for kind in &served.preferred {
                let (group, version) = (kind.group(), kind.version());
                if documents.iter().any(|known| known.group == group && known.version == version) {
                    continue;
                }
                let all = self.all_served().into_iter();
                let kinds: Vec<Kind> = all
                    .filter(|other| other.group() == group && other.version() == version)
                    .collect();
                documents.push(Document {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    body: wire::openapi::build(&kinds).into(),
                });
            }
            documents
        };
        served.documents.get_or_init(make).clone()
    }

    /// Tells the store of the kinds of one definition, one for each version.
    pub(crate) fn define(&self, store: &Store, versions: &[Arc<CustomKind>]) {
        let stored = versions.iter().find(|kind| kind.is_storage).or_else(|| versions.first());
        let Some(stored) = stored else { return };
        let number = store.define(custom_spec(stored.clone(), versions.to_vec()));
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.insert(custom_name(stored), number);
    }

    /// Serves these kinds of definitions, and no others.
    pub(crate) fn serve(&self, kinds: Vec<Arc<CustomKind>>) {
        let mut preferred = kinds;
        preferred.sort_by(|a, b| a.compare_preference(b));
        let preferred: Vec<Kind> = preferred.into_iter().map(Kind::Custom).collect();
        let mut sorted = preferred.clone();
        sorted.sort_by(|a, b| identity(a).cmp(&identity(b)));
        self.served.store(Arc::new(Served { sorted, preferred, documents: OnceLock::new() }));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Done when a kind is no longer served in its present form: what goes on for long ends then.
    pub(crate) fn ended(
        self: &Arc<Self>,
        kind: &Kind,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (resources, kind) = (self.clone(), kind.clone());
        let mut changed = self.changed.subscribe();
        async move {
            let Kind::Custom(custom) = &kind else { return std::future::pending().await };
            loop {
                changed.borrow_and_update();
                let (group, version, plural) = identity(&kind);
                match resources.served(group, version, plural) {
                    Some(Kind::Custom(now)) if now.era == custom.era => {}
                    _ => return,
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn identity(kind: &Kind) -> (&str, &str, &str) {
    (kind.group(), kind.version(), kind.plural())
}

/// An object of the store as this kind shows it.
pub(crate) fn show(kind: &Kind, record: &Record) -> Stored {
    if kind.shows_as_stored(record.era) {
        return Stored { json: record.json.clone(), value: None };
    }
    show_value(kind, record.value())
}

/// A parsed object of the store as this kind shows it.
pub(crate) fn show_value(kind: &Kind, mut object: Value) -> Stored {
    kind.from_stored(&mut object);
    set_type(kind, &mut object);
    Stored {
        json: encode(kind.kind(), &kind.api_version(), &object),
        value: Some(Arc::new(object)),
    }
}

/// Sets kind and apiVersion.
pub(crate) fn set_type(kind: &Kind, object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("kind".to_owned(), kind.kind().into());
        fields.insert("apiVersion".to_owned(), kind.api_version().into());
    }
}

fn spec(row: &'static KindRow, env: &Env) -> Spec {
    let name = if row.group.is_empty() {
        row.plural.to_owned()
    } else {
        format!("{}.{}", row.plural, row.group)
    };
    let env = env.clone();
    Spec {
        name,
        kind: row.kind.to_owned(),
        api_version: row.api_version(),
        fields: Box::new(move |object| {
            let fields = fields(row, object).into_iter();
            fields.map(|(name, value)| (Cow::Borrowed(name), value)).collect()
        }),
        era: 0,
        on_load: Box::new(move |object| {
            (row.default_on_read)(object, &env);
            0
        }),
    }
}

/// How objects of a definition are stored. They can be selected by the fields of every version.
fn custom_spec(stored: Arc<CustomKind>, versions: Vec<Arc<CustomKind>>) -> Spec {
    let kind = Kind::Custom(stored.clone());
    Spec {
        name: custom_name(&stored),
        kind: kind.kind().to_owned(),
        api_version: kind.api_version(),
        fields: Box::new(move |object| {
            let mut fields = Vec::new();
            for (name, value) in versions.iter().flat_map(|kind| kind.selectable_fields(object)) {
                if fields.iter().all(|(known, _)| *known != name) {
                    fields.push((Cow::Owned(name), value));
                }
            }
            fields
        }),
        era: stored.era,
        // An object is of the present form when bringing it into that form changes nothing. It
        // stays as it is in any case: a field that one version lacks another may have.
        on_load: Box::new(move |object| {
            set_type(&kind, object);
            let mut shown = object.clone();
            kind.from_stored(&mut shown);
            if shown == *object { stored.era } else { 0 }
        }),
    }
}

fn custom_name(kind: &CustomKind) -> String {
    format!("{}.{}", kind.names.plural, kind.group)
}

/// The selectable fields of a stored kind and of those that show the same objects.
fn fields(row: &'static KindRow, object: &Value) -> Vec<(&'static str, String)> {
    let mut fields = (row.selectable_fields)(object);
    for alias in kinds().iter().filter(|alias| alias.stored_as == Some((row.group, row.plural))) {
        let mut object = object.clone();
        (alias.from_stored)(&mut object);
        for (name, value) in (alias.selectable_fields)(&object) {
            if fields.iter().all(|(known, _)| *known != name) {
                fields.push((name, value));
            }
        }
    }
    fields
}
