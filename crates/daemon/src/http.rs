//! Small HTTP servers for health and metrics: GET in, text out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A client has this long to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections served at a time; more wait.
const CONNECTIONS: usize = 64;

/// An answer of a small server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// `Content-Type`.
    pub(crate) content_type: &'static str,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Body.
    pub(crate) body: String,
}

impl Answer {
    /// Plain text.
    pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// JSON.
    pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        let content_type = "application/json";
        Self { status, content_type, headers: Vec::new(), body: body.to_string() }
    }

    /// JSON that has been written already.
    pub(crate) fn json_text(body: String) -> Self {
        let content_type = "application/json";
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body }
    }

    /// Nothing is here.
    pub(crate) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// Answers requests by their path. Dropping it closes the port and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    _task: JoinSet<()>,
}

impl Server {
    /// Binds an address and serves it on the current runtime.
    pub(crate) fn start(
        address: SocketAddr,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::start_async(address, move |uri| std::future::ready(answer(uri.path())))
    }

    /// The same, where answers take time and may depend on the query.
    pub(crate) fn start_async<F, A>(address: SocketAddr, answer: F) -> std::io::Result<Self>
    where
        F: Fn(Uri) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::new(answer)));
        Ok(Self { _task: task })
    }
}

async fn accept<F, A>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(Uri) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&answer)));
                }
                // Out of descriptors: some will be free soon.
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<F, A>(stream: tokio::net::TcpStream, answer: Arc<F>)
where
    F: Fn(Uri) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.uri().clone());
        async move { Ok::<_, Infallible>(answer.await.into_response()) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a health or metrics client went away");
    }
}
