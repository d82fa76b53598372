//! `core/v1` Namespace.

use serde_json::{Value, json};

use super::error::invalid;
use super::fields::{Fields, copy, set};
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// Every Namespace carries its name as a label, so that selectors can name it.
pub(crate) fn default(namespace: &mut Value, _: &Env) {
    let name = namespace.text("/metadata/name").to_owned();
    if name.is_empty() {
        return;
    }
    if !namespace.has("/metadata/labels") {
        set(namespace, "/metadata/labels", json!({}));
    }
    let labels = namespace.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
}

/// A new Namespace is Active and waits, on deletion, for its content to go.
pub(crate) fn prepare_create(namespace: &mut Value, env: &Env) {
    // A generated name was not there yet when defaults were set.
    default(namespace, env);
    set(namespace, "/status", json!({ "phase": "Active" }));
    let mut finalizers = namespace.list("/spec/finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    set(namespace, "/spec", json!({ "finalizers": finalizers }));
}

/// Finalizers change only through `/finalize`, the status only through `/status`.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    copy(new, old, "spec");
    copy(new, old, "status");
}

/// All errors of a new Namespace.
pub(crate) fn validate_create(namespace: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(namespace, false, text::dns_label);
    for finalizer in namespace.texts("/spec/finalizers") {
        errors.extend(meta::validate_finalizer(finalizer, "spec.finalizers"));
    }
    errors
}

/// All errors of a changed Namespace.
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    meta::validate_update(new, old)
}

/// A write of the finalizers does not change the status.
pub fn prepare_finalize(new: &mut Value, old: &Value) {
    copy(new, old, "status");
    let finalizers = new.list("/spec/finalizers").to_vec();
    let spec = if finalizers.is_empty() { json!({}) } else { json!({ "finalizers": finalizers }) };
    set(new, "/spec", spec);
}

/// All errors of a write of the finalizers.
pub fn validate_finalize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    for (index, finalizer) in new.texts("/spec/finalizers").into_iter().enumerate() {
        let field = format!("spec.finalizers[{index}]");
        errors.extend(meta::validate_finalizer(finalizer, &field));
    }
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let phase = new.text("/status/phase");
    let text = match new.has("/metadata/deletionTimestamp") {
        false if phase != "Active" => "may only be 'Active' if `deletionTimestamp` is empty",
        true if phase != "Terminating" => {
            "may only be 'Terminating' if `deletionTimestamp` is not empty"
        }
        _ => return errors,
    };
    errors.push(invalid("status.Phase", phase, text));
    errors
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(namespace: &Value) -> Vec<(&'static str, String)> {
    vec![("status.phase", namespace.text("/status/phase").to_owned())]
}

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
