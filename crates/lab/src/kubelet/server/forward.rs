//! `portForward`: connections to a pod's ports over SPDY/3.1, which the client carries in
//! WebSocket messages (KEP-4006) or, older ones, in an upgraded HTTP connection.
//!
//! For each connection a client opens two streams with the same `requestid`: `error`, for words
//! about a failure, and then `data`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use spdy::{Event, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::channel;
use super::query::Query;
use super::{Body, switching};
use crate::kubelet::pod::Pod;
use crate::net::Namespace;

/// The WebSocket subprotocol of a tunnel.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The protocol inside an upgraded connection.
const PROTOCOL: &str = "portforward.k8s.io";
/// Pieces that may wait for a slow reader.
const QUEUE: usize = 16;

/// Agrees to forward ports.
///
/// # Errors
/// When the client speaks neither way.
pub(super) fn serve(
    pod: Rc<Pod>,
    mut request: Request<Incoming>,
    _query: &Query,
) -> Result<Response<Body>, String> {
    let namespace =
        pod.namespace().ok_or("unable to do port forwarding: the pod has no network")?;
    if channel::subprotocol(request.headers(), &[TUNNEL]).is_some() {
        return channel::upgrade(request, TUNNEL, move |socket| {
            tunnel(socket, Session::new(&pod, namespace))
        });
    }
    let asked = request
        .headers()
        .get(http::header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !asked.eq_ignore_ascii_case("SPDY/3.1") {
        return Err(format!(
            "the lab's kubelet forwards ports over {TUNNEL} and SPDY/3.1, not over {asked:?}"
        ));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let session = Session::new(&pod, namespace);
    tokio::task::spawn_local(async move {
        match upgraded.await {
            Ok(upgraded) => direct(TokioIo::new(upgraded), session).await,
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a client left during the upgrade"
            ),
        }
    });
    switching("SPDY/3.1", &[("x-stream-protocol-version", PROTOCOL.to_owned())])
}

async fn tunnel(socket: channel::Socket, session: Session) {
    let (mut to, mut from) = socket.split();
    let (send, receive) = mpsc::channel(QUEUE);
    let incoming = async move {
        while let Some(Ok(message)) = from.next().await {
            match message {
                Message::Binary(bytes) if send.send(bytes.to_vec()).await.is_err() => return,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let (answer, mut answers) = mpsc::channel::<Vec<u8>>(QUEUE);
    let outgoing = async move {
        while let Some(bytes) = answers.recv().await {
            if to.send(Message::Binary(bytes.into())).await.is_err() {
                return;
            }
        }
        channel::close(&mut to).await;
    };
    tokio::join!(incoming, session.run(receive, answer), outgoing);
}

async fn direct(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    session: Session,
) {
    let (mut from, mut to) = tokio::io::split(stream);
    let (send, receive) = mpsc::channel(QUEUE);
    let incoming = async move {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            if send.send(piece[..length].to_vec()).await.is_err() {
                return;
            }
        }
    };
    let (answer, mut answers) = mpsc::channel::<Vec<u8>>(QUEUE);
    let outgoing = async move {
        while let Some(bytes) = answers.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(incoming, session.run(receive, answer), outgoing);
}

/// What a forwarded connection wants to send.
struct Piece {
    stream: StreamId,
    data: Vec<u8>,
    end: bool,
}

/// All forwarded connections of one client.
struct Session {
    title: String,
    namespace: Namespace,
    connection: spdy::Connection,
    /// Error streams whose data stream has not come yet, by request id.
    waiting: BTreeMap<String, StreamId>,
    /// Where data of a stream goes; nothing once the client has ended it.
    open: BTreeMap<StreamId, mpsc::Sender<Vec<u8>>>,
}

impl Session {
    fn new(pod: &Pod, namespace: Namespace) -> Self {
        Self {
            title: pod.title(),
            namespace,
            connection: spdy::Connection::new(),
            waiting: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// Runs until the client has gone.
    async fn run(mut self, mut incoming: mpsc::Receiver<Vec<u8>>, answer: mpsc::Sender<Vec<u8>>) {
        let (send, mut pieces) = mpsc::channel::<Piece>(QUEUE);
        loop {
            tokio::select! {
                bytes = incoming.recv() => {
                    let Some(bytes) = bytes else { return };
                    let events = match self.connection.receive(&bytes) {
                        Ok(events) => events,
                        Err(error) => {
                            tracing::warn!(error = &error as &dyn std::error::Error, "a port-forward client broke the protocol");
                            return;
                        }
                    };
                    for event in events {
                        if let Some(bytes) = self.take(event, &send).await
                            && answer.send(bytes).await.is_err()
                        {
                            return;
                        }
                    }
                }
                Some(piece) = pieces.recv() => {
                    let bytes = self.connection.data(piece.stream, &piece.data, piece.end);
                    if answer.send(bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes what the client did; what to answer.
    async fn take(&mut self, event: Event, pieces: &mpsc::Sender<Piece>) -> Option<Vec<u8>> {
        match event {
            Event::Opened { stream, headers, .. } => Some(self.open(stream, &headers, pieces)),
            Event::Data { stream, data, end } => {
                if let Some(to) = self.open.get(&stream)
                    && !data.is_empty()
                {
                    // The pod may have closed its side.
                    let _ = to.send(data).await;
                }
                if end {
                    self.open.remove(&stream);
                }
                None
            }
            Event::Reset { stream } => {
                self.open.remove(&stream);
                None
            }
            Event::Answer(bytes) => Some(bytes),
            Event::GoAway => None,
        }
    }

    fn open(
        &mut self,
        stream: StreamId,
        headers: &spdy::Headers,
        pieces: &mpsc::Sender<Piece>,
    ) -> Vec<u8> {
        let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let request = header("requestid");
        match header("streamtype").as_str() {
            "error" => {
                self.waiting.insert(request, stream);
                self.connection.reply(stream)
            }
            "data" => {
                let (Some(error), Ok(port)) =
                    (self.waiting.remove(&request), header("port").parse())
                else {
                    return self.connection.reset(stream);
                };
                let (send, receive) = mpsc::channel(QUEUE);
                self.open.insert(stream, send);
                let forwarded = Forwarded {
                    title: self.title.clone(),
                    namespace: self.namespace.clone(),
                    port,
                    data: stream,
                    error,
                    pieces: pieces.clone(),
                };
                tokio::task::spawn_local(forwarded.carry(receive));
                self.connection.reply(stream)
            }
            _ => self.connection.reset(stream),
        }
    }
}

/// One forwarded connection.
struct Forwarded {
    title: String,
    namespace: Namespace,
    port: u16,
    data: StreamId,
    error: StreamId,
    pieces: mpsc::Sender<Piece>,
}

impl Forwarded {
    async fn carry(self, mut from_client: mpsc::Receiver<Vec<u8>>) {
        let said = match self.dial().await {
            Ok(pod) => {
                let (mut read, mut write) = pod.into_split();
                let to_pod = async {
                    while let Some(data) = from_client.recv().await {
                        if write.write_all(&data).await.is_err() {
                            break;
                        }
                    }
                    // A connection that is broken needs no end.
                    let _ = write.shutdown().await;
                };
                let to_client = async {
                    let mut piece = vec![0; 16 << 10];
                    while let Ok(length @ 1..) = read.read(&mut piece).await {
                        if !self.send(self.data, piece[..length].to_vec(), false).await {
                            return;
                        }
                    }
                    self.send(self.data, Vec::new(), true).await;
                };
                tokio::join!(to_pod, to_client);
                String::new()
            }
            Err(error) => {
                self.send(self.data, Vec::new(), true).await;
                format!("error forwarding port {} to pod {}: {error}", self.port, self.title)
            }
        };
        self.send(self.error, said.into_bytes(), true).await;
    }

    /// A port on the pod's own loopback, as the real thing.
    async fn dial(&self) -> std::io::Result<tokio::net::TcpStream> {
        let at = |address: IpAddr| self.namespace.connect(SocketAddr::new(address, self.port));
        match at(Ipv4Addr::LOCALHOST.into()).await {
            Ok(stream) => Ok(stream),
            Err(_) => at(Ipv6Addr::LOCALHOST.into()).await,
        }
    }

    async fn send(&self, stream: StreamId, data: Vec<u8>, end: bool) -> bool {
        self.pieces.send(Piece { stream, data, end }).await.is_ok()
    }
}
