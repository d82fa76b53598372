//! The answers to `authorization.k8s.io` and `authentication.k8s.io` reviews: what may somebody
//! do, who am I, whose token is this.

use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::{self, Failure};

use crate::api::User;
use crate::auth::Authenticator;
use crate::authz::review::{access, rules, texts, user_of_spec};
use crate::registry::Registry;

/// A review that somebody asks for.
pub(crate) struct Question<'a> {
    /// Its kind.
    pub(crate) row: &'a Kind,
    /// Who asks.
    pub(crate) user: &'a User,
    /// Of the path; empty for reviews of the cluster.
    pub(crate) namespace: &'a str,
    /// The review.
    pub(crate) body: Value,
}

/// Answers a review: the object with its status.
///
/// # Errors
///
/// 400 or 422 for a review that says nothing or too much.
pub(crate) fn answer(
    registry: &Registry,
    authenticator: &Authenticator,
    question: Question<'_>,
) -> Result<Value, Failure> {
    let Question { row, user, namespace, mut body } = question;
    let said = body["metadata"]["namespace"].as_str().unwrap_or_default();
    if row.namespaced() && said.is_empty() {
        body["metadata"]["namespace"] = namespace.into();
    } else if row.namespaced() && said != namespace {
        let text =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(status::bad_request(text));
    }
    let errors = row.validate_create(&body, &registry.config().env);
    if !errors.is_empty() {
        return Err(status::invalid(row.group(), row.kind(), "", &errors));
    }
    let authorizer = &registry.authorizer;
    let spec = &body["spec"];
    let status = match row.kind() {
        "SelfSubjectAccessReview" => access(authorizer, user, spec),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            access(authorizer, &user_of_spec(spec), spec)
        }
        "SelfSubjectRulesReview" => {
            rules(authorizer, user, spec["namespace"].as_str().unwrap_or_default())
        }
        "TokenReview" => token(registry, authenticator, spec),
        "SelfSubjectReview" => json!({ "userInfo": user.info() }),
        _ => return Err(status::method_not_allowed()),
    };
    body["kind"] = row.kind().into();
    body["apiVersion"] = row.api_version().into();
    body["status"] = status;
    Ok(body)
}

fn token(registry: &Registry, authenticator: &Authenticator, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let audiences: Vec<String> = texts(&spec["audiences"]);
    match authenticator.review(registry, token, &audiences) {
        Some((user, audiences)) => {
            json!({ "authenticated": true, "user": user.info(), "audiences": audiences })
        }
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    }
}
