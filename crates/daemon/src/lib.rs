//! The two loops: the agent (Cluster to kernel) and the controller (Cluster to API).
//!
//! What it is: the shells that own the clock. [`agent`] runs on every node and keeps
//! the kernel and the announcer equal to the plan; [`controller`] runs once per cluster
//! and keeps derived objects equal to the plan.
//!
//! What it is not: it decides nothing (`plan` does) and encodes nothing (`nft`,
//! `announce` and `cluster` do).
//!
//! ```text
//!  agent:       cluster::source ─▶ Cluster ─▶ plan::Planner ─▶ nft::Dataplane
//!                                     └─────▶ plan::adverts ─▶ announce::Announcer
//!  controller:  cluster::source ─▶ Cluster ─▶ plan::slices, … ─▶ cluster::Sink
//! ```

pub mod agent;
mod clock;
pub mod controller;
pub mod dns;
mod http;

use std::path::Path;

/// Connects to the API server that the kubeconfig names, or to the one that can be found; `server` is
/// a URL that overrides where it is.
async fn connect(
    kubeconfig: Option<&Path>,
    server: Option<&str>,
) -> Result<cluster::Client, cluster::ConnectError> {
    match kubeconfig {
        Some(path) => cluster::Client::from_kubeconfig_at(path, server).await,
        None => cluster::Client::infer_at(server).await,
    }
}
