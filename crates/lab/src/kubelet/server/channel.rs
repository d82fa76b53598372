//! The channels of `v5.channel.k8s.io`: binary WebSocket messages whose first byte is the channel
//! (`k8s.io/apimachinery/pkg/util/remotecommand`).

use std::os::fd::OwnedFd;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Body, switching};
pub(super) use crate::kubelet::streams::STDERR;
use crate::terminal::{self, Size};

/// The subprotocols for the streams of a command, the best first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Channel numbers, beside those of the output (`kubelet::streams`).
pub(super) const STDIN: u8 = 0;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// v5: the client closes the channel whose number follows.
const CLOSE: u8 = 255;

/// A WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a client sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// Bytes on a channel.
    Data(u8, Vec<u8>),
    /// Nothing more on this channel.
    Closed(u8),
}

/// The first of our subprotocols that the client offers.
pub(super) fn subprotocol(headers: &HeaderMap, ours: &[&'static str]) -> Option<&'static str> {
    let offered =
        headers.get_all("sec-websocket-protocol").iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).collect();
    ours.iter().copied().find(|name| offered.contains(name))
}

/// Agrees to a WebSocket, and runs `work` over it once the answer is out.
///
/// # Errors
/// When the request is not a WebSocket handshake.
pub(super) fn upgrade<F: Future<Output = ()> + 'static>(
    mut request: Request<Incoming>,
    protocol: &'static str,
    work: impl FnOnce(Socket) -> F + 'static,
) -> Result<Response<Body>, String> {
    let key = request
        .headers()
        .get("sec-websocket-key")
        .ok_or("a WebSocket handshake needs Sec-WebSocket-Key")?;
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        match upgraded.await {
            Ok(upgraded) => {
                work(
                    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None)
                        .await,
                )
                .await
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a client left during the handshake"
            ),
        }
    });
    switching(
        "websocket",
        &[("sec-websocket-accept", accept), ("sec-websocket-protocol", protocol.to_owned())],
    )
}

/// The next thing a client sends; `None` when it has gone.
pub(super) async fn receive(from: &mut SplitStream<Socket>) -> Option<Sent> {
    loop {
        match from.next().await?.ok()? {
            Message::Binary(bytes) => match bytes[..] {
                [CLOSE, channel] => return Some(Sent::Closed(channel)),
                [channel, ref data @ ..] => return Some(Sent::Data(channel, data.to_vec())),
                [] => {}
            },
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// Gives a terminal the size that came on channel [`RESIZE`]: `{"Width": 80, "Height": 24}`.
pub(super) fn resize(terminal: Option<&OwnedFd>, data: &[u8]) {
    if let (Some(terminal), Some(size)) = (terminal, parse_size(data)) {
        // Without its size it works as well.
        let _ = terminal::resize(terminal, size);
    }
}

fn parse_size(data: &[u8]) -> Option<Size> {
    let size: Value = serde_json::from_slice(data).ok()?;
    let number = |name: &str| size[name].as_u64().and_then(|number| u16::try_from(number).ok());
    Some(Size { columns: number("Width")?, rows: number("Height")? })
}

/// Sends bytes on a channel. False when the client has gone.
pub(super) async fn send(to: &mut SplitSink<Socket, Message>, channel: u8, data: &[u8]) -> bool {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend(data);
    to.send(Message::Binary(message.into())).await.is_ok()
}

/// Ends the conversation in order: without a code, clients take it for a failure.
pub(super) async fn close(to: &mut SplitSink<Socket, Message>) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    // The client may be the one that closed.
    let _ = to.send(Message::Close(Some(frame))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_order_of_subprotocols_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "sec-websocket-protocol",
            "v4.channel.k8s.io, v5.channel.k8s.io".parse().unwrap(),
        );
        assert_eq!(subprotocol(&headers, &PROTOCOLS), Some("v5.channel.k8s.io"));
        assert_eq!(subprotocol(&headers, &["x"]), None);
    }

    #[test]
    fn a_size_is_read() {
        assert_eq!(
            parse_size(br#"{"Width":80,"Height":24}"#),
            Some(Size { columns: 80, rows: 24 })
        );
        assert_eq!(parse_size(b"x"), None);
    }
}
