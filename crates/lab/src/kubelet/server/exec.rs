//! `exec` over `v5.channel.k8s.io` and `v4.channel.k8s.io`.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use futures::StreamExt;
use futures::stream::{SplitSink, SplitStream};
use http::{Request, Response};
use hyper::body::Incoming;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::Body;
use super::channel::{self, ERROR, PROTOCOLS, RESIZE, STDIN, Sent, Socket};
use super::query::Query;
use crate::kubelet::container::Runner;
use crate::kubelet::pod::Pod;
use crate::kubelet::streams::{Streams, Wanted};
use crate::launch::Launch;
use crate::process::{Exit, Process};

/// Pieces of output that may wait for a slow client.
const QUEUE: usize = 8;

/// Agrees to run a command in a container.
///
/// # Errors
/// In the words that kubectl shows.
pub(super) fn serve(
    pod: Rc<Pod>,
    runner: &Runner,
    request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, String> {
    let program = query.all("command").map(str::to_owned).collect();
    let wanted = query.streams();
    let launch =
        runner.enter().ok_or_else(|| format!("container not found ({:?})", runner.spec.name))?;
    let launch = Launch { program, ..launch.map_err(|error| error.to_string())? };
    let protocol = channel::subprotocol(request.headers(), &PROTOCOLS)
        .ok_or("the lab's kubelet runs commands over WebSocket only (v5.channel.k8s.io)")?;
    channel::upgrade(request, protocol, move |socket| async move {
        let (mut to, from) = socket.split();
        let status = match run(&pod, launch, wanted, &mut to, from).await {
            Ok(exit) => exit_status(exit),
            Err(message) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": format!("error executing command in container: {message}"),
            }),
        };
        // The client may have gone: then nobody wants to know.
        if channel::send(&mut to, ERROR, status.to_string().as_bytes()).await {
            channel::close(&mut to).await;
        }
    })
}

async fn run(
    pod: &Pod,
    launch: Launch,
    wanted: Wanted,
    to: &mut SplitSink<Socket, Message>,
    from: SplitStream<Socket>,
) -> Result<Exit, String> {
    let said = |error: std::io::Error| error.to_string();
    let (streams, theirs) = Streams::make(wanted).map_err(said)?;
    let mut env = launch.env;
    if wanted.terminal && !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let launch = Launch { terminal: wanted.terminal, env, ..launch };
    let [stdin, stdout, stderr] = theirs;
    let (mut process, started) = pod
        .children()
        .launch(launch, |command| {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        })
        .map_err(said)?;
    started.wait().await?;
    let (send, mut pieces) = mpsc::channel(QUEUE);
    for (channel, stream) in streams.output {
        tokio::task::spawn_local(read(channel, stream, send.clone()));
    }
    drop(send);
    let input =
        tokio::task::spawn_local(write(from, streams.stdin, streams.terminal, process.clone()));
    while let Some((channel, piece)) = pieces.recv().await {
        if !channel::send(to, channel, &piece).await {
            process.signal_group(Signal::SIGKILL);
            break;
        }
    }
    let exit = process.wait().await;
    input.abort();
    Ok(exit)
}

async fn read(channel: u8, mut from: Box<dyn AsyncRead + Unpin>, to: mpsc::Sender<(u8, Vec<u8>)>) {
    let mut piece = vec![0; 16 << 10];
    // A terminal whose last user has gone gives EIO, which is its end.
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if to.send((channel, piece[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Passes on what the client types, until it has gone: then the command must end.
async fn write(
    mut from: SplitStream<Socket>,
    mut stdin: Option<Box<dyn AsyncWrite + Unpin>>,
    terminal: Option<Rc<OwnedFd>>,
    process: Process,
) {
    while let Some(sent) = channel::receive(&mut from).await {
        match sent {
            Sent::Data(STDIN, data) => {
                if let Some(stdin) = &mut stdin
                    && stdin.write_all(&data).await.is_err()
                {
                    // The command reads no more; it may go on writing.
                }
            }
            Sent::Closed(STDIN) => stdin = None,
            Sent::Data(RESIZE, data) => channel::resize(terminal.as_deref(), &data),
            Sent::Data(..) | Sent::Closed(_) => {}
        }
    }
    process.signal_group(Signal::SIGKILL);
}

/// The `Status` that ends an exec; kubectl takes the exit code from it.
fn exit_status(exit: Exit) -> Value {
    if exit.code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {}", exit.code),
        "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_as_kubectl_wants_it() {
        assert_eq!(exit_status(Exit { code: 0, signal: None })["status"], "Success");
        let failed = exit_status(Exit { code: 7, signal: None });
        assert_eq!(failed["details"]["causes"][0]["message"], "7");
    }
}
