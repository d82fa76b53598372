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

mod addresses;
mod announce;
mod health;
mod health_check_ports;
mod metrics;
mod node;
mod run;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hyper::StatusCode;
use ipnet::IpNet;
use model::NodeName;
use nft::Dataplane;
use plan::DetectorMode;

use self::health::Health;
use self::metrics::Metrics;
use self::run::Loop;
use crate::connect;
use crate::http::{Answer, Server};

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
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new());
    let _health_server =
        config.health_bind.map(|bind| serve_health(bind, &health, &metrics)).transpose()?;
    let _metrics_server =
        config.metrics_bind.map(|bind| serve_metrics(bind, &health, &metrics)).transpose()?;
    let client = connect(config.kubeconfig.as_deref()).await?;
    tracing::info!(node = %config.node, "programming this node");
    let mut agent = Loop::start(config, &client, health, metrics)?;
    tokio::select! {
        worked = agent.work() => worked?,
        () = shutdown => {}
    }
    agent.stop().await;
    Ok(())
}

/// Removes everything that an agent has put into this network namespace's kernel.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> anyhow::Result<()> {
    Ok(Dataplane::open(nft::Settings::default())?.cleanup()?)
}

fn serve_health(
    bind: SocketAddr,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Server> {
    let (health, metrics) = (Arc::clone(health), Arc::clone(metrics));
    Server::start(bind, move |path| probe(path, &health, &metrics))
        .with_context(|| format!("serve health on {bind}; choose another --healthz-bind-address"))
}

fn probe(path: &str, health: &Health, metrics: &Metrics) -> Answer {
    match path {
        "/healthz" => {
            let answer = health.healthz();
            metrics.healthz(answer.status);
            answer
        }
        "/livez" => {
            let answer = health.livez();
            metrics.livez(answer.status);
            answer
        }
        _ => Answer::not_found(),
    }
}

fn serve_metrics(
    bind: SocketAddr,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Server> {
    let (health, metrics) = (Arc::clone(health), Arc::clone(metrics));
    Server::start(bind, move |path| match path {
        "/metrics" => Answer::text(StatusCode::OK, metrics.encode()),
        "/proxyMode" => Answer::text(StatusCode::OK, "nftables"),
        _ => probe(path, &health, &metrics),
    })
    .with_context(|| format!("serve metrics on {bind}; choose another --metrics-bind-address"))
}
