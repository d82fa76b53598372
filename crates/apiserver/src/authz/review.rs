//! What SubjectAccessReviews and SelfSubjectRulesReviews are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::attributes::{Asked, Attributes, Decision, Resource};
use super::rule::PolicyRule;
use super::{AuthorizationMode, Authorizer, node};
use crate::api::User;

/// May this user do what a review's `spec` asks?
pub(crate) fn access(authorizer: &Authorizer, user: &User, spec: &Value) -> Value {
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

/// What this user may do in a Namespace.
pub(crate) fn rules(authorizer: &Authorizer, user: &User, namespace: &str) -> Value {
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

/// Whom a SubjectAccessReview is about.
pub(crate) fn user_of_spec(spec: &Value) -> User {
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

/// The texts of a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
