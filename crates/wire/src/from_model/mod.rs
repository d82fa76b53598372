//! Model to objects: every [`model::Write`] as one call of the Kubernetes API, described as data.
//!
//! ```text
//!  model::Write ─ call ─▶ Call { method, path, content_type, body } ─▶ whoever speaks HTTP
//! ```
//!
//! Writes that know only a part of an object are patches; preconditions (uid, resourceVersion)
//! stand in the body's metadata, so that a stale write is refused with 409.

mod delete;
mod endpoints;
mod event;
mod meta;
mod node;
mod owner;
mod pod;
mod service;
mod workload;

#[cfg(test)]
mod tests;

pub use delete::finalize_namespace;
use model::{Timestamp, Write};
use serde_json::{Value, json};

use crate::rules::fields::{Fields, set};

/// One call of the Kubernetes API.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path, such as `/api/v1/namespaces/default/pods`.
    pub path: String,
    /// Content type of the body.
    pub content_type: &'static str,
    /// The body: an object, a patch, or DeleteOptions.
    pub body: Value,
    /// What to do when the object is missing (404): this call instead, if any.
    pub if_missing: Option<Box<Self>>,
}

/// HTTP method of a [`Call`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// The call that carries a write out. Times that the write does not hold stay empty: see
/// [`Call::at`].
pub fn call(write: &Write) -> Call {
    match write {
        Write::CreatePod { namespace, generate_name, owner, template } => {
            pod::create(namespace, generate_name, owner, template)
        }
        Write::DeletePod(name, uid) => {
            delete::namespaced("", "pods", &name.namespace, &name.name, uid)
        }
        Write::BindPod(name, uid, node) => pod::bind(name, uid, node),
        Write::PodUnschedulable(name, uid, message) => pod::unschedulable(name, uid, message),
        Write::PodNotReady(name, uid) => pod::not_ready(name, uid),
        Write::CreateReplicaSet(replica_set) => workload::create_replica_set(replica_set),
        Write::ScaleReplicaSet { name, uid, replicas, min_ready_seconds, annotations } => {
            workload::scale(name, uid, (*replicas, *min_ready_seconds), annotations)
        }
        Write::DeleteReplicaSet(name, uid) => {
            delete::namespaced("apps", "replicasets", &name.namespace, &name.name, uid)
        }
        Write::ReplicaSetStatus(name, status) => workload::replica_set_status(name, status),
        Write::DeploymentStatus { name, status, revision } => {
            workload::deployment_status(name, status, *revision)
        }
        Write::CreateSlice(slice) => endpoints::create_slice(slice),
        Write::UpdateSlice(slice) => endpoints::update_slice(slice),
        Write::DeleteSlice(name, uid) => {
            let group = "discovery.k8s.io";
            delete::namespaced(group, "endpointslices", &name.namespace, &name.name, uid)
        }
        Write::PutEndpoints(object) => endpoints::put(object),
        Write::DeleteEndpoints(name) => {
            delete::namespaced("", "endpoints", &name.namespace, &name.name, &"".into())
        }
        Write::ServiceIngress { name, uid, ingress } => service::ingress(name, uid, ingress),
        Write::ServiceFinalizer { name, uid, finalizer, present } => {
            service::finalizer(name, uid, finalizer, *present)
        }
        Write::NodeUnreachable(name, uid) => node::unreachable(name, uid),
        Write::NodeTaints { meta, taints } => node::taints(meta, taints),
        Write::NodePodCidrs { meta, cidrs } => node::pod_cidrs(meta, cidrs),
        Write::Delete { resource, meta, grace_seconds } => {
            delete::any(resource, meta, *grace_seconds)
        }
        Write::RemoveFinalizer { resource, meta, finalizer } => {
            owner::remove_finalizer(resource, meta, finalizer)
        }
        Write::AddOwner { resource, meta, owner } => owner::add(resource, meta, owner),
        Write::RemoveOwner { resource, meta, owner } => owner::remove(resource, meta, owner),
        // Of a Namespace that only its content holds.
        Write::FinalizeNamespace(name) => finalize_namespace(name, &json!({})),
        Write::Event(event) => event::create(event),
    }
}

impl Call {
    /// The same call with `now` for the times that pure code cannot know: when an Event happened
    /// and when a condition changed.
    pub fn at(mut self, now: Timestamp) -> Self {
        let now = meta::time(now);
        if self.body.text("/kind") == "Event" {
            for pointer in ["/firstTimestamp", "/lastTimestamp"] {
                set(&mut self.body, pointer, now.as_str());
            }
        }
        for condition in crate::rules::fields::items(&mut self.body, "/status/conditions") {
            if !condition.has("/lastTransitionTime") {
                set(condition, "/lastTransitionTime", now.as_str());
            }
        }
        self
    }

    fn post(path: String, body: Value) -> Self {
        Self::new(Method::Post, path, JSON, body)
    }

    fn put(path: String, body: Value) -> Self {
        Self::new(Method::Put, path, JSON, body)
    }

    /// Merges maps; lists with a merge key by that key.
    fn strategic(path: String, body: Value) -> Self {
        Self::new(Method::Patch, path, STRATEGIC, body)
    }

    /// Merges maps; lists are replaced.
    fn merge(path: String, body: Value) -> Self {
        Self::new(Method::Patch, path, MERGE, body)
    }

    fn delete(path: String, uid: &str, grace_seconds: Option<u32>) -> Self {
        let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if !uid.is_empty() {
            options["preconditions"] = json!({ "uid": uid });
        }
        if let Some(seconds) = grace_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        Self::new(Method::Delete, path, JSON, options)
    }

    fn new(method: Method, path: String, content_type: &'static str, body: Value) -> Self {
        Self { method, path, content_type, body, if_missing: None }
    }
}

/// Path of a resource or, with a name, of one object. An empty namespace means cluster scope.
fn path(group: &str, version: &str, namespace: &str, plural: &str, name: &str) -> String {
    let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    let scope =
        if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let object = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}/{version}{scope}/{plural}{object}")
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
