//! The answers to `authorization.k8s.io` and `authentication.k8s.io` reviews: what may somebody
//! do, who am I, whose token is this.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::{self, Failure};

use super::rule::PolicyRule;
use super::{Asked, Attributes, Authorizer, Decision, Resource, node};
use crate::api::User;
use crate::auth::Authenticator;
use crate::config::AuthorizationMode;
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
        "SelfSubjectReview" => json!({ "userInfo": info(user) }),
        _ => return Err(status::method_not_allowed()),
    };
    body["kind"] = row.kind().into();
    body["apiVersion"] = row.api_version().into();
    body["status"] = status;
    Ok(body)
}

/// `authentication.k8s.io/v1` UserInfo.
pub(crate) fn info(user: &User) -> Value {
    let mut info = json!({ "username": user.name });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = user.groups.as_slice().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn access(authorizer: &Authorizer, user: &User, spec: &Value) -> Value {
    let text = |part: &'_ Value, name: &str| part[name].as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    let part = if resource.is_null() { &spec["nonResourceAttributes"] } else { resource };
    let [verb, path, group, plural, subresource, namespace, name] =
        ["verb", "path", "group", "resource", "subresource", "namespace", "name"]
            .map(|name| text(part, name));
    let asked = if resource.is_null() {
        Asked::Path(&path)
    } else {
        Asked::Resource(Resource {
            group: &group,
            resource: &plural,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
        })
    };
    let Decision { allowed, reason } = authorizer.decide(&Attributes { user, verb: &verb, asked });
    let mut status = json!({ "allowed": allowed });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn rules(authorizer: &Authorizer, user: &User, namespace: &str) -> Value {
    let (mut rules, mut problems) = authorizer.rules_of(user, namespace);
    let mut incomplete = false;
    for mode in &authorizer.modes {
        match mode {
            AuthorizationMode::AlwaysAllow => rules.extend(super::escalation::everything()),
            AuthorizationMode::Node if node::node_of(user).is_some() => {
                incomplete = true;
                problems.push("node authorizer does not support user rule resolution".to_owned());
            }
            AuthorizationMode::Node | AuthorizationMode::AlwaysDeny | AuthorizationMode::Rbac => {}
        }
    }
    let (on_paths, on_resources): (Vec<&PolicyRule>, Vec<&PolicyRule>) =
        rules.iter().partition(|rule| !rule.urls.is_empty());
    let values = |rules: Vec<&PolicyRule>| -> Vec<Value> {
        rules.into_iter().map(PolicyRule::to_value).collect()
    };
    let mut status = json!({
        "resourceRules": values(on_resources), "nonResourceRules": values(on_paths),
        "incomplete": incomplete,
    });
    if !problems.is_empty() {
        status["evaluationError"] = problems.join(", ").into();
    }
    status
}

fn token(registry: &Registry, authenticator: &Authenticator, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let audiences: Vec<String> = texts(&spec["audiences"]);
    match authenticator.review(registry, token, &audiences) {
        Some((user, audiences)) => {
            json!({ "authenticated": true, "user": info(&user), "audiences": audiences })
        }
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    }
}

fn user_of_spec(spec: &Value) -> User {
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), texts(values)))
        .collect();
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
