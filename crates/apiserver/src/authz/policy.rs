//! The roles and bindings of every cluster (upstream `bootstrappolicy`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::attributes::RBAC_GROUP;
use super::rule::PolicyRule;

/// The rules of one of these roles.
pub(super) fn rules_of_role(name: &str) -> Vec<PolicyRule> {
    let policy = Policy::of_every_cluster();
    policy.roles.get(name).map(|role| PolicyRule::list(&role["rules"])).unwrap_or_default()
}

/// What `policy.txt` says, as objects by name.
pub(crate) struct Policy {
    /// ClusterRoles.
    pub(crate) roles: BTreeMap<String, Value>,
    /// ClusterRoleBindings.
    pub(crate) bindings: BTreeMap<String, Value>,
}

impl Policy {
    /// That of this server.
    pub(crate) fn of_every_cluster() -> Self {
        Self::parse(TEXT)
    }

    fn parse(text: &str) -> Self {
        let mut policy = Self { roles: BTreeMap::new(), bindings: BTreeMap::new() };
        let mut role = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["role", name, labels @ ..] => {
                    role = (*name).to_owned();
                    let object = json!({ "metadata": metadata(labels), "rules": [] });
                    policy.roles.insert(role.clone(), object);
                }
                ["aggregate", name, labels @ ..] => {
                    let label = format!("{LABELS}aggregate-to-{name}");
                    let selectors = json!([{ "matchLabels": { label: "true" } }]);
                    let rule = json!({ "clusterRoleSelectors": selectors });
                    let object = json!({ "metadata": metadata(labels), "aggregationRule": rule });
                    policy.roles.insert((*name).to_owned(), object);
                }
                ["bind", name, subjects @ ..] => {
                    let (name, role) = name.split_once('=').unwrap_or((name, name));
                    policy.bindings.insert(name.to_owned(), binding(role, subjects));
                }
                [verbs, rest @ ..] => {
                    let rules = policy.roles.get_mut(&role).map(|role| &mut role["rules"]);
                    let rules = rules.and_then(Value::as_array_mut);
                    rules.into_iter().for_each(|rules| rules.push(rule(verbs, rest)));
                }
                [] => {}
            }
        }
        policy
    }
}

fn metadata(labels: &[&str]) -> Value {
    let mut metadata = json!({
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTO_UPDATE: "true" },
    });
    for label in labels {
        metadata["labels"][format!("{LABELS}{label}")] = "true".into();
    }
    metadata
}

fn binding(role: &str, subjects: &[&str]) -> Value {
    let subjects: Vec<Value> = subjects.iter().filter_map(|text| subject(text)).collect();
    json!({
        "metadata": metadata(&[]),
        "roleRef": { "apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role },
        "subjects": subjects,
    })
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    Some(match name.split_once('/') {
        Some((namespace, name)) => json!({ "kind": kind, "name": name, "namespace": namespace }),
        None => json!({ "kind": kind, "apiGroup": RBAC_GROUP, "name": name }),
    })
}

fn rule(verbs: &str, rest: &[&str]) -> Value {
    let list = |text: &str| -> Vec<String> {
        text.split(',')
            .flat_map(|word| match word {
                "read" => READ.to_vec(),
                "write" => WRITE.to_vec(),
                "core" => vec![""],
                word => vec![word],
            })
            .map(str::to_owned)
            .collect()
    };
    match rest {
        ["url", paths] => json!({ "verbs": list(verbs), "nonResourceURLs": list(paths) }),
        [groups, resources] => {
            json!({ "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources) })
        }
        [groups, resources, names, ..] => json!({
            "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources),
            "resourceNames": list(names),
        }),
        _ => Value::Null,
    }
}

const TEXT: &str = include_str!("policy.txt");
const LABELS: &str = "rbac.authorization.k8s.io/";
pub(crate) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_policy_makes_a_valid_object() {
        let Policy { roles, bindings } = Policy::parse(TEXT);
        let env = wire::kinds::Env {
            service_cidrs: Vec::new(),
            node_ports: (1, 2),
            advertise: ("192.0.2.1".parse().unwrap(), 1),
        };
        for (kind, objects) in [("clusterroles", &roles), ("clusterrolebindings", &bindings)] {
            let row = wire::kinds::find(RBAC_GROUP, "v1", kind).unwrap();
            for (name, object) in objects {
                let mut object = object.clone();
                object["metadata"]["name"] = name.as_str().into();
                assert_eq!((row.validate_create)(&object, &env), [], "{name}");
            }
        }
        for (name, binding) in &bindings {
            let role = binding["roleRef"]["name"].as_str().unwrap();
            assert!(roles.contains_key(role), "{name}");
        }
        assert_eq!(rules_of_role("system:kube-dns").len(), 1);
    }
}
