//! `apiextensions.k8s.io/v1` CustomResourceDefinition (`pkg/registry/customresourcedefinition` and
//! `apis/apiextensions/validation` of apiextensions-apiserver).

mod validate;

use serde_json::{Value, json};

use super::fields::{Fields, copy, default as default_field, set};
use super::{keep_all_but_status, meta};
use crate::custom::set_condition;
use crate::kinds::Env;

pub(crate) use validate::{validate_create, validate_status, validate_update};

/// Holds a definition that is being deleted until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Singular name and kind of lists follow from the kind.
pub(crate) fn default(definition: &mut Value, _: &Env) {
    if !definition.at("/spec").is_object() {
        return;
    }
    let kind = definition.text("/spec/names/kind").to_owned();
    if !kind.is_empty() {
        default_field(definition, "/spec/names/singular", kind.to_lowercase());
        default_field(definition, "/spec/names/listKind", format!("{kind}List"));
    }
    if !definition.has("/spec/conversion") {
        set(definition, "/spec/conversion", json!({ "strategy": "None" }));
    }
}

/// A new definition has accepted no names; objects will be stored in one version.
pub(crate) fn prepare_create(definition: &mut Value, _: &Env) {
    let stored: Vec<String> = storage_version(definition).into_iter().collect();
    let status = json!({
        "conditions": [], "acceptedNames": { "kind": "", "plural": "" }, "storedVersions": stored,
    });
    set(definition, "/status", status);
    meta::start_generation(definition);
}

/// The status stays, but for the versions in which objects are stored from now on.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    copy(new, old, "status");
    meta::carry_generation(new, old, new.at("/spec") != old.at("/spec"));
    let stored = new.texts("/status/storedVersions");
    if let Some(version) = storage_version(new)
        && !stored.contains(&version.as_str())
    {
        let stored: Vec<&str> = stored.into_iter().chain([version.as_str()]).collect();
        let stored = json!(stored);
        set(new, "/status/storedVersions", stored);
    }
}

/// A status write keeps the rest.
pub(crate) fn prepare_status(new: &mut Value, old: &Value, env: &Env) {
    keep_all_but_status(new, old, env);
}

/// What a definition becomes when it is deleted: it waits until its objects are gone, and says so.
/// `now` is an RFC 3339 time.
pub fn mark_deleted(definition: &mut Value, now: &str) {
    let mut finalizers = definition.list("/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.into());
    }
    set(definition, "/metadata/finalizers", finalizers);
    let mut status = definition.at("/status").clone();
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(&mut status, "Terminating", ("True", "InstanceDeletionPending", message), now);
    set(definition, "/status", status);
}

/// What this server does not do with a definition.
pub(crate) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_some_and(|old| old.at("/spec") == new.at("/spec")) {
        return warnings;
    }
    for (index, version) in new.list("/spec/versions").iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        if has_rules(version.at("/schema/openAPIV3Schema")) {
            warnings.push(format!(
                "{path}: x-kubernetes-validations are stored, but this server does not enforce them"
            ));
        }
    }
    if new.text("/spec/conversion/strategy") == "Webhook" {
        warnings.push(
            "spec.conversion: this server calls no conversion webhooks; versions are converted by \
             changing apiVersion only"
                .to_owned(),
        );
    }
    warnings
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            name == "x-kubernetes-validations" && value.is_array() || has_rules(value)
        }),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

fn storage_version(definition: &Value) -> Option<String> {
    let mut versions = definition.list("/spec/versions").iter();
    versions.find(|version| version.flag("/storage")).map(|v| v.text("/name").to_owned())
}
