//! CustomResourceDefinitions at work: which kinds they add, and what becomes of their objects.
//!
//! ```text
//!  definitions ─ settle (names) ─▶ kinds ─▶ served at once ─▶ status Established
//!  deleted one ─▶ Terminating ─▶ its objects go ─▶ the finalizer goes
//! ```
//!
//! What it is: a loop over definitions that corrects what is served and what they say of
//! themselves. The rules stand in `wire::custom`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use wire::custom::{CustomKind, is_established, settle};
use wire::kinds::Kind;
use wire::rules::definition::CLEANUP_FINALIZER;

use crate::api::{Answer, Options, Request, Verb};
use crate::meta;
use crate::registry::Registry;
use crate::registry::own::{self, Look, MANAGER, Pass};

/// Group and plural of definitions.
pub(crate) const DEFINITIONS: own::Kind = ("apiextensions.k8s.io", "customresourcedefinitions");

/// What is known about the definitions.
pub(crate) struct Definitions {
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
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), seen: watch::Sender::new(0) }
    }

    /// Serves what the definitions say. The answer are those that do not say of themselves what
    /// is the case, corrected.
    pub(crate) fn refresh(&self, registry: &Registry) -> Vec<Value> {
        let version = last_change(registry);
        let records = registry.all(DEFINITIONS);
        let mut all: Vec<Value> = records.iter().map(|record| record.value()).collect();
        let now = meta::seconds(jiff::Timestamp::now());
        let mut changed = Vec::new();
        for at in 0..all.len() {
            let others: Vec<&Value> = all.iter().collect();
            if let Some(status) = settle(&all[at], &others, &now) {
                all[at]["status"] = status;
                changed.push(all[at].clone());
            }
        }
        self.serve(registry, &all);
        self.seen.send_replace(version);
        changed
    }

    fn serve(&self, registry: &Registry, definitions: &[Value]) {
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
                    registry.resources.define(&registry.store, &entry.kinds);
                    entry
                }
            };
            served.extend(entry.kinds.iter().filter(|kind| kind.is_served).cloned());
            known.insert(uid, entry);
        }
        registry.resources.serve(served);
    }

    /// A kind with which the objects of a definition can be reached.
    fn kind(&self, uid: &str) -> Option<Kind> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = &state.known.get(uid)?.kinds;
        kinds.iter().find(|kind| kind.is_storage).cloned().map(Kind::Custom)
    }
}

/// After a write of a definition: waits until what it adds is served, so that it is there as soon
/// as the client knows of the definition.
pub(crate) async fn caught_up(registry: &Registry, kind: &Kind, verb: Verb) {
    let is_read = matches!(verb, Verb::Get | Verb::List | Verb::Watch);
    if is_read || (kind.group(), kind.plural()) != DEFINITIONS {
        return;
    }
    let version = last_change(registry);
    let mut seen = registry.definitions.seen.subscribe();
    let waiting = seen.wait_for(|seen| *seen >= version);
    // The loop takes milliseconds. An answer that comes before it does no harm.
    drop(tokio::time::timeout(LONGEST_WAIT, waiting).await);
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

/// Version of the last change of any definition.
fn last_change(registry: &Registry) -> u64 {
    let (group, plural) = DEFINITIONS;
    let kind = registry.resources.find(group, plural);
    let number = kind.map(|kind| registry.resources.number(&kind));
    number.map_or(0, |number| *registry.store.subscribe(number).borrow())
}

/// Keeps what is served up with the definitions, for as long as the registry lives.
pub(crate) fn spawn(registry: &Arc<Registry>) {
    own::spawn(registry, Keeper { registry: Arc::downgrade(registry), cleaning: Vec::new() });
}

struct Keeper {
    registry: Weak<Registry>,
    /// Definitions (their uids) whose objects are being deleted.
    cleaning: Vec<String>,
}

impl Pass for Keeper {
    const KINDS: &'static [own::Kind] = &[DEFINITIONS];

    async fn run(&mut self, registry: &Registry, _: Look) -> Duration {
        for definition in registry.definitions.refresh(registry) {
            let name = meta::text(&definition, "name").to_owned();
            let Some(own) = registry.own(DEFINITIONS, "", &name) else { continue };
            // When it has changed meanwhile another pass follows.
            if let Err(failure) = own.update("status", definition).await {
                tracing::debug!(name, why = failure.message, "status of a definition not written");
            }
        }
        for record in registry.all(DEFINITIONS) {
            let definition = record.value();
            let uid = meta::text(&definition, "uid").to_owned();
            let is_held = meta::finalizers(&definition).iter().any(|f| f == CLEANUP_FINALIZER);
            if !meta::is_deleting(&definition) || !is_held || self.cleaning.contains(&uid) {
                continue;
            }
            self.cleaning.push(uid.clone());
            let name = meta::text(&definition, "name").to_owned();
            tokio::spawn(clean(self.registry.clone(), name, uid));
        }
        INTERVAL
    }
}

/// Deletes the objects of a definition, waits until they are gone, and lets the definition go.
async fn clean(registry: Weak<Registry>, name: String, uid: String) {
    loop {
        let Some(strong) = registry.upgrade() else { return };
        let Some(kind) = strong.definitions.kind(&uid) else { break };
        let number = strong.resources.number(&kind);
        let mut changed = strong.store.subscribe(number);
        changed.mark_unchanged();
        if strong.store.list(number, "").objects.is_empty() {
            break;
        }
        if let Answer::Failure(failure, _) = strong.call(delete_all(kind)).await {
            tracing::warn!(name, why = failure.message, "objects of a definition not deleted");
        }
        let is_empty = strong.store.list(number, "").objects.is_empty();
        drop(strong);
        // Finalizers hold what is left.
        if !is_empty && changed.changed().await.is_err() {
            return;
        }
    }
    while let Some(strong) = registry.upgrade() {
        let Some(own) = strong.own(DEFINITIONS, "", &name) else { return };
        let Some(mut definition) = own.get().filter(|now| meta::text(now, "uid") == uid) else {
            return;
        };
        let finalizers = meta::finalizers(&definition);
        let others = finalizers.into_iter().filter(|finalizer| finalizer != CLEANUP_FINALIZER);
        meta::set_finalizers(&mut definition, others.collect());
        match own.update("", definition).await {
            // Somebody else has written: look again.
            Err(failure) if failure.code == 409 => {}
            Err(failure) => {
                tracing::warn!(
                    name,
                    why = failure.message,
                    "a definition is held by its finalizer"
                );
                return;
            }
            Ok(()) => return,
        }
    }
}

fn delete_all(kind: Kind) -> Request {
    Request {
        verb: Verb::DeleteCollection,
        kind,
        namespace: None,
        name: None,
        subresource: None,
        options: Options::default(),
        body: None,
        strict: Vec::new(),
        user: own::server(),
        user_agent_manager: MANAGER.to_owned(),
    }
}

/// Between looks at everything when nothing changes.
const INTERVAL: Duration = Duration::from_secs(600);
/// An answer waits no longer for the loop.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
