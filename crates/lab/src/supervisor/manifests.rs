//! What every lab holds: the cluster DNS. And how objects get into the API.

use cluster::{Client, RequestError};
use http::Method;
use serde_json::{Value, json};

use crate::config::AddressPlan;
use crate::error::{LabError, chain};

/// Who applies; the field manager of server-side apply.
const MANAGER: &str = "portolan-up";
/// The account to which deploy/rbac/dns.yaml gives its rights.
const DNS_ACCOUNT: &str = "portolan-dns";
/// Served kinds whose objects lie in no namespace.
const CLUSTER_SCOPED: [&str; 6] =
    ["Namespace", "Node", "ServiceCIDR", "IPAddress", "ClusterRole", "ClusterRoleBinding"];

/// The cluster DNS: a Deployment of one `portolan dns` behind the Service `kube-dns`, whose
/// addresses every pod's resolv.conf names. Its account may read what names are made of.
pub(crate) fn dns() -> Vec<Value> {
    let [v4, v6] = AddressPlan::dns();
    let labels = json!({"k8s-app": "kube-dns"});
    let metadata = |name: &str| json!({"name": name, "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}});
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": 53});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(DNS_ACCOUNT)}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata("kube-dns"),
            "spec": {
                "selector": labels, "clusterIP": v4.to_string(),
                "clusterIPs": [v4.to_string(), v6.to_string()],
                "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
                "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("cluster-dns"),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": DNS_ACCOUNT,
                        "dnsPolicy": "Default",
                        "containers": [dns_container()],
                    },
                },
            },
        }),
    ]
}

fn dns_container() -> Value {
    json!({
        "name": "dns",
        "image": "portolan/dns",
        "ports": [
            {"name": "dns", "protocol": "UDP", "containerPort": 53},
            {"name": "dns-tcp", "protocol": "TCP", "containerPort": 53},
        ],
        "readinessProbe": {"tcpSocket": {"port": 53}, "periodSeconds": 2},
    })
}

/// Applies objects in their order with server-side apply. An object in a namespace that is made
/// by an earlier one finds it there.
///
/// # Errors
/// Names the object and gives the server's words.
pub(crate) async fn apply(client: &Client, objects: &[Value]) -> Result<(), LabError> {
    for object in objects {
        apply_one(client, object).await.map_err(|error| LabError::Start {
            message: format!("could not apply {}: {}", title(object), chain(&error)),
        })?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &Value) -> Result<Value, RequestError> {
    let path = format!("{}?fieldManager={MANAGER}&force=true", path(object));
    client.exchange(Method::PATCH, &path, "application/apply-patch+yaml", Some(object)).await
}

/// `deployment default/web`.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let kind = text(&object["kind"]).to_lowercase();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", text(&metadata["name"])),
        None => format!("{kind} {}", text(&metadata["name"])),
    }
}

/// Where an object lives in the API. Resources of the served kinds are regular plurals.
fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let root =
        if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = plural(&kind);
    let name = text(&object["metadata"]["name"]);
    if CLUSTER_SCOPED.contains(&kind.as_str()) {
        return format!("{root}/{plural}/{name}");
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("{root}/namespaces/{namespace}/{plural}/{name}")
}

fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_str() {
        "endpoints" => lower,
        word if word.ends_with('s') => format!("{word}es"),
        _ => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_at_their_path() {
        for (object, expected) in [
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
                "/api/v1/namespaces/a",
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}}),
                "/apis/apps/v1/namespaces/b/deployments/a",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}}),
                "/api/v1/namespaces/default/endpoints/a",
            ),
            (
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.0.0.1"}}),
                "/apis/networking.k8s.io/v1/ipaddresses/10.0.0.1",
            ),
        ] {
            assert_eq!(path(&object), expected);
        }
    }
}
