//! `attach` over `v5.channel.k8s.io` and `v4.channel.k8s.io`: the streams of a container that
//! runs already.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use futures::StreamExt;
use futures::stream::SplitStream;
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::json;

use super::Body;
use super::channel::{self, ERROR, PROTOCOLS, RESIZE, STDIN, Sent, Socket};
use super::query::Query;
use crate::kubelet::console::Console;
use crate::kubelet::container::Runner;
use crate::kubelet::streams::Wanted;

/// Agrees to attach to a container.
///
/// # Errors
/// In the words that kubectl shows.
pub(super) fn serve(
    runner: &Runner,
    request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, String> {
    let spec = &runner.spec;
    let console =
        runner.console().ok_or_else(|| format!("container not found ({:?})", spec.name))?;
    let mut wanted = query.streams();
    wanted.stdin &= spec.stdin;
    let once = spec.stdin_once && !spec.tty;
    let protocol = channel::subprotocol(request.headers(), &PROTOCOLS)
        .ok_or("the lab's kubelet attaches over WebSocket only (v5.channel.k8s.io)")?;
    channel::upgrade(request, protocol, move |socket| attach(console, wanted, once, socket))
}

/// Passes everything on until the container's streams end, or the client leaves.
async fn attach(console: Rc<Console>, wanted: Wanted, once: bool, socket: Socket) {
    let (mut to, from) = socket.split();
    let mut pieces = console.follow();
    let mut leaving = std::pin::pin!(listen(&console, wanted, once, from));
    loop {
        let (stream, piece) = tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => piece,
                None => break,
            },
            () = &mut leaving => break,
        };
        let is_wanted = if stream == channel::STDERR { wanted.stderr } else { wanted.stdout };
        if is_wanted && !channel::send(&mut to, stream, &piece).await {
            break;
        }
    }
    drop(pieces);
    // The client may have gone: then nobody wants to know.
    let success = json!({"metadata": {}, "status": "Success"});
    if channel::send(&mut to, ERROR, success.to_string().as_bytes()).await {
        channel::close(&mut to).await;
    }
}

/// Takes what the client types, until it wants no more of the container. A stdin that is there
/// `once` ends with its first client, who goes on hearing what the container writes; any other
/// stays open for the next, and the client is let go (containerd, `ContainerIO.Attach`).
async fn listen(console: &Console, wanted: Wanted, once: bool, mut from: SplitStream<Socket>) {
    let terminal: Option<Rc<OwnedFd>> = console.terminal();
    while let Some(sent) = channel::receive(&mut from).await {
        match sent {
            Sent::Data(STDIN, data) if wanted.stdin => console.write(&data).await,
            Sent::Closed(STDIN) if wanted.stdin && once => console.close_stdin().await,
            Sent::Closed(STDIN) if wanted.stdin => return,
            Sent::Data(RESIZE, data) => channel::resize(terminal.as_deref(), &data),
            Sent::Data(..) | Sent::Closed(_) => {}
        }
    }
    if wanted.stdin && once {
        console.close_stdin().await;
    }
}
