//! Deletions.

use model::{Meta, Name, Resource, Uid};
use serde_json::{Value, json};

use super::{Call, path};

/// Deletes a namespaced object of version v1, which must still be the one meant.
pub(super) fn namespaced(
    group: &str,
    plural: &str,
    namespace: &Name,
    name: &Name,
    uid: &Uid,
) -> Call {
    Call::delete(path(group, "v1", namespace, plural, name), uid, None)
}

/// Deletes any object.
pub(super) fn any(resource: &Resource, meta: &Meta, grace_seconds: Option<u32>) -> Call {
    Call::delete(object_path(resource, meta), &meta.uid, grace_seconds)
}

/// Lets go of a Namespace whose content is gone, as it is in the cluster: the finalizers of others
/// stay. A Namespace that has changed meanwhile is a conflict.
pub fn finalize_namespace(name: &Name, live: &Value) -> Call {
    let mut body = live.clone();
    body["apiVersion"] = "v1".into();
    body["kind"] = "Namespace".into();
    body["metadata"]["name"] = name.as_str().into();
    let finalizers = live["spec"]["finalizers"].as_array().into_iter().flatten();
    let others: Vec<&Value> = finalizers.filter(|one| *one != NAMESPACE_FINALIZER).collect();
    body["spec"] = json!({ "finalizers": others });
    Call::put(format!("/api/v1/namespaces/{name}/finalize"), body)
}

/// Path of any object.
pub(super) fn object_path(resource: &Resource, meta: &Meta) -> String {
    let namespace = if resource.namespaced { meta.namespace.as_str() } else { "" };
    path(&resource.group, &resource.version, namespace, &resource.plural, &meta.name)
}

/// What the namespace controller holds Namespaces with.
const NAMESPACE_FINALIZER: &str = "kubernetes";
