//! `authorization.k8s.io/v1` and `authentication.k8s.io/v1`: questions that are answered at once
//! and kept nowhere (`pkg/apis/authorization/validation`).

use serde_json::Value;

use super::error::{invalid, required};
use super::fields::Fields;
use crate::kinds::Env;
use crate::status::FieldError;

/// All errors of a SubjectAccessReview.
pub(crate) fn validate_subject_access(review: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = subject(review);
    errors.extend(no_metadata(review, &[]));
    errors
}

/// All errors of a SelfSubjectAccessReview.
pub(crate) fn validate_self_subject_access(review: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = attributes(review).into_iter().collect();
    errors.extend(no_metadata(review, &[]));
    errors
}

/// All errors of a LocalSubjectAccessReview.
pub(crate) fn validate_local_subject_access(review: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = subject(review);
    errors.extend(no_metadata(review, &["namespace"]));
    let resource = review.at("/spec/resourceAttributes");
    if !resource.is_null() && resource.text("/namespace") != review.text("/metadata/namespace") {
        let field = "spec.resourceAttributes.namespace";
        let why = "must match metadata.namespace";
        errors.push(invalid(field, resource.text("/namespace"), why));
    }
    if review.has("/spec/nonResourceAttributes") {
        let value = review.at("/spec/nonResourceAttributes").clone();
        let why = "disallowed on this kind of request";
        errors.push(invalid("spec.nonResourceAttributes", value, why));
    }
    errors
}

/// All errors of a SelfSubjectRulesReview.
pub(crate) fn validate_self_subject_rules(review: &Value, _: &Env) -> Vec<FieldError> {
    if review.text("/spec/namespace").is_empty() {
        return vec![required("spec.namespace", "namespace is required")];
    }
    Vec::new()
}

/// All errors of a TokenReview.
pub(crate) fn validate_token(review: &Value, _: &Env) -> Vec<FieldError> {
    if review.text("/spec/token").is_empty() {
        return vec![required("spec.token", "token is required for TokenReview in authentication")];
    }
    Vec::new()
}

fn subject(review: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = attributes(review).into_iter().collect();
    if review.text("/spec/user").is_empty() && review.list("/spec/groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(invalid("spec.user", "", why));
    }
    errors
}

fn attributes(review: &Value) -> Option<FieldError> {
    let other = review.at("/spec/nonResourceAttributes");
    match (review.has("/spec/resourceAttributes"), !other.is_null()) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            Some(invalid("spec.nonResourceAttributes", other.clone(), why))
        }
        (false, false) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Some(invalid("spec.resourceAttributes", Value::Null, why))
        }
        _ => None,
    }
}

/// Nothing may be said of an object that will not exist.
fn no_metadata(review: &Value, except: &[&str]) -> Option<FieldError> {
    let said = review.map("/metadata").any(|(name, value)| {
        !except.contains(&name) && !matches!(name, "managedFields") && !is_nothing(value)
    });
    said.then(|| invalid("metadata", review.at("/metadata").clone(), "must be empty"))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{env, outcome};
    use super::*;
    use crate::status::CauseReason::Invalid;

    #[test]
    fn a_question_is_about_a_resource_or_about_a_path() {
        let both = json!({ "spec": {
            "user": "u", "resourceAttributes": {}, "nonResourceAttributes": {},
        }});
        let errors = validate_subject_access(&both, &env());
        assert_eq!(outcome(&errors), [("spec.nonResourceAttributes", Invalid)]);
        let none = json!({ "metadata": { "name": "x" }, "spec": { "groups": ["g"] } });
        let errors = validate_subject_access(&none, &env());
        assert_eq!(outcome(&errors), [("spec.resourceAttributes", Invalid), ("metadata", Invalid)]);
    }

    #[test]
    fn a_local_question_stays_in_its_namespace() {
        let review = json!({
            "metadata": { "namespace": "n" },
            "spec": { "user": "u", "resourceAttributes": { "namespace": "m" } },
        });
        let errors = validate_local_subject_access(&review, &env());
        assert_eq!(outcome(&errors), [("spec.resourceAttributes.namespace", Invalid)]);
    }
}
