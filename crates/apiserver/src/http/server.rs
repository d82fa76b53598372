//! What requests share, and where they come from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use super::inflight::Inflight;
use super::metrics::Metrics;
use crate::audit::Audit;
use crate::auth::{Authenticator, Certificate};
use crate::config::Limits;
use crate::proxy::Dialer;
use crate::registry::Registry;
use crate::tls::ClientAuthorities;

/// What all requests share.
pub(crate) struct Server {
    /// Objects.
    pub(crate) registry: Arc<Registry>,
    /// Users.
    pub(crate) authenticator: Authenticator,
    /// Authorities of client certificates.
    pub(crate) clients: ClientAuthorities,
    /// Connections to kubelets, pods and Services.
    pub(crate) dialer: Dialer,
    /// The audit log, if there is one.
    pub(crate) audit: Option<Arc<Audit>>,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Address and port for clients, as discovery tells them.
    pub(crate) advertised: SocketAddr,
    /// How much clients may use.
    pub(crate) limits: Limits,
    /// Requests that are being answered.
    pub(crate) inflight: Inflight,
    /// Turns true when the server ends: long answers end with it.
    pub(crate) draining: watch::Receiver<bool>,
}

impl Server {
    /// Whether there are as many watches as there may be.
    pub(crate) fn has_most_watches(&self) -> bool {
        usize::try_from(self.metrics.watches()).is_ok_and(|count| count >= self.limits.watches)
    }

    /// Done when the server ends.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.clone();
        async move {
            // An error means that the sender is gone: that is the end, too.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }
}

/// The other end of a connection.
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: IpAddr,
    /// What its certificate says.
    pub(crate) certificate: Certificate,
}
