//! `exec` over `v5.channel.k8s.io` and `v4.channel.k8s.io`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;

use futures::StreamExt;
use futures::stream::{SplitSink, SplitStream};
use http::{Request, Response};
use hyper::body::Incoming;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::Body;
use super::channel::{self, ERROR, RESIZE, STDERR, STDIN, STDOUT, Sent, Socket};
use super::query::Query;
use crate::kubelet::container::Runner;
use crate::kubelet::pod::Pod;
use crate::launch::Launch;
use crate::process::{Exit, Process};
use crate::terminal::{self, Size};
use crate::tty::Tty;

/// Pieces of output that may wait for a slow client.
const QUEUE: usize = 8;

/// What to run, and what of it is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    terminal: bool,
}

/// Our ends of the command's streams.
struct Streams {
    stdin: Option<Box<dyn AsyncWrite + Unpin>>,
    output: Vec<(u8, Box<dyn AsyncRead + Unpin>)>,
    terminal: Option<Rc<OwnedFd>>,
}

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
    let wanted = Wanted {
        command: query.all("command").map(str::to_owned).collect(),
        stdin: query.is_on("input"),
        stdout: query.is_on("output"),
        stderr: query.is_on("error"),
        terminal: query.is_on("tty"),
    };
    let launch =
        runner.enter().ok_or_else(|| format!("container not found ({:?})", runner.spec.name))?;
    let launch = launch.map_err(|error| error.to_string())?;
    let protocol =
        channel::subprotocol(request.headers(), &["v5.channel.k8s.io", "v4.channel.k8s.io"])
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
    let (streams, theirs) = Streams::make(&wanted).map_err(said)?;
    let mut env = launch.env;
    if wanted.terminal && !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let launch = Launch { program: wanted.command, terminal: wanted.terminal, env, ..launch };
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

impl Streams {
    fn make(wanted: &Wanted) -> std::io::Result<(Self, [Stdio; 3])> {
        if wanted.terminal {
            let (ours, theirs) = terminal::open()?;
            let (reader, writer) = (
                Tty::new(File::from(ours.try_clone()?))?,
                Tty::new(File::from(ours.try_clone()?))?,
            );
            let streams = Self {
                stdin: wanted.stdin.then(|| Box::new(writer) as _),
                output: vec![(STDOUT, Box::new(reader))],
                terminal: Some(Rc::new(ours)),
            };
            return Ok((
                streams,
                [theirs.try_clone()?.into(), theirs.try_clone()?.into(), theirs.into()],
            ));
        }
        let mut streams = Self { stdin: None, output: Vec::new(), terminal: None };
        let mut theirs = [Stdio::null(), Stdio::null(), Stdio::null()];
        if wanted.stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            streams.stdin = Some(Box::new(pipe::Sender::from_owned_fd(write)?));
            theirs[0] = read.into();
        }
        for (channel, is_wanted) in [(STDOUT, wanted.stdout), (STDERR, wanted.stderr)] {
            if is_wanted {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                streams.output.push((channel, Box::new(pipe::Receiver::from_owned_fd(read)?)));
                theirs[usize::from(channel)] = write.into();
            }
        }
        Ok((streams, theirs))
    }
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
            Sent::Data(RESIZE, data) => {
                if let (Some(terminal), Some(size)) = (&terminal, parse_size(&data)) {
                    let _ = terminal::resize(&**terminal, size);
                }
            }
            Sent::Data(..) | Sent::Closed(_) => {}
        }
    }
    process.signal_group(Signal::SIGKILL);
}

/// `{"Width": 80, "Height": 24}`.
fn parse_size(data: &[u8]) -> Option<Size> {
    let size: Value = serde_json::from_slice(data).ok()?;
    let number = |name: &str| size[name].as_u64().and_then(|number| u16::try_from(number).ok());
    Some(Size { columns: number("Width")?, rows: number("Height")? })
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

    #[test]
    fn a_size_is_read() {
        assert_eq!(
            parse_size(br#"{"Width":80,"Height":24}"#),
            Some(Size { columns: 80, rows: 24 })
        );
        assert_eq!(parse_size(b"x"), None);
    }
}
