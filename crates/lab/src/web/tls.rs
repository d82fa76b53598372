//! TLS with a certificate that nobody else has signed, made anew at each start.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A stream inside TLS.
pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Makes a certificate for a name.
///
/// # Errors
/// For a name that cannot stand in a certificate.
pub(super) fn config(name: &str) -> io::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Takes a connection; the handshake happens when it is first read.
pub(super) fn accept(config: &Arc<ServerConfig>, stream: TcpStream) -> io::Result<Stream> {
    let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
