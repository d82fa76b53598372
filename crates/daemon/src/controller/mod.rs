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

mod carry_out;
mod feed;
mod inventory;
mod key;
mod machine;
mod metrics;
mod pending;
mod queue;
mod run;
mod selection;
#[cfg(test)]
mod simulation;
mod slice_metrics;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use cluster::lease::Seat;
use hyper::StatusCode;
use plan::{AddressPool, ClusterCidrs};

use self::machine::Controller;
use self::metrics::Metrics;
use self::run::Loop;
pub use self::selection::{ControllerName, Selection, UnknownController};
use crate::connect;
use crate::http::{Answer, Server};

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Path of the kubeconfig; `None` looks for one, then for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Which controllers work.
    pub controllers: Selection,
    /// Addresses for Services of type LoadBalancer. Empty: this cluster has none to give.
    pub pool: AddressPool,
    /// Where nodes get their pod addresses from; `None` when they bring them.
    pub cluster_cidrs: Option<ClusterCidrs>,
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
    let metrics = Arc::new(Metrics::new());
    let _server = config.health_bind.map(|bind| serve(bind, &metrics)).transpose()?;
    let client = connect(config.kubeconfig.as_deref(), None).await?;
    tokio::pin!(shutdown);
    let mut held = match config.seat {
        Some(seat) => tokio::select! {
            held = seat.acquire(&client) => Some(held),
            () = &mut shutdown => return Ok(()),
        },
        None => None,
    };
    tracing::info!("controlling");
    let controller = Controller::new(config.controllers, config.pool, config.cluster_cidrs);
    let mut controllers = Loop::start(&client, controller, metrics);
    let lost = async {
        match &mut held {
            Some(held) => held.keep(&client).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = controllers.work() => {}
        () = lost => bail!("lost the lease that says who controls; another controller may run"),
        () = &mut shutdown => {}
    }
    drop(controllers);
    if let Some(held) = held {
        held.release(&client).await.context("give up the lease")?;
    }
    Ok(())
}

fn serve(bind: SocketAddr, metrics: &Arc<Metrics>) -> anyhow::Result<Server> {
    let metrics = Arc::clone(metrics);
    Server::start(bind, move |path| match path {
        "/healthz" | "/livez" => Answer::text(StatusCode::OK, "ok"),
        "/metrics" => Answer::text(StatusCode::OK, metrics.encode()),
        _ => Answer::not_found(),
    })
    .with_context(|| format!("serve health and metrics on {bind}; choose another address"))
}
