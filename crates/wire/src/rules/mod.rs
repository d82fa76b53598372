//! Defaulting and validation of every served kind, with upstream's paths, reasons and texts.
//!
//! One module per kind; each gives the functions that its row in [`crate::kinds`] names.
//! Sources: `pkg/apis/*/v1/defaults.go`, `pkg/apis/*/validation` and
//! `pkg/registry/*/*/strategy.go` of Kubernetes 1.36.

pub(crate) mod config_map;
pub mod definition;
pub(crate) mod deployment;
pub(crate) mod endpoint_slice;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod ip_address;
pub(crate) mod lease;
pub mod meta;
pub mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub mod quantity;
pub mod rbac;
pub(crate) mod replica_set;
pub(crate) mod review;
pub(crate) mod secret;
pub mod service;
pub(crate) mod service_account;
pub(crate) mod service_cidr;
pub(crate) mod workload;

pub(crate) mod error;
pub(crate) mod fields;
pub mod ip;
pub mod text;

use serde_json::Value;

use crate::kinds::Env;
use crate::status::FieldError;

/// Leaves an object as it is.
pub(crate) fn keep(_: &mut Value) {}

/// No defaults, nothing to prepare.
pub(crate) fn nothing(_: &mut Value, _: &Env) {}

/// Nothing to prepare before an update.
pub(crate) fn nothing_on_update(_: &mut Value, _: &Value, _: &Env) {}

/// A status write takes everything but status and metadata from the stored object.
pub(crate) fn keep_all_but_status(new: &mut Value, old: &Value, _: &Env) {
    keep_except(new, old, &["status", "metadata", "kind", "apiVersion"]);
}

/// A write of the object itself takes the status from the stored object.
pub(crate) fn keep_status(new: &mut Value, old: &Value) {
    fields::copy(new, old, "status");
}

/// Takes every top-level field but these from the stored object.
pub(crate) fn keep_except(new: &mut Value, old: &Value, except: &[&str]) {
    let Some(fields) = new.as_object_mut() else { return };
    fields.retain(|key, _| except.contains(&key.as_str()));
    for (key, value) in old.as_object().into_iter().flatten() {
        if !except.contains(&key.as_str()) {
            fields.insert(key.clone(), value.clone());
        }
    }
}

/// Everything is right.
pub(crate) fn no_errors(_: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

/// Every change is right.
pub(crate) fn no_errors_on_update(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

/// Nothing to warn of.
pub(crate) fn no_warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}

/// Only metadata can be selected.
pub(crate) fn no_fields(_: &Value) -> Vec<(&'static str, String)> {
    Vec::new()
}

#[cfg(test)]
pub(crate) mod tests;
