//! A running server and a plain HTTPS client for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portolan_apiserver::config::ApiserverConfig;
use portolan_apiserver::run::{RunError, run};
use portolan_apiserver::tls::{CertKey, Pki, client_config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server on a free port of loopback.
pub(crate) struct TestServer {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) pki: Pki,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), RunError>>,
}

impl TestServer {
    /// With two static tokens: `T` (administrator) and `U` (user `somebody`).
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ApiserverConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, "T,admin,1,\"system:masters\"\nU,somebody,2\n").unwrap();
        let mut config = ApiserverConfig::new(folder.path().join("state"));
        config.secure_port = 0;
        config.advertise_address = Some("192.0.2.10".parse().unwrap());
        config.token_auth_file = Some(tokens);
        config.kubelet_preferred_address_types = vec!["InternalIP".to_owned()];
        change(&mut config);
        let pki = Pki::open(config.state_dir.join("pki")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let serving = tokio::spawn(run(
            config,
            async {
                let _ = stopped.await;
            },
            move |addresses| ready.send(addresses[0]).unwrap(),
        ));
        let Ok(address) = is_ready.await else {
            panic!("the server did not start: {:?}", serving.await);
        };
        Self { folder, address, pki, stop, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Ends the server and waits for it.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.serving).await;
        ended.expect("the server ends in time").unwrap().unwrap();
        self.folder
    }

    /// A connection, with a client certificate if one is given.
    pub(crate) async fn connect(&self, own: Option<&CertKey>) -> SendRequest<Full<Bytes>> {
        let config = client_config(self.pki.ca_pem(), own).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = self.address.ip().into();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A TLS connection without anything on it, for this protocol.
    pub(crate) async fn raw(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut config = client_config(self.pki.ca_pem(), None).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = self.address.ip().into();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Sends one request with these headers, on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.connect(None).await.send_request(request).await.unwrap()
    }

    /// The same, as the administrator, and the whole answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let headers: Vec<_> =
            [("authorization", "Bearer T")].iter().chain(headers).copied().collect();
        let response = self.send(method, path, &headers, body).await;
        whole(response).await
    }

    /// The same, with JSON on both sides.
    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (code, _, answer) =
            self.ask(method, path, &[("content-type", content_type)], body).await;
        (code, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}

/// The whole answer.
pub(crate) async fn whole(response: Response<Incoming>) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

/// The lines of a streamed answer, as they come.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next line as JSON; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let next = async {
            loop {
                if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                let frame = self.body.frame().await?.unwrap();
                self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a line comes in time")
    }
}
