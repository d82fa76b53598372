//! `grpc`: the health protocol over plain HTTP/2 (KEP-2727).

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Asking;
use crate::error::chain;
use crate::health::{self, ServingStatus};
use crate::kubelet::spec::Grpc;

impl Asking<'_> {
    /// SERVING is a success; the words are those of the real kubelet (`pkg/probe/grpc`).
    pub(super) async fn grpc(&self, grpc: &Grpc) -> Result<(), String> {
        let to = self.target(&grpc.port.into(), None)?;
        let failed =
            |error: String| format!("error: failed to connect service at \"{to}\": {error}");
        let stream = self.connect(to).await.map_err(failed)?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(chain(&error)))?;
        let call = async {
            let request = request(
                &format!("http://{to}{}", health::CHECK),
                grpc.service.as_deref().unwrap_or_default(),
            )?;
            let response =
                sender.send_request(request).await.map_err(|error| failed(chain(&error)))?;
            let (head, body) = response.into_parts();
            refusal(&head.headers)?;
            let body = Limited::new(body, LONGEST).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?;
            if let Some(trailers) = body.trailers() {
                refusal(trailers)?;
            }
            Ok::<_, String>(health::parse_response(&body.to_bytes()))
        };
        let serving = tokio::select! {
            answered = call => answered?,
            Err(error) = connection => return Err(failed(chain(&error))),
        };
        match serving {
            Some(ServingStatus::Serving) => Ok(()),
            Some(other) => Err(format!("service unhealthy (responded with {:?})", other.name())),
            None => Err("error: health rpc probe failed: its answer is not gRPC".to_owned()),
        }
    }
}

fn request(uri: &str, service: &str) -> Result<Request<Full<Bytes>>, String> {
    Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::from(health::request(service)))
        .map_err(|error| error.to_string())
}

/// What `grpc-status` says, in headers or trailers.
fn refusal(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let message = text("grpc-message").unwrap_or_default();
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(UNIMPLEMENTED) => Err(format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {message}"
        )),
        Some(code) => Err(format!(
            "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
        )),
    }
}

/// Status code of gRPC.
const UNIMPLEMENTED: &str = "12";
/// As much of an answer as is read, in bytes.
const LONGEST: usize = 16 << 10;
