//! Pods.

use model::{Name, Owner, PodName, PodTemplate, Uid};
use serde_json::{Map, Value, json};

use super::{Call, meta, path};
use crate::rules::fields::{Fields, set};

/// Creates a pod from a template.
pub(super) fn create(
    namespace: &Name,
    generate_name: &str,
    owner: &Owner,
    template: &PodTemplate,
) -> Call {
    let template = template_body(template);
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        let value = template.at(&format!("/metadata/{field}"));
        if !value.is_null() {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), namespace.as_str().into());
    metadata.insert("generateName".to_owned(), generate_name.into());
    metadata.insert("ownerReferences".to_owned(), json!([meta::owner(owner)]));
    let body = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.at("/spec"),
    });
    Call::post(path("", "v1", namespace, "pods", ""), body)
}

/// Binds a pod to a node.
pub(super) fn bind(name: &PodName, uid: &Uid, node: &Name) -> Call {
    let body = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {
            "name": name.name.as_str(), "namespace": name.namespace.as_str(),
            "uid": uid.as_str(),
        },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node.as_str() },
    });
    Call::post(format!("{}/binding", path("", "v1", &name.namespace, "pods", &name.name)), body)
}

/// Says why a pod has no node.
pub(super) fn unschedulable(name: &PodName, uid: &Uid, message: &str) -> Call {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    });
    status(name, uid, &condition)
}

/// Takes a pod whose node is silent out of service.
pub(super) fn not_ready(name: &PodName, uid: &Uid) -> Call {
    status(name, uid, &json!({ "type": "Ready", "status": "False" }))
}

/// The template's JSON.
pub(super) fn template_body(template: &PodTemplate) -> Value {
    let mut body: Value = serde_json::from_str(&template.body).unwrap_or(Value::Null);
    if !template.labels.is_empty() {
        set(&mut body, "/metadata/labels", json!(template.labels));
    }
    body
}

fn status(name: &PodName, uid: &Uid, condition: &Value) -> Call {
    let path = format!("{}/status", path("", "v1", &name.namespace, "pods", &name.name));
    let body = json!({
        "metadata": { "uid": uid.as_str() }, "status": { "conditions": [condition] },
    });
    Call::strategic(path, body)
}
