//! The health protocol of gRPC, over plain HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Web;
use crate::health::{self, ServingStatus};

/// Serves for ever, in a thread of its own.
pub(super) fn serve(web: &Arc<Web>, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let web = web.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .spawn(move || {
            runtime.block_on(async move {
                // The listener is fit for the runtime: it does not block.
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let web = web.clone();
                    let service = service_fn(move |request| answer(web.clone(), request));
                    let connection = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that breaks off is the client's to notice.
                    tokio::spawn(async move { drop(connection.await) });
                }
            });
        })
        .map(drop)
}

async fn answer(
    web: Arc<Web>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (message, status) = if request.uri().path() == health::CHECK {
        let body = Limited::new(request.into_body(), LONGEST).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        check(&web, health::parse_request(&body).as_deref())
    } else {
        (None, UNIMPLEMENTED)
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = message.map(health::response).unwrap_or_default();
    let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The server as a whole and `readiness` are as ready as it was told to be; `liveness` always is.
fn check(web: &Web, service: Option<&str>) -> (Option<ServingStatus>, &'static str) {
    match service {
        Some("liveness") => (Some(ServingStatus::Serving), OK),
        Some("" | "readiness") if web.is_ready() => (Some(ServingStatus::Serving), OK),
        Some("" | "readiness") => (Some(ServingStatus::NotServing), OK),
        Some(_) => (None, NOT_FOUND),
        None => (None, INVALID_ARGUMENT),
    }
}

/// The longest request that is read, in bytes.
const LONGEST: usize = 16 << 10;
/// Status codes of gRPC.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";
