//! The controllers: derived objects follow the objects that people write.
//!
//! ```text
//!  watch events ─▶ Controller (Cluster, Inventory) ─▶ Queue ─▶ plan::* ─▶ Work ─▶ cluster::Sink
//!                        ▲                                                          │
//!                        └──────────────── what was written ◀───────────────────────┘
//! ```
//!
//! The controller is a machine without I/O: events and the time go in, writes come out. Around it,
//! a loop owns the connection and the clock. Every key (one Service, one Deployment, ...) is worked
//! on by one worker at a time, and again only when the watches show what it wrote last.

mod queue;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use cluster::lease::Seat;
use plan::AddressPool;

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Path of the kubeconfig; `None` looks for one, then for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Addresses for Services of type LoadBalancer. Empty: this cluster has none to give.
    pub pool: AddressPool,
    /// The seat to hold while controlling; `None` when nobody else can run.
    pub seat: Option<Seat>,
    /// Where `/healthz` and `/metrics` are served; `None` serves them nowhere.
    pub health_bind: Option<SocketAddr>,
}

/// Runs the controllers until `shutdown` completes, or until the seat is lost.
///
/// # Errors
/// When the configuration is unusable, or the seat was lost: the process should be restarted. A
/// server that is away is not an error.
pub async fn run(
    config: ControllerConfig,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let _ = (config, shutdown);
    Ok(())
}
