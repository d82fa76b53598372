//! Carrying out work against the API server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Client, RequestError, Sink};
use model::{Meta, Name, NamespaceName, Owner, Resource, Write};

use super::key::{Key, Target, target};
use super::machine::{Outcome, Work};

/// The delay after a write that the live cluster did not confirm: the watches have to catch up.
const CATCH_UP: Duration = Duration::from_millis(100);

/// What a worker needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) client: Client,
    pub(crate) sink: Sink,
    /// Resource types that exist.
    pub(crate) resources: Arc<BTreeSet<Resource>>,
}

impl Worker {
    /// Carries out one piece of work and says what became of each write.
    pub(crate) async fn carry_out(self, work: Work) -> (Key, Vec<(Write, Outcome)>) {
        let mut outcomes = Vec::with_capacity(work.writes.len());
        let mut failed: BTreeSet<Target> = BTreeSet::new();
        for write in work.writes {
            let target = target(&write).map(|(target, _)| target);
            if target.as_ref().is_some_and(|target| failed.contains(target)) {
                continue;
            }
            let outcome = self.write(&work.key, &write).await;
            let Some(target) = target else {
                // An Event that cannot be written is lost, nothing else.
                continue;
            };
            let is_failed = outcome.is_failed();
            outcomes.push((write, outcome));
            if is_failed {
                failed.insert(target);
                if !work.key.is_collective() {
                    break;
                }
            }
        }
        (work.key, outcomes)
    }

    async fn write(&self, key: &Key, write: &Write) -> Outcome {
        match self.is_confirmed(key, write).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::debug!(?key, ?write, "left for later: the live cluster differs");
                return Outcome::Failed { not_before: CATCH_UP };
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(?key, error, "could not confirm a deletion, trying again");
                return Outcome::Failed { not_before: Duration::ZERO };
            }
        }
        match self.sink.write(write).await {
            Ok(written) => Outcome::Written(written),
            Err(error) => {
                let chain = &error as &dyn std::error::Error;
                if error.conflict || error.gone {
                    // Somebody else was faster: the watches will say so.
                    tracing::debug!(?key, error = chain, "the object has changed, planning again");
                } else {
                    tracing::warn!(?key, error = chain, "could not write, trying again");
                }
                Outcome::Failed { not_before: error.retry_after.unwrap_or_default() }
            }
        }
    }

    /// Asks the live cluster before a step that cannot be taken back and that the watches alone
    /// do not justify: they show different resource types at different moments.
    async fn is_confirmed(&self, key: &Key, write: &Write) -> Result<bool, RequestError> {
        match (key, write) {
            (Key::Garbage, Write::Delete { meta, .. }) => self.has_no_owner(meta).await,
            (Key::Namespace(_), Write::FinalizeNamespace(name)) => {
                Ok(self.is_held(name).await? && self.is_empty(name).await?)
            }
            _ => Ok(true),
        }
    }

    /// Whether no owner of an object lives, other than one whose deletion waits for the object.
    async fn has_no_owner(&self, meta: &Meta) -> Result<bool, RequestError> {
        for owner in &meta.owners {
            if self.lives(owner, &meta.namespace).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn lives(&self, owner: &Owner, namespace: &Name) -> Result<bool, RequestError> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = self
            .resources
            .iter()
            .find(|resource| *resource.group == *group && resource.kind == owner.kind);
        // Who does not know the owner's type cannot say that it is gone.
        let Some(resource) = resource else { return Ok(true) };
        let path = format!("{}/{}", collection(resource, namespace), owner.name);
        match self.client.get(&path).await {
            Ok(object) => {
                let metadata = &object["metadata"];
                let same = metadata["uid"].as_str() == Some(owner.uid.as_str());
                let waits = !metadata["deletionTimestamp"].is_null()
                    && metadata["finalizers"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|one| one == "foregroundDeletion"));
                Ok(same && !waits)
            }
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a Namespace still waits for its content, and not for others only.
    async fn is_held(&self, namespace: &NamespaceName) -> Result<bool, RequestError> {
        let live = self.client.get(&format!("/api/v1/namespaces/{namespace}")).await?;
        let finalizers = live["spec"]["finalizers"].as_array();
        Ok(finalizers.is_some_and(|all| all.iter().any(|one| one == "kubernetes")))
    }

    /// Whether a Namespace has no content.
    async fn is_empty(&self, namespace: &NamespaceName) -> Result<bool, RequestError> {
        for resource in self.resources.iter().filter(|resource| resource.namespaced) {
            let path = format!("{}?limit=1", collection(resource, namespace));
            let list = self.client.get(&path).await?;
            if list["items"].as_array().is_some_and(|items| !items.is_empty()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Path of the objects of a resource type.
fn collection(resource: &Resource, namespace: &Name) -> String {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if resource.namespaced {
        format!("{root}/namespaces/{namespace}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    }
}
