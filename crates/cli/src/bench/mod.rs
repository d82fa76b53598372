//! `bench agent`: the whole way from a write to the API to the first packet, with the shipped API
//! server and the shipped agent, in a network of their own.
//!
//! ```text
//!  bench ─ POST, PATCH ─▶ portolan apiserver ─ watch ─▶ portolan agent ─▶ nf_tables
//!    └─ connects to a cluster IP ─────────────────────────────────────────────┘
//! ```

mod cluster;
mod measure;
mod process;
mod table;

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, bail};
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use self::cluster::Cluster;
use self::process::{Apiserver, Running};
use crate::args::{BenchAgent, Output};
use crate::report;

/// The node's address.
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
/// Endpoints that answer; all others exist in the API only.
const ANSWERING: u8 = 16;

/// What one run has measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    services: u32,
    endpoints: u32,
    /// From the start of the process to the last Service in the kernel.
    start_seconds: f64,
    /// Of that, what came after the last object had arrived: planning and programming.
    after_arrival_seconds: f64,
    /// From the write of one endpoint to the first connection that reaches it, sorted.
    change_milliseconds: Vec<f64>,
    rss_after_start: u64,
    rss_peak: u64,
    /// To nf_tables, per change.
    bytes_per_change: f64,
    messages_per_change: f64,
}

/// `bench agent`.
pub(crate) fn agent(arguments: &BenchAgent) -> anyhow::Result<()> {
    if arguments.endpoints == 0 || arguments.changes == 0 || arguments.services.contains(&0) {
        bail!("there is nothing to measure with none of --services, --endpoints or --changes");
    }
    if cfg!(debug_assertions) {
        report::warning("this is a debug build: its figures say little");
    }
    let services: IpNet = Ipv4Net::new(Ipv4Addr::new(10, 96, 0, 0), 12)?.into();
    let mut addresses = vec![IpNet::from(IpAddr::from(NODE))];
    addresses.extend((0..ANSWERING).map(|number| IpNet::from(IpAddr::from(answering(number)))));
    // Before any thread exists.
    lab::net::alone(&addresses, &[services], NODE.into())?;
    measure::answer().context("listen for the endpoints' connections")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let mut all = Vec::new();
    for services in &arguments.services {
        all.push(runtime.block_on(run(*services, arguments))?);
    }
    match arguments.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&all).context("write the result as JSON")?;
            report::results(&format!("{text}\n"));
        }
        Output::Table => report::results(&table::results(&all)),
    }
    Ok(())
}

/// One size.
async fn run(services: u32, arguments: &BenchAgent) -> anyhow::Result<Measured> {
    let endpoints = arguments.endpoints;
    report::progress(&format!("{services} Services with {endpoints} endpoints each"));
    let server = Apiserver::start().await?;
    let cluster = Cluster::new(server.client().await?);
    let address = cluster.fill(services, endpoints).await?;
    report::progress("  the objects are stored; starting the agent");
    let mut agent = Running::agent(&server.kubeconfig)?;
    let started = measure::start(&mut agent, services).await?;
    let rss_after_start = agent.memory("VmRSS")?;
    report::progress("  the last Service is programmed; changing endpoints");
    let changes = measure::changes(&cluster, address, arguments.changes).await?;
    let rss_peak = agent.memory("VmHWM")?;
    Ok(Measured {
        services,
        endpoints,
        start_seconds: started.total.as_secs_f64(),
        after_arrival_seconds: started.after_arrival,
        change_milliseconds: changes.milliseconds,
        rss_after_start,
        rss_peak,
        bytes_per_change: changes.bytes,
        messages_per_change: changes.messages,
    })
}

/// An endpoint's address that answers.
fn answering(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, number + 1)
}
