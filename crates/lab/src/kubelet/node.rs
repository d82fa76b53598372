//! The Node object and its lease.

use std::rc::Rc;
use std::time::Duration;

use cluster::RequestError;
use http::Method;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use super::Node;
use super::status::now;
use crate::config::AddressPlan;
use crate::error::chain;

/// How long a node counts as alive after a renewal: kubelet's `nodeLeaseDurationSeconds`.
const LEASE: Duration = Duration::from_secs(40);
/// How often the lease is renewed: a quarter of its duration, as the kubelet does.
const RENEWAL: Duration = Duration::from_secs(10);
/// The pause after the API server did not answer.
const RETRY: Duration = Duration::from_millis(500);
/// The kubelet's port.
pub(super) const PORT: u16 = 10250;

/// Registers the node, then renews its lease for ever.
pub(super) async fn keep(node: Rc<Node>) {
    let uid = loop {
        match register(&node).await {
            Ok(uid) => break uid,
            Err(error) => {
                tracing::warn!(
                    node = node.config.name,
                    error = chain(&error),
                    "could not register the node"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let name = model::Name::new(node.config.name.as_str());
    loop {
        let pause = match node.config.client.renew_node_lease(&name, &uid, LEASE).await {
            Ok(()) => RENEWAL,
            Err(error) => {
                tracing::warn!(
                    node = node.config.name,
                    error = chain(&error),
                    "could not renew the lease"
                );
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Creates the Node or brings it up to date; its uid.
async fn register(node: &Node) -> Result<String, RequestError> {
    let client = &node.config.client;
    let path = format!("/api/v1/nodes/{}", node.config.name);
    let object = match client
        .exchange(Method::POST, "/api/v1/nodes", "application/json", Some(&object(node)))
        .await
    {
        Err(error) if error.is_conflict() => client.get(&path).await?,
        answer => answer?,
    };
    // Not a strategic patch: that merges addresses by their type and would keep one InternalIP.
    let patch = json!({"status": status(node)});
    client
        .exchange(
            Method::PATCH,
            &format!("{path}/status"),
            "application/merge-patch+json",
            Some(&patch),
        )
        .await?;
    Ok(object["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

fn object(node: &Node) -> Value {
    let name = &node.config.name;
    let [v4, v6] = AddressPlan::node_pods(node.config.index);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
            },
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"podCIDR": v4.to_string(), "podCIDRs": [v4.to_string(), v6.to_string()]},
        "status": status(node),
    })
}

fn status(node: &Node) -> Value {
    let addresses = node
        .addresses()
        .map(|address| json!({"type": "InternalIP", "address": address.to_string()}));
    let [v4, v6] = addresses;
    let host = uname();
    let text = |text: Option<&std::ffi::OsStr>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let capacity = capacity();
    let version = format!("v1.37.0-portolan.{}", env!("CARGO_PKG_VERSION"));
    json!({
        "addresses": [v4, v6, {"type": "Hostname", "address": node.config.name}],
        "capacity": capacity, "allocatable": capacity,
        "conditions": conditions(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": "portolan lab",
            "kernelVersion": host.as_ref().map(|host| text(Some(host.release()))).unwrap_or_default(),
            "containerRuntimeVersion": concat!("portolan://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": version, "kubeProxyVersion": "", "machineID": node.config.name,
            "systemUUID": node.config.name, "bootID": node.config.name,
        },
    })
}

fn conditions() -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now(), "lastTransitionTime": now(),
        })
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

/// The host's processors and memory: all nodes share them.
fn capacity() -> Value {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB").map(str::trim).map(str::to_owned)
    });
    json!({"cpu": processors.to_string(), "memory": format!("{}Ki", memory.unwrap_or_else(|| "0".to_owned())), "pods": "110"})
}

/// The processor architecture in Go's words, as labels want it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
