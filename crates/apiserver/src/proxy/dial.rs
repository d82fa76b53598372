//! Connections to kubelets and to plain HTTP servers.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::status::{self, Failure};

use crate::http::reply::Body;

/// Knows how to reach kubelets.
pub(crate) struct Dialer {
    /// Trusts the kubelets' authority and shows the server's client certificate.
    pub(crate) tls: Arc<ClientConfig>,
    /// Trusts anybody: for `proxy` to `https:` names, as in the real server (semantics 1.12).
    pub(crate) unverified_tls: Arc<ClientConfig>,
    /// `--kubelet-preferred-address-types`.
    pub(crate) preferred: Vec<String>,
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// IP address or name.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Dialer {
    /// Where the kubelet of a Node listens.
    pub(crate) fn kubelet_of(&self, node: &Value) -> Result<Place, Failure> {
        let addresses = node["status"]["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        let host = self
            .preferred
            .iter()
            .find_map(|kind| addresses.iter().find(|address| address["type"] == kind.as_str()))
            .and_then(|address| address["address"].as_str())
            .ok_or_else(|| {
                status::internal(&format!(
                    "no preferred addresses found; known addresses: {}",
                    node["status"]["addresses"]
                ))
            })?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Ok(Place { host: host.to_owned(), port: port.unwrap_or(KUBELET_PORT) })
    }

    /// An HTTP connection over TLS to a kubelet.
    pub(crate) async fn kubelet(&self, place: &Place) -> Result<SendRequest<Body>, Failure> {
        over_tls(place, self.tls.clone()).await
    }

    /// An HTTP connection over TLS to whoever answers.
    pub(crate) async fn unverified(&self, place: &Place) -> Result<SendRequest<Body>, Failure> {
        over_tls(place, self.unverified_tls.clone()).await
    }

    /// A plain HTTP connection.
    pub(crate) async fn plain(&self, place: &Place) -> Result<SendRequest<Body>, Failure> {
        handshake_http(place, connect(place).await?).await
    }
}

async fn over_tls(place: &Place, tls: Arc<ClientConfig>) -> Result<SendRequest<Body>, Failure> {
    let name =
        ServerName::try_from(place.host.clone()).map_err(|error| unreachable(place, &error))?;
    let stream = connect(place).await?;
    let handshake = TlsConnector::from(tls).connect(name, stream);
    let stream = tokio::time::timeout(CONNECT, handshake)
        .await
        .map_err(|error| unreachable(place, &error))?
        .map_err(|error| unreachable(place, &error))?;
    handshake_http(place, stream).await
}

async fn connect(place: &Place) -> Result<TcpStream, Failure> {
    let connecting = TcpStream::connect((place.host.as_str(), place.port));
    let stream = tokio::time::timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| unreachable(place, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(place, &error))?;
    Ok(stream)
}

async fn handshake_http<S>(place: &Place, stream: S) -> Result<SendRequest<Body>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(place, &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = &error as &dyn Error, "connection to a backend broke");
        }
    });
    Ok(sender)
}

/// 500: the other side does not answer.
pub(super) fn unreachable(place: &Place, error: &dyn Error) -> Failure {
    let mut failure = status::untyped(format!("error dialing backend: dial tcp {place}: {error}"));
    failure.reason = "InternalError".to_owned();
    failure
}

/// Where kubelets listen unless their Node says otherwise.
const KUBELET_PORT: u16 = 10250;
const CONNECT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tls::{Pki, client_config, unverified_client_config};

    fn dialer(preferred: &[&str]) -> Dialer {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        Dialer {
            tls: Arc::new(client_config(pki.ca_pem(), None).unwrap()),
            unverified_tls: Arc::new(unverified_client_config().unwrap()),
            preferred: preferred.iter().map(|kind| (*kind).to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_preferred_address_is_taken() {
        let node = json!({ "status": {
            "addresses": [
                { "type": "Hostname", "address": "node1" },
                { "type": "InternalIP", "address": "172.30.0.11" },
                { "type": "InternalIP", "address": "fd00:30::11" },
            ],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10999 } },
        }});
        let place = dialer(&["InternalIP", "Hostname"]).kubelet_of(&node).unwrap();
        assert_eq!(place.to_string(), "172.30.0.11:10999");
        let place = dialer(&["ExternalIP", "Hostname"]).kubelet_of(&node).unwrap();
        assert_eq!(place.to_string(), "node1:10999");
    }

    #[test]
    fn a_node_without_addresses_cannot_be_reached() {
        let failure = dialer(&["InternalIP"]).kubelet_of(&json!({ "status": {} })).unwrap_err();
        assert_eq!(failure.code, 500);
    }

    #[test]
    fn an_ipv6_place_is_bracketed() {
        let place = Place { host: "fd00::1".to_owned(), port: 80 };
        assert_eq!(place.to_string(), "[fd00::1]:80");
    }
}
