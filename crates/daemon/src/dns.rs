//! Cluster DNS: keeps the answers equal to the cluster.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::SourceOptions;
use dns::{Server, Settings, Zone};
use model::{Cluster, Kind};

use crate::connect;

/// What names are made of.
const KINDS: [Kind; 3] = [Kind::Service, Kind::EndpointSlice, Kind::Node];
/// Time to live of answers, as CoreDNS in Kubernetes gives.
const TTL: Duration = Duration::from_secs(5);

/// Settings of the DNS server.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Path of the kubeconfig; `None` looks for one, then for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// Where to answer, over UDP and TCP.
    pub binds: Vec<SocketAddr>,
    /// Where other names are asked for; `None` refuses them.
    pub upstream: Option<SocketAddr>,
}

/// Answers until `shutdown` completes.
///
/// # Errors
/// When the configuration is unusable or an address cannot be bound. A server that is away is not
/// an error.
pub async fn run(config: DnsConfig, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let client = connect(config.kubeconfig.as_deref(), None).await?;
    let settings = Settings { listen: config.binds, upstream: config.upstream, ttl: TTL };
    tokio::pin!(shutdown);
    let mut source = cluster::source(&client, &KINDS, SourceOptions::Everything);
    let mut cluster = Cluster::default();
    let zone = Arc::new(ArcSwap::from_pointee(Zone::new(&config.domain, &cluster)));
    let mut server = None;
    loop {
        let batch = tokio::select! {
            Some(batch) = source.next() => batch,
            () = &mut shutdown => break,
        };
        for change in batch.changes {
            cluster.apply(change);
        }
        if !cluster.is_complete(&KINDS) {
            continue;
        }
        zone.store(Arc::new(Zone::new(&config.domain, &cluster)));
        if server.is_none() {
            // Not earlier: a name that is merely not known yet must not be denied.
            server = Some(Server::start(settings.clone(), Arc::clone(&zone)).await?);
            tracing::info!(listen = ?settings.listen, domain = config.domain, "answering");
        }
    }
    if let Some(server) = server {
        server.stop().await;
    }
    Ok(())
}
