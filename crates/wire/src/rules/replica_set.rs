//! `apps/v1` ReplicaSet.

use serde_json::{Value, json};

use super::fields::{Fields, same, set};
use super::workload;
use crate::kinds::Env;
use crate::status::FieldError;

/// Fills replicas and the template.
pub(crate) fn default(replica_set: &mut Value, _: &Env) {
    workload::default(replica_set);
    if !replica_set.has("/status/replicas") {
        set(replica_set, "/status/replicas", 0);
    }
}

/// A new ReplicaSet has no replicas yet.
pub(crate) fn prepare_create(replica_set: &mut Value, _: &Env) {
    workload::prepare_create(replica_set);
    set(replica_set, "/status", json!({ "replicas": 0 }));
}

/// Raises the generation for changes of the spec.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    let changed = !same(new.at("/spec"), old.at("/spec"));
    workload::prepare_update(new, old, changed);
}

/// All errors of a new ReplicaSet.
pub(crate) fn validate_create(replica_set: &Value, _: &Env) -> Vec<FieldError> {
    workload::validate(replica_set, "deployment")
}

/// All errors of a changed ReplicaSet.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = workload::validate_update(new, old);
    errors.extend(validate_create(new, env));
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::validate_status(new, old, &counts)
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(replica_set: &Value) -> Vec<(&'static str, String)> {
    vec![("status.replicas", replica_set.int("/status/replicas").to_string())]
}
