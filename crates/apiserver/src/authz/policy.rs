//! The roles and bindings of every cluster (upstream `bootstrappolicy`), and how they are brought
//! up to date at start.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::{Value, json};

use super::deployed::{self, Deployed};
use super::rule::{PolicyRule, compact, missing};
use super::{RBAC_GROUP, aggregate};
use crate::bootstrap::BootstrapError;
use crate::meta;
use crate::registry::Registry;
use crate::registry::own::Kind;

/// Creates what is missing, and gives existing roles and bindings what they lack. What people
/// added stays, and objects annotated `autoupdate: "false"` are left alone.
///
/// # Errors
///
/// The object and what the registry said.
pub(crate) async fn reconcile(registry: &Registry) -> Result<(), BootstrapError> {
    let Policy { roles, bindings } = Policy::parse(TEXT);
    let of_cluster = |kind: Kind, (name, object): (String, Value)| Deployed {
        kind,
        namespace: String::new(),
        name,
        object,
    };
    let deployed = deployed::roles_and_bindings().map_err(|error| BootstrapError {
        object: "the manifests in deploy/rbac".to_owned(),
        message: error.to_string(),
    })?;
    let all = (roles.into_iter().map(|role| of_cluster(CLUSTER_ROLES, role)))
        .chain(bindings.into_iter().map(|binding| of_cluster(CLUSTER_BINDINGS, binding)))
        .chain(deployed);
    // All at once: the store makes few commits of them.
    let written = join_all(all.map(|wanted| keep(registry, wanted))).await;
    written.into_iter().collect::<Result<(), _>>()?;
    aggregate::settle(registry).await;
    Ok(())
}

/// The rules of one of these roles.
pub(super) fn rules_of_role(name: &str) -> Vec<PolicyRule> {
    let policy = Policy::parse(TEXT);
    policy.roles.get(name).map(|role| PolicyRule::list(&role["rules"])).unwrap_or_default()
}

async fn keep(
    registry: &Registry,
    Deployed { kind, namespace, name, object: wanted }: Deployed,
) -> Result<(), BootstrapError> {
    let Some(own) = registry.own(kind, &namespace, &name) else { return Ok(()) };
    let result = match own.get() {
        None => own.create(wanted).await,
        Some(present) => match completed(&present, &wanted) {
            Some(new) => own.update("", new).await,
            None => Ok(()),
        },
    };
    match result {
        // Somebody else was faster.
        Err(failure) if failure.code == 409 => Ok(()),
        result => result.map_err(|failure| BootstrapError {
            object: format!("{} {name}", kind.1),
            message: failure.message,
        }),
    }
}

/// The object with everything that it should have; `None` when it has.
fn completed(present: &Value, wanted: &Value) -> Option<Value> {
    if present["metadata"]["annotations"][AUTO_UPDATE] == "false" || meta::is_deleting(present) {
        return None;
    }
    let mut new = present.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            new["metadata"][map][key] = value.clone();
        }
    }
    let lacking =
        missing(&PolicyRule::list(&present["rules"]), &PolicyRule::list(&wanted["rules"]));
    let rules = compact(lacking).into_iter().map(|rule| rule.to_value());
    extend(&mut new, "rules", rules);
    let is_known = |subject: &&Value| {
        let same = |known: &Value| {
            ["kind", "name", "namespace"].iter().all(|part| known[part] == subject[part])
        };
        present["subjects"].as_array().is_some_and(|known| known.iter().any(same))
    };
    let subjects = wanted["subjects"].as_array().into_iter().flatten();
    extend(&mut new, "subjects", subjects.filter(|subject| !is_known(subject)).cloned());
    if !wanted["aggregationRule"].is_null() && present["aggregationRule"].is_null() {
        new["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    (new != *present).then_some(new)
}

fn extend(object: &mut Value, name: &str, more: impl Iterator<Item = Value>) {
    let more: Vec<Value> = more.collect();
    if more.is_empty() {
        return;
    }
    match object[name].as_array_mut() {
        Some(items) => items.extend(more),
        None => object[name] = more.into(),
    }
}

/// What `policy.txt` says, as objects by name.
struct Policy {
    roles: BTreeMap<String, Value>,
    bindings: BTreeMap<String, Value>,
}

impl Policy {
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
const CLUSTER_ROLES: Kind = (RBAC_GROUP, "clusterroles");
const CLUSTER_BINDINGS: Kind = (RBAC_GROUP, "clusterrolebindings");
const LABELS: &str = "rbac.authorization.k8s.io/";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
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

    #[test]
    fn what_people_added_stays_and_what_is_missing_comes_back() {
        let wanted = json!({
            "metadata": metadata(&[]),
            "rules": [rule("get,list", &["core", "pods"])],
            "subjects": [subject("User:a")],
        });
        let mut present = wanted.clone();
        assert_eq!(completed(&present, &wanted), None);
        present["rules"] = json!([rule("get", &["core", "pods"]), rule("get", &["x", "y"])]);
        present["subjects"] = json!([subject("User:b")]);
        let new = completed(&present, &wanted).unwrap();
        assert_eq!(new["rules"].as_array().map(Vec::len), Some(3));
        assert_eq!(new["subjects"].as_array().map(Vec::len), Some(2));
        present["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(completed(&present, &wanted), None);
    }
}
