//! Commands that run until they are told to end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use daemon::controller::Selection;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Controller, Dns, NodeCidrs};

/// `controller`: the controllers.
pub(crate) fn controller(arguments: Controller) -> anyhow::Result<()> {
    let config = daemon::controller::ControllerConfig {
        kubeconfig: arguments.kubeconfig,
        controllers: Selection::of(&arguments.controllers, &[]).context("--controllers")?,
        pool: plan::AddressPool::from_networks(&arguments.pool),
        cluster_cidrs: cluster_cidrs(&arguments.node_cidrs)?,
        seat: if arguments.leader_elect { Some(seat()?) } else { None },
        health_bind: bind("healthz-bind-address", &arguments.healthz_bind_address)?,
    };
    serve(async |shutdown| daemon::controller::run(config, shutdown).await)
}

/// What nodes get their pod addresses from, when the controllers are to give them.
pub(super) fn cluster_cidrs(arguments: &NodeCidrs) -> anyhow::Result<Option<plan::ClusterCidrs>> {
    if !arguments.allocate_node_cidrs {
        return Ok(None);
    }
    if arguments.node_cidr_mask_size.is_some() && arguments.cluster_cidr.len() > 1 {
        bail!(
            "--node-cidr-mask-size is for one family: give --node-cidr-mask-size-ipv4 and \
             --node-cidr-mask-size-ipv6"
        );
    }
    let mask = |own: u8| arguments.node_cidr_mask_size.unwrap_or(own);
    let (v4, v6) = (arguments.node_cidr_mask_size_ipv4, arguments.node_cidr_mask_size_ipv6);
    plan::ClusterCidrs::new(&arguments.cluster_cidr, mask(v4), mask(v6))
        .map(Some)
        .context("--cluster-cidr")
}

/// `dns`: cluster DNS.
pub(crate) fn dns(arguments: Dns) -> anyhow::Result<()> {
    let config = daemon::dns::DnsConfig {
        kubeconfig: arguments.kubeconfig,
        domain: arguments.domain,
        binds: arguments.listen,
        upstream: arguments.upstream,
    };
    serve(async |shutdown| daemon::dns::run(config, shutdown).await)
}

/// Runs one loop on this thread until SIGINT or SIGTERM.
pub(super) fn serve(work: impl AsyncFnOnce(Shutdown) -> anyhow::Result<()>) -> anyhow::Result<()> {
    start_log("info");
    until_signal(work)
}

/// The same without starting the log.
pub(super) fn until_signal(
    work: impl AsyncFnOnce(Shutdown) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let shutdown: Shutdown = Box::pin(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        work(shutdown).await
    })
}

pub(super) type Shutdown = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Log lines go to stderr; PORTOLAN_LOG chooses what (such as `debug` or `portolan_daemon=trace`),
/// else the given level. What kube-rs says of requests and watches is said by `cluster`
/// as well.
pub(super) fn start_log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PORTOLAN_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(format!("{level},kube_client=off,kube_runtime=error"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

fn bind(flag: &str, text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).with_context(|| format!("--{flag} {text}: want ADDRESS:PORT or nothing"))
}

/// The Lease that controllers of one cluster compete for.
fn seat() -> anyhow::Result<cluster::lease::Seat> {
    Ok(cluster::lease::Seat {
        namespace: "kube-system".to_owned(),
        name: "portolan-controller".to_owned(),
        // Two processes of one host may run at the same time: the host's name is not enough.
        identity: format!("{}_{}", host_name()?, std::process::id()),
        duration: Duration::from_secs(15),
    })
}

pub(super) fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("read the host's name")?;
    let name = name.to_string_lossy().to_lowercase();
    if name.is_empty() {
        bail!("this host has no name: give --hostname-override");
    }
    Ok(name)
}
