//! `rbac.authorization.k8s.io/v1`: Role, ClusterRole, RoleBinding and ClusterRoleBinding
//! (`pkg/apis/rbac/validation`). What the rules mean is the authorizer's business.

use serde_json::{Map, Value};

use super::error::{each, invalid, not_supported, required};
use super::fields::{Fields, default as set_default, items};
use super::{meta, text, workload};
use crate::kinds::Env;
use crate::status::FieldError;

/// Whether a ClusterRole with these labels is part of one that aggregates by this rule
/// (`aggregationRule`): one of the selectors must match.
pub fn aggregates(rule: &Value, labels: &Value) -> bool {
    let labels = workload::labels(labels);
    rule.list("/clusterRoleSelectors")
        .iter()
        .filter_map(workload::selector)
        .any(|selector| selector.matches(&labels))
}

/// Bindings name their role and subjects in this API group unless they say otherwise.
pub(crate) fn default_binding(binding: &mut Value, _: &Env) {
    if binding.has("/roleRef") {
        set_default(binding, "/roleRef/apiGroup", GROUP);
    }
    for subject in items(binding, "/subjects") {
        if matches!(subject.text("/kind"), "User" | "Group") {
            set_default(subject, "/apiGroup", GROUP);
        }
    }
}

/// All errors of a new Role.
pub(crate) fn validate_role(role: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(role, true, text::path_segment);
    errors.extend(rules(role, true));
    errors
}

/// All errors of a changed Role.
pub(crate) fn validate_role_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_role(new, env));
    errors
}

/// All errors of a new ClusterRole.
pub(crate) fn validate_cluster_role(role: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(role, false, text::path_segment);
    errors.extend(rules(role, false));
    if role.has("/aggregationRule") {
        let field = "aggregationRule.clusterRoleSelectors";
        let selectors = role.list("/aggregationRule/clusterRoleSelectors");
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(required(field, why));
        }
        for (index, selector) in selectors.iter().enumerate() {
            if workload::selector(selector).is_none() {
                let field = format!("{field}[{index}]");
                errors.push(invalid(field, selector.clone(), "invalid label selector."));
            }
        }
    }
    errors
}

/// All errors of a changed ClusterRole.
pub(crate) fn validate_cluster_role_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_cluster_role(new, env));
    errors
}

/// All errors of a new RoleBinding.
pub(crate) fn validate_binding(binding: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(binding, true, text::path_segment);
    errors.extend(reference_and_subjects(binding, true));
    errors
}

/// All errors of a changed RoleBinding.
pub(crate) fn validate_binding_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_binding(new, env));
    errors.extend(same_role(new, old));
    errors
}

/// All errors of a new ClusterRoleBinding.
pub(crate) fn validate_cluster_binding(binding: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(binding, false, text::path_segment);
    errors.extend(reference_and_subjects(binding, false));
    errors
}

/// All errors of a changed ClusterRoleBinding.
pub(crate) fn validate_cluster_binding_update(
    new: &Value,
    old: &Value,
    env: &Env,
) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_cluster_binding(new, env));
    errors.extend(same_role(new, old));
    errors
}

fn rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let rules = role.list("/rules").iter().enumerate();
    rules
        .flat_map(|(index, rule)| policy_rule(rule, namespaced, &format!("rules[{index}]")))
        .collect()
}

fn policy_rule(rule: &Value, namespaced: bool, field: &str) -> Vec<FieldError> {
    let empty = |name: &str| rule.list(&format!("/{name}")).is_empty();
    let mut errors = Vec::new();
    if empty("verbs") {
        let why = "verbs must contain at least one value";
        errors.push(required(format!("{field}.verbs"), why));
    }
    if !empty("nonResourceURLs") {
        let field = format!("{field}.nonResourceURLs");
        let urls = rule.at("/nonResourceURLs");
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(invalid(&field, urls.clone(), why));
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(invalid(&field, urls.clone(), why));
        }
        return errors;
    }
    if empty("apiGroups") {
        let why = "resource rules must supply at least one api group";
        errors.push(required(format!("{field}.apiGroups"), why));
    }
    if empty("resources") {
        let why = "resource rules must supply at least one resource";
        errors.push(required(format!("{field}.resources"), why));
    }
    errors
}

fn reference_and_subjects(binding: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let reference = binding.at("/roleRef");
    if reference.text("/apiGroup") != GROUP {
        let group = reference.text("/apiGroup");
        errors.push(not_supported("roleRef.apiGroup", group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&reference.text("/kind")) {
        errors.push(not_supported("roleRef.kind", reference.text("/kind"), kinds));
    }
    match reference.text("/name") {
        "" => errors.push(required("roleRef.name", "")),
        name => errors.extend(each("roleRef.name", name, text::path_segment(name))),
    }
    for (index, subject) in binding.list("/subjects").iter().enumerate() {
        errors.extend(validate_subject(subject, namespaced, &format!("subjects[{index}]")));
    }
    errors
}

fn validate_subject(subject: &Value, namespaced: bool, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, group) = (subject.text("/name"), subject.text("/apiGroup"));
    let name_field = format!("{field}.name");
    let group_field = format!("{field}.apiGroup");
    if name.is_empty() {
        errors.push(required(&name_field, ""));
    }
    match subject.text("/kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(each(name_field, name, text::dns_subdomain(name)));
            }
            if !group.is_empty() {
                errors.push(not_supported(group_field, group, &[""]));
            }
            if !namespaced && subject.text("/namespace").is_empty() {
                errors.push(required(format!("{field}.namespace"), ""));
            }
        }
        kind @ ("User" | "Group") => {
            if name.is_empty() {
                let why = format!("{} name cannot be empty", kind.to_lowercase());
                errors.push(invalid(name_field, name, why));
            }
            if group != GROUP {
                errors.push(not_supported(group_field, group, &[GROUP]));
            }
        }
        kind => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.push(not_supported(format!("{field}.kind"), kind, &known));
        }
    }
    errors
}

/// The role of a binding stays: changing it would change what all subjects may do at once.
fn same_role(new: &Value, old: &Value) -> Option<FieldError> {
    let parts = ["apiGroup", "kind", "name"];
    let is_same = |name: &&str| {
        let pointer = format!("/roleRef/{name}");
        new.text(&pointer) == old.text(&pointer)
    };
    if parts.iter().all(is_same) {
        return None;
    }
    // Upstream shows its internal type, whose fields have no JSON names.
    let shown: Map<String, Value> = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")]
        .into_iter()
        .map(|(shown, name)| (shown.to_owned(), new.text(&format!("/roleRef/{name}")).into()))
        .collect();
    Some(invalid("roleRef", Value::Object(shown), "cannot change roleRef"))
}

const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{env, outcome};
    use super::*;
    use crate::status::CauseReason::{Invalid, NotSupported, Required};

    fn role(rule: &Value) -> Value {
        json!({ "metadata": { "name": "system:x", "namespace": "n" }, "rules": [rule] })
    }

    #[test]
    fn a_rule_is_about_resources_or_about_urls() {
        for (rule, expected) in [
            (json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }), vec![]),
            (
                json!({ "apiGroups": [""] }),
                vec![("rules[0].verbs", Required), ("rules[0].resources", Required)],
            ),
            (
                json!({ "verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"] }),
                vec![("rules[0].nonResourceURLs", Invalid), ("rules[0].nonResourceURLs", Invalid)],
            ),
        ] {
            assert_eq!(outcome(&validate_role(&role(&rule), &env())), expected, "{rule}");
        }
    }

    #[test]
    fn a_binding_gets_its_groups_and_keeps_its_role() {
        let mut binding = json!({
            "metadata": { "name": "b" }, "roleRef": { "kind": "ClusterRole", "name": "view" },
            "subjects": [
                { "kind": "User", "name": "u" },
                { "kind": "ServiceAccount", "name": "s", "namespace": "n" },
            ],
        });
        default_binding(&mut binding, &env());
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(validate_cluster_binding(&binding, &env()), []);
        let mut other = binding.clone();
        other["roleRef"]["name"] = "edit".into();
        let error = same_role(&other, &binding).unwrap();
        assert!(error.message.contains("cannot change roleRef"), "{}", error.message);
        assert_eq!(same_role(&binding, &binding), None);
    }

    #[test]
    fn subjects_are_of_known_kinds_and_have_what_these_need() {
        for (subject, namespaced, expected) in [
            (json!({ "kind": "Robot", "name": "r" }), true, vec![("s.kind", NotSupported)]),
            (
                json!({ "kind": "ServiceAccount", "name": "s" }),
                false,
                vec![("s.namespace", Required)],
            ),
            (json!({ "kind": "ServiceAccount", "name": "s" }), true, vec![]),
            (
                json!({ "kind": "User", "apiGroup": GROUP }),
                true,
                vec![("s.name", Required), ("s.name", Invalid)],
            ),
        ] {
            let errors = validate_subject(&subject, namespaced, "s");
            assert_eq!(outcome(&errors), expected, "{subject}");
        }
    }

    #[test]
    fn an_aggregation_rule_selects_something() {
        let role = json!({ "metadata": { "name": "c" }, "aggregationRule": {} });
        let errors = validate_cluster_role(&role, &env());
        assert_eq!(outcome(&errors), [("aggregationRule.clusterRoleSelectors", Required)]);
    }
}
