//! CustomResourceDefinitions at work: which kinds they add.
//!
//! ```text
//!  definitions ─ settle (names) ─▶ kinds ─▶ served at once ─▶ status Established
//! ```
//!
//! What it is not: it writes nothing; `poststart::definitions` does. The rules stand in
//! `wire::custom`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use wire::custom::{CustomKind, is_established, settle};
use wire::kinds::Kind;

use crate::api::Verb;
use crate::meta;
use crate::resources::Resources;
use crate::store::{Record, Store};

/// Group and plural of definitions.
pub(crate) const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

/// What is known about the definitions.
pub(crate) struct Definitions {
    store: Arc<Store>,
    resources: Arc<Resources>,
    state: Mutex<State>,
    /// Changes of definitions up to this version are served.
    seen: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By uid.
    known: BTreeMap<String, Known>,
    /// The last era that was given.
    era: u32,
}

/// A definition as it was when its kinds were made.
struct Known {
    spec: Value,
    names: Value,
    is_terminating: bool,
    kinds: Vec<Arc<CustomKind>>,
}

impl Definitions {
    /// None is served yet.
    pub(crate) fn new(store: Arc<Store>, resources: Arc<Resources>) -> Self {
        Self { store, resources, state: Mutex::default(), seen: watch::Sender::new(0) }
    }

    /// Serves what the definitions say. The answer are those that do not say of themselves what
    /// is the case, corrected.
    pub(crate) fn refresh(&self) -> Vec<Value> {
        let version = self.last_change();
        let mut all: Vec<Value> = self.all().iter().map(|record| record.value()).collect();
        let now = meta::seconds(jiff::Timestamp::now());
        let mut changed = Vec::new();
        for at in 0..all.len() {
            let others: Vec<&Value> = all.iter().collect();
            if let Some(status) = settle(&all[at], &others, &now) {
                all[at]["status"] = status;
                changed.push(all[at].clone());
            }
        }
        self.serve(&all);
        self.seen.send_replace(version);
        changed
    }

    fn serve(&self, definitions: &[Value]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { known, era } = &mut *state;
        let mut before = std::mem::take(known);
        let mut served = Vec::new();
        let added = definitions
            .iter()
            .filter(|definition| is_established(definition) && !is_built_in(&definition["spec"]));
        for definition in added {
            let uid = meta::text(definition, "uid").to_owned();
            let entry = match before.remove(&uid).filter(|known| known.is(definition)) {
                Some(entry) => entry,
                None => {
                    *era += 1;
                    let entry = Known::new(definition, *era);
                    self.resources.define(&self.store, &entry.kinds);
                    entry
                }
            };
            served.extend(entry.kinds.iter().filter(|kind| kind.is_served).cloned());
            known.insert(uid, entry);
        }
        self.resources.serve(served);
    }

    /// A kind with which the objects of a definition can be reached.
    pub(crate) fn kind(&self, uid: &str) -> Option<Kind> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = &state.known.get(uid)?.kinds;
        kinds.iter().find(|kind| kind.is_storage).cloned().map(Kind::Custom)
    }

    /// After a write of a definition: waits until what it adds is served, so that it is there as soon
    /// as the client knows of the definition.
    pub(crate) async fn caught_up(&self, kind: &Kind, verb: Verb) {
        let is_read = matches!(verb, Verb::Get | Verb::List | Verb::Watch);
        if is_read || (kind.group(), kind.plural()) != DEFINITIONS {
            return;
        }
        let version = self.last_change();
        let mut seen = self.seen.subscribe();
        let waiting = seen.wait_for(|seen| *seen >= version);
        // The loop takes milliseconds. An answer that comes before it does no harm.
        drop(tokio::time::timeout(LONGEST_WAIT, waiting).await);
    }

    /// Every definition.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let Some(number) = self.number() else { return Vec::new() };
        let listing = self.store.list(number, "");
        listing.objects.into_iter().map(|(_, record)| record).collect()
    }

    /// Version of the last change of any definition.
    fn last_change(&self) -> u64 {
        self.number().map_or(0, |number| *self.store.subscribe(number).borrow())
    }

    /// The store's number of definitions.
    fn number(&self) -> Option<usize> {
        let (group, plural) = DEFINITIONS;
        self.resources.find(group, plural).map(|kind| self.resources.number(&kind))
    }
}

impl Known {
    fn new(definition: &Value, era: u32) -> Self {
        Self {
            spec: definition["spec"].clone(),
            names: definition["status"]["acceptedNames"].clone(),
            is_terminating: meta::is_deleting(definition),
            kinds: CustomKind::of(definition, era).into_iter().map(Arc::new).collect(),
        }
    }

    fn is(&self, definition: &Value) -> bool {
        self.spec == definition["spec"]
            && self.names == definition["status"]["acceptedNames"]
            && self.is_terminating == meta::is_deleting(definition)
    }
}

/// Whether a definition names a resource that is compiled in: that one stays as it is.
fn is_built_in(spec: &Value) -> bool {
    let plural = &spec["names"]["plural"];
    wire::kinds::kinds().iter().any(|row| spec["group"] == row.group && *plural == row.plural)
}

/// An answer waits no longer for the loop.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
