//! `coordination.k8s.io/v1` Lease.

use serde_json::Value;

use super::error::invalid;
use super::fields::Fields;
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// A Lease always has a spec.
pub(crate) fn default(lease: &mut Value, _: &Env) {
    if !lease.has("/spec") {
        super::fields::set(lease, "/spec", serde_json::json!({}));
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
