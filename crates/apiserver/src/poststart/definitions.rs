//! What becomes of CustomResourceDefinitions and of their objects.
//!
//! ```text
//!  definition ──▶ status Established
//!  deleted one ─▶ Terminating ─▶ its objects go ─▶ the finalizer goes
//! ```

use std::sync::{Arc, Weak};
use std::time::Duration;

use wire::kinds;
use wire::rules::definition::CLEANUP_FINALIZER;

use super::pass::{self, Look, Pass};
use crate::api::{Answer, Options, Request, Verb};
use crate::definitions::DEFINITIONS;
use crate::meta;
use crate::registry::Registry;
use crate::registry::own::{self, Kind, MANAGER};

/// Keeps what is served up with the definitions, for as long as the registry lives.
pub(super) fn spawn(registry: &Arc<Registry>) {
    pass::spawn(registry, Keeper { registry: Arc::downgrade(registry), cleaning: Vec::new() });
}

struct Keeper {
    registry: Weak<Registry>,
    /// Definitions (their uids) whose objects are being deleted.
    cleaning: Vec<String>,
}

impl Pass for Keeper {
    const KINDS: &'static [Kind] = &[DEFINITIONS];

    async fn run(&mut self, registry: &Registry, _: Look) -> Duration {
        for definition in registry.definitions.refresh() {
            let name = meta::text(&definition, "name").to_owned();
            let Some(own) = registry.own(DEFINITIONS, "", &name) else { continue };
            // When it has changed meanwhile another pass follows.
            if let Err(failure) = own.update("status", definition).await {
                tracing::debug!(name, why = failure.message, "status of a definition not written");
            }
        }
        for record in registry.definitions.all() {
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

fn delete_all(kind: kinds::Kind) -> Request {
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
