//! Listening: TLS, connections, their limits (L3) and their end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::serve::serve;
use super::server::{Peer, Server};
use crate::auth::{Certificate, user_of_certificate};

/// Serves a listener until the server ends; then lets open requests finish for a moment.
pub(crate) async fn listen(
    server: Arc<Server>,
    tls: TlsAcceptor,
    listener: TcpListener,
    limit: Arc<Semaphore>,
) {
    let mut connections = JoinSet::new();
    let mut drained = Box::pin(server.drained());
    loop {
        let permit = tokio::select! {
            () = &mut drained => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            permit = limit.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = &mut drained => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = peer.ip().to_canonical();
                connections.spawn(connection(server.clone(), tls.clone(), stream, peer, permit));
            }
            // Out of descriptors or memory, or the client gave up. Only time helps against the
            // former, and no event tells when there are descriptors again.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, finished).await.is_err() {
        tracing::warn!("some requests did not end in time; they are cut off");
    }
}

/// One connection from handshake to end. The permit counts it while it lives.
async fn connection(
    server: Arc<Server>,
    tls: TlsAcceptor,
    stream: TcpStream,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = set_options(&stream, server.limits.unacknowledged) {
        tracing::debug!(error = &error as &dyn std::error::Error, "cannot set socket options");
    }
    let limits = server.limits;
    let stream = match tokio::time::timeout(limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = match stream.get_ref().1.peer_certificates() {
        None | Some([]) => Certificate::None,
        Some([own, others @ ..]) => {
            let is_known = server.clients.verify(own, others);
            let user = is_known.then(|| user_of_certificate(own)).flatten();
            user.map_or(Certificate::Unknown, Certificate::Of)
        }
    };
    let peer = Arc::new(Peer { address, certificate });
    let drained = server.drained();
    let (asked, first) = oneshot::channel::<()>();
    let asked = Mutex::new(Some(asked));
    let service = service_fn(move |request: Request<Incoming>| {
        drop(asked.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(serve(server, peer, request).await) }
    });
    let builder = builder(&stream, limits.head);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let silent = async {
        if tokio::time::timeout(limits.head, first).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        // hyper's own timeouts begin with the first byte.
        () = silent => return,
        () = drained => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error as &dyn std::error::Error, "connection broke");
    }
}

/// HTTP/2 for those who asked for it in the handshake, else HTTP/1.1.
fn builder(stream: &TlsStream<TcpStream>, head: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => auto::Builder::new(TokioExecutor::new()).http2_only(),
        _ => auto::Builder::new(TokioExecutor::new()).http1_only(),
    };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER);
    builder
}

/// Small frames leave at once, and a client that is gone is noticed.
fn set_options(stream: &TcpStream, unacknowledged: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PING).with_interval(PING_ANSWER))
}

/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Bytes of one request's head, and of what waits to be sent on one HTTP/1 connection or HTTP/2
/// stream: a client that does not read holds no more than that.
const BUFFER: usize = 128 * 1024;
const HEADER_LIST: u32 = 128 * 1024;
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(15);
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// How long requests may still take when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
