//! Mode `Node`: what kubelets may do (upstream `plugin/pkg/auth/authorizer/node`). A node reads
//! the Secrets and ConfigMaps of the pods that run on it and no others.

use std::sync::Arc;

use serde_json::Value;

use super::attributes::{Asked, Attributes, Decision, Resource};
use super::policy;
use super::rule::PolicyRule;
use crate::api::User;
use crate::resources::Resources;
use crate::store::Store;

/// Answers for users `system:node:NAME` in group `system:nodes`.
pub(super) struct NodeView {
    store: Arc<Store>,
    pods: Option<usize>,
    /// What every node may do: the rules of ClusterRole `system:node`.
    rules: Vec<PolicyRule>,
}

impl NodeView {
    pub(super) fn new(store: Arc<Store>, resources: &Resources) -> Self {
        let pods = resources.find("", "pods").map(|kind| resources.number(&kind));
        Self { store, pods, rules: policy::rules_of_role("system:node") }
    }

    /// May this be? Of those who are no nodes this knows nothing, and allows nothing.
    pub(super) fn decide(&self, request: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(request.user) else { return Decision::no("") };
        if let Asked::Resource(resource) = &request.asked
            && let Some(why_not) = self.refusal(node, request.verb, resource)
        {
            return Decision::no(why_not);
        }
        match self.rules.iter().any(|rule| rule.allows(request)) {
            true => Decision::allow(""),
            false => Decision::no(""),
        }
    }

    /// Why the node may not touch this resource, whatever the common rules say.
    fn refusal(&self, node: &str, verb: &str, resource: &Resource<'_>) -> Option<String> {
        let relation = match (resource.group, resource.resource, resource.subresource) {
            ("", "secrets" | "configmaps", "") => {
                let kind = resource.resource;
                let reads = matches!(verb, "get" | "list" | "watch");
                if !reads || resource.name.is_empty() {
                    return Some("can only read namespaced object of this type".to_owned());
                }
                self.some_pod(node, resource.namespace, |pod| mentions(pod, kind, resource.name))
            }
            ("", "serviceaccounts", "token") => {
                let account = resource.name;
                self.some_pod(node, resource.namespace, |pod| {
                    pod["spec"]["serviceAccountName"] == account
                })
            }
            // Upstream leaves the next two to admission plugin NodeRestriction.
            ("", "nodes", "" | "status") if matches!(verb, "update" | "patch" | "delete") => {
                resource.name == node
            }
            ("", "pods", "" | "status" | "eviction")
                if matches!(verb, "update" | "patch" | "delete")
                    || resource.subresource == "eviction" =>
            {
                self.some_pod(node, resource.namespace, |pod| {
                    pod["metadata"]["name"] == resource.name
                })
            }
            ("coordination.k8s.io", "leases", _) => {
                resource.namespace == "kube-node-lease"
                    && (verb == "create" || resource.name == node)
            }
            _ => return None,
        };
        let why = "no relationship found between node and this object";
        (!relation).then(|| format!("{why}: node '{node}'"))
    }

    /// Whether a pod of this node in this Namespace fulfils the condition.
    fn some_pod(&self, node: &str, namespace: &str, is: impl Fn(&Value) -> bool) -> bool {
        let Some(pods) = self.pods else { return false };
        let listing = self.store.list(pods, &format!("{namespace}/"));
        listing.objects.into_iter().any(|(_, record)| {
            let pod = record.value();
            pod["spec"]["nodeName"] == node && is(&pod)
        })
    }
}

/// The name of the node that a user is.
pub(super) fn node_of(user: &User) -> Option<&str> {
    let is_node = user.groups.iter().any(|group| group == "system:nodes");
    user.name.strip_prefix("system:node:").filter(|name| is_node && !name.is_empty())
}

/// Whether a pod names this Secret or ConfigMap anywhere in its spec.
fn mentions(pod: &Value, plural: &str, name: &str) -> bool {
    let (keys, pulls): (&[&str], bool) = match plural {
        "secrets" => (&["secret", "secretRef", "secretKeyRef"], true),
        _ => (&["configMap", "configMapRef", "configMapKeyRef"], false),
    };
    let pull_secrets = pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten();
    (pulls && pull_secrets.into_iter().any(|secret| secret["name"] == name))
        || names(&pod["spec"], keys, name)
}

/// Whether below any of these keys the name stands, as `name` or `secretName`.
fn names(value: &Value, keys: &[&str], name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, keys, name)),
        Value::Object(fields) => fields.iter().any(|(key, below)| {
            let is_it = keys.contains(&key.as_str())
                && (below["name"] == name || below["secretName"] == name);
            is_it || names(below, keys, name)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_where_pods_have_them() {
        let pod = json!({ "spec": {
            "imagePullSecrets": [{ "name": "pull" }],
            "volumes": [
                { "secret": { "secretName": "volume" } },
                { "projected": { "sources": [{ "configMap": { "name": "map" } }] } },
            ],
            "containers": [{
                "env": [{ "valueFrom": { "secretKeyRef": { "name": "env", "key": "k" } } }],
                "envFrom": [{ "configMapRef": { "name": "all" } }],
            }],
        }});
        for name in ["pull", "volume", "env"] {
            assert!(mentions(&pod, "secrets", name), "{name}");
            assert!(!mentions(&pod, "configmaps", name), "{name}");
        }
        for name in ["map", "all"] {
            assert!(mentions(&pod, "configmaps", name), "{name}");
        }
        assert!(!mentions(&pod, "secrets", "k"));
    }

    #[test]
    fn a_node_is_a_user_of_its_name_in_its_group() {
        let user = |name: &str, groups: &[&str]| User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        assert_eq!(node_of(&user("system:node:n1", &["system:nodes"])), Some("n1"));
        assert_eq!(node_of(&user("system:node:n1", &[])), None);
        assert_eq!(node_of(&user("n1", &["system:nodes"])), None);
    }
}
