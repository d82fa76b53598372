//! The kubelet's HTTPS server on port 10250: logs, exec, attach and port-forward, for the API server only.
//!
//! ```text
//!  GET /containerLogs/{namespace}/{pod}/{container}?follow&tailLines&...
//!  GET /exec/{namespace}/{pod}/{container}?command&input&output&error&tty      (WebSocket)
//!  GET /attach/{namespace}/{pod}/{container}?input&output&error&tty            (WebSocket)
//!  GET /portForward/{namespace}/{pod}                     (WebSocket or SPDY/3.1 upgrade)
//! ```

mod attach;
mod channel;
mod exec;
mod forward;
mod log;
mod query;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use apiserver::tls::{Pki, server_config};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use self::query::Query;
use super::node::PORT;
use super::{Kubelet, Node};
use crate::error::{LabError, chain};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Starts to serve.
///
/// # Errors
/// When the certificate cannot be made or the port is taken.
pub(super) fn start(kubelet: &Rc<Kubelet>, pki: &Pki) -> Result<AbortHandle, LabError> {
    let node = &kubelet.node;
    let acceptor = acceptor(node, pki)?;
    let listen =
        |source| LabError::System { action: "listen for the API server on a node", source };
    let any: SocketAddr = ([0; 16], PORT).into();
    let listener = node
        .config
        .namespace
        .listen(any)
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(listen)?;
    let kubelet = Rc::downgrade(kubelet);
    let task = tokio::task::spawn_local(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let Some(kubelet) = kubelet.upgrade() else { return };
            let acceptor = acceptor.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = serve(kubelet, acceptor, stream).await {
                    tracing::debug!(error, "a connection to the kubelet broke");
                }
            });
        }
    });
    Ok(task.abort_handle())
}

fn acceptor(node: &Node, pki: &Pki) -> Result<TlsAcceptor, LabError> {
    let said = |error: &dyn std::error::Error| LabError::Start { message: chain(error) };
    let name = &node.config.name;
    let mut names = vec![name.clone()];
    names.extend(node.addresses().iter().map(ToString::to_string));
    let own = pki.kept_server(&format!("kubelet-{name}"), &names).map_err(|error| said(&error))?;
    let mut config = server_config(&own, &[pki.ca_pem()]).map_err(|error| said(&error))?;
    // Upgrades are a matter of HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(
    kubelet: Rc<Kubelet>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), String> {
    let stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    // rustls has checked it against our authority, which signs no strangers.
    let known =
        stream.get_ref().1.peer_certificates().is_some_and(|certificates| !certificates.is_empty());
    let service = service_fn(|request| {
        let kubelet = kubelet.clone();
        async move {
            let answer = if known {
                answer(&kubelet, request).await
            } else {
                text(StatusCode::UNAUTHORIZED, "Unauthorized")
            };
            Ok::<_, Infallible>(answer)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(|error| chain(&error))
}

async fn answer(kubelet: &Rc<Kubelet>, request: Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET");
    }
    let uri = request.uri().clone();
    let query = Query::parse(uri.query().unwrap_or_default());
    let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
    let (kind, namespace, name, container) = match parts[..] {
        [kind, namespace, name] => (kind, namespace, name, None),
        [kind, namespace, name, container] => (kind, namespace, name, Some(container)),
        _ if uri.path() == "/healthz" => return text(StatusCode::OK, "ok"),
        _ => return text(StatusCode::NOT_FOUND, "404 page not found"),
    };
    let Some(pod) = kubelet.pod(namespace, name) else {
        return text(StatusCode::NOT_FOUND, &format!("pod \"{name}\" not found"));
    };
    if kind == "portForward" {
        return forward::serve(pod, request, &query)
            .unwrap_or_else(|error| text(StatusCode::BAD_REQUEST, &error));
    }
    let Some(runner) = pod.runner(container) else {
        let message =
            format!("container {} is not valid for pod {name}", container.unwrap_or_default());
        return text(StatusCode::BAD_REQUEST, &message);
    };
    let served = match kind {
        "containerLogs" => log::serve(&runner, name, &query),
        "exec" => exec::serve(pod, &runner, request, &query),
        "attach" => attach::serve(&runner, request, &query),
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "the lab's kubelet has logs, exec, attach and port-forward only",
            );
        }
    };
    served.unwrap_or_else(|error: String| text(StatusCode::BAD_REQUEST, &error))
}

fn text(code: StatusCode, text: &str) -> Response<Body> {
    let body =
        Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

/// `101 Switching Protocols`.
fn switching(protocol: &str, headers: &[(&'static str, String)]) -> Result<Response<Body>, String> {
    let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    let mut builder = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(http::header::CONNECTION, "Upgrade")
        .header(http::header::UPGRADE, protocol);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(empty).map_err(|error| error.to_string())
}
