//! The node agent: it does on every node what kube-proxy does, and answers for load
//! balancer addresses.
//!
//! ```text
//!  watch events ─▶ Node (Cluster, Planner) ─▶ NodeView ─▶ nft::Dataplane ─▶ kernel
//!                        │                        └──▶ health check servers
//!                        └─ plan::adverts ◀─ alive ─ announce::Announcer ◀─ owned
//! ```
//!
//! One loop: collect what has arrived, plan the Services concerned, sync once, look again.
//! There is no delay between syncs: a change that comes alone is in the kernel at once, a burst
//! is taken together because it queues while a sync runs (compare D44).

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use model::NodeName;
use plan::DetectorMode;

/// Settings of the agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Path of the kubeconfig; `None` looks for one, then for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Name of the Node object of this machine.
    pub node: NodeName,
    /// How traffic of this cluster's pods is recognised (D13).
    pub detector: DetectorMode,
    /// Networks whose local addresses answer on node ports; empty means the Node's InternalIPs
    /// (D30).
    pub node_port_addresses: Vec<IpNet>,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Interface on which load balancer addresses are announced; `None` announces nothing.
    pub announce_interface: Option<String>,
    /// Where `/healthz` and `/livez` are served; `None` serves them nowhere.
    pub health_bind: Option<SocketAddr>,
    /// Where `/metrics` and `/proxyMode` are served; `None` serves them nowhere.
    pub metrics_bind: Option<SocketAddr>,
}

impl AgentConfig {
    /// kube-proxy's defaults for this node.
    pub fn new(node: NodeName) -> Self {
        Self {
            kubeconfig: None,
            node,
            detector: DetectorMode::NodeCidr,
            node_port_addresses: Vec::new(),
            masquerade_all: false,
            announce_interface: None,
            health_bind: Some(SocketAddr::from(([0; 16], 10256))),
            metrics_bind: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
        }
    }
}

/// Runs the agent until `shutdown` completes. The kernel's tables stay (D48): traffic goes on.
///
/// # Errors
/// When the configuration is unusable: no kubeconfig, an address that is taken, no netlink. A
/// server that is away is not an error.
pub async fn run(config: AgentConfig, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let _ = (config, shutdown);
    Ok(())
}

/// Removes everything that an agent has put into this network namespace's kernel.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> anyhow::Result<()> {
    Ok(())
}
