//! One HTTPS connection, one request at a time. Every failure is taken as the server's death.

use std::sync::Arc;

use apiserver::tls::client_config;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::server::{Server, TOKEN};

/// Path of the Services.
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";

/// A connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// The server is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Client {
    pub(crate) async fn connect(server: &Server) -> Result<Self, Gone> {
        let config = client_config(&server.authority, None).unwrap();
        let stream = tokio::net::TcpStream::connect(&server.address).await.map_err(gone)?;
        let name = stream.peer_addr().map_err(gone)?.ip().into();
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(gone)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        // Ends with its connection, which ends when the server is killed.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: server.address.clone() })
    }

    /// Code and object of an answer that has come whole.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), Gone> {
        let response = self.send(method, path, body).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(gone)?.to_bytes();
        Ok((code, serde_json::from_slice(&body).map_err(gone)?))
    }

    /// The head of an answer.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Response<Incoming>, Gone> {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", content_type)
            .body(Full::new(text.into()))
            .unwrap();
        self.sender.ready().await.map_err(gone)?;
        self.sender.send_request(request).await.map_err(gone)
    }
}

fn gone<E>(_error: E) -> Gone {
    Gone
}
