//! The node agent: it does on every node what kube-proxy does, and answers for load
//! balancer addresses.
//!
//! ```text
//!  watch events ─▶ Node (Cluster, Planner) ─▶ NodeView ─▶ nft::Dataplane ─▶ kernel
//!                        │                        ├──▶ health check servers
//!                        │                        └──▶ report ─▶ /services
//!                        └─ plan::adverts ◀─ alive ─ announce::Announcer ◀─ owned
//! ```
//!
//! One loop: collect what has arrived, plan the Services concerned, sync once, look again.
//! There is no delay between syncs: a change that comes alone is in the kernel at once, a burst
//! is taken together because it queues while a sync runs (compare D44).

mod addresses;
mod alone;
mod announce;
mod api_metrics;
mod capabilities;
mod config;
pub mod counters;
mod descriptor;
pub mod dry_run;
mod firewall;
mod health;
mod health_check_ports;
mod lean;
mod leftovers;
mod loopback;
mod memory;
mod metrics;
mod no_local;
mod node;
mod notify;
mod pages;
mod process;
pub mod report;
mod run;
mod service_metrics;
mod settings;
mod succession;

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;
use nft::Dataplane;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::alone::Alone;
pub use self::config::{AgentConfig, Conntrack, Leftovers, NodePorts};
pub use self::firewall::PassChain;
use self::health::Health;
use self::metrics::Metrics;
use self::notify::Notify;
use self::pages::Pages;
use self::run::Loop;
use crate::connect;

/// Runs the agent until `shutdown` completes. The kernel's tables stay (D48): traffic goes on.
///
/// # Errors
/// When the configuration is unusable: no kubeconfig, an address that is taken, no netlink. A
/// server that is away is not an error.
pub async fn run(config: AgentConfig, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let health = Arc::new(Health::new(config.sync_period));
    let metrics = Arc::new(Metrics::new());
    let notify = Notify::from_env();
    raise_descriptor_limit();
    let mut warnings = capabilities::missing(&config);
    warnings.extend(initialize(&config));
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let (_pages, questions) = Pages::serve(&config, &health, &metrics)?;
    let client = connect(config.kubeconfig.as_deref(), config.server.as_deref()).await?;
    let client = client.observed(metrics.observer());
    tracing::info!(node = %config.node, "programming this node");
    notify.trouble("waits for the API server");
    let _alone = Alone::claim();
    let mut agent = Loop::start(config, &client, health, metrics, questions, notify)?;
    agent.warn(warnings);
    tokio::select! {
        worked = agent.work() => worked?,
        () = shutdown => {}
    }
    agent.stop().await;
    Ok(())
}

/// Each relayed connection, and each Service with a health check port, needs descriptors; more than
/// that is often the soft limit.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot raise RLIMIT_NOFILE");
    }
}

/// Sets what may need more rights than the agent has later: connection tracking (D41). Returns a line
/// for each setting that could not be made; Services work without.
pub fn initialize(config: &AgentConfig) -> Vec<String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let failures = nft::sysctl::tune(&config.conntrack.tuning(processors));
    let told = |failure: &nft::sysctl::NotSet| {
        let advice =
            "set it on the host, run once with --init-only as root, or ask for 0 to let it be";
        format!("{failure}: {} ({advice})", failure.source)
    };
    failures.iter().map(told).collect()
}

/// Removes everything that an agent has put into this network namespace's kernel. Needs no API
/// server.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> anyhow::Result<()> {
    if let Some(lack) = nft::missing().into_iter().find(|lack| *lack == nft::Missing::NetAdmin) {
        return Err(lack).context("remove our tables");
    }
    firewall::take_back_all()?;
    Ok(Dataplane::open(nft::Settings::default())?.cleanup()?)
}
