//! `coordination.k8s.io/v1` Lease.

use serde_json::Value;

use super::error::invalid;
use super::fields::{Fields, remove};
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// A Lease always has a spec.
pub(crate) fn default(lease: &mut Value, _: &Env) {
    if !lease.has("/spec") {
        super::fields::set(lease, "/spec", serde_json::json!({}));
    }
}

/// A new Lease is not coordinated: gate CoordinatedLeaderElection is off.
pub(crate) fn prepare_create(lease: &mut Value, _: &Env) {
    for pointer in COORDINATED {
        remove(lease, pointer);
    }
}

/// What another server has stored stays.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    for pointer in COORDINATED.into_iter().filter(|pointer| !old.has(pointer)) {
        remove(new, pointer);
    }
}

/// All errors of a new Lease.
pub(crate) fn validate_create(lease: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(lease, true, text::dns_subdomain);
    let seconds = lease.at("/spec/leaseDurationSeconds");
    if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
        let text = "must be greater than 0";
        errors.push(invalid("spec.leaseDurationSeconds", seconds.clone(), text));
    }
    let transitions = lease.at("/spec/leaseTransitions");
    if transitions.as_i64().is_some_and(|transitions| transitions < 0) {
        let text = "must be greater than or equal to 0";
        errors.push(invalid("spec.leaseTransitions", transitions.clone(), text));
    }
    errors
}

/// All errors of a changed Lease.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create(new, env));
    errors
}

const COORDINATED: [&str; 2] = ["/spec/strategy", "/spec/preferredHolder"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::tests::env;

    #[test]
    fn coordination_is_dropped_unless_it_was_stored() {
        let mut new = json!({ "spec": { "strategy": "X", "preferredHolder": "h" } });
        let old = json!({ "spec": { "strategy": "X" } });
        prepare_update(&mut new, &old, &env());
        assert_eq!(new, old);
        prepare_create(&mut new, &env());
        assert_eq!(new, json!({ "spec": {} }));
    }
}
