//! A lean client: one HTTPS connection, one request at a time, bodies as bytes.

use std::sync::Arc;

use apiserver::tls::client_config;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;

use crate::server::{Server, TOKEN};

/// A connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let config = client_config(&server.authority(), None).unwrap();
        let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = stream.peer_addr().unwrap().ip().into();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        // Ends with its connection, which ends when the server is killed.
        tokio::spawn(async move { drop(connection.await) });
        Self { sender, host: server.address.clone() }
    }

    /// Body of a successful answer.
    pub(crate) async fn get(&mut self, path: &str) -> Bytes {
        let (code, body) = whole(self.send("GET", path, "", String::new()).await).await;
        assert_eq!(code, 200, "GET {path}: {}", String::from_utf8_lossy(&body));
        body
    }

    pub(crate) async fn create(&mut self, path: &str, body: String) {
        let (code, body) = whole(self.send("POST", path, "application/json", body).await).await;
        assert_eq!(code, 201, "POST {path}: {}", String::from_utf8_lossy(&body));
    }

    pub(crate) async fn patch(&mut self, path: &str, body: &str) {
        let merge = "application/merge-patch+json";
        let (code, body) = whole(self.send("PATCH", path, merge, body.to_owned()).await).await;
        assert_eq!(code, 200, "PATCH {path}: {}", String::from_utf8_lossy(&body));
    }

    pub(crate) async fn watch(mut self, path: &str) -> Watch {
        let response = self.send("GET", path, "", String::new()).await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), _client: self }
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", format!("Bearer {TOKEN}"));
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        self.sender.ready().await.unwrap();
        self.sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }
}

/// The answer that goes on.
pub(crate) struct Watch {
    body: Incoming,
    _client: Client,
}

impl Watch {
    /// Until an event has come whole.
    pub(crate) async fn event(&mut self) {
        loop {
            let data = self.body.frame().await.unwrap().unwrap().into_data().unwrap();
            if data.ends_with(b"\n") {
                return;
            }
        }
    }
}

async fn whole(response: Response<Incoming>) -> (u16, Bytes) {
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes())
}
