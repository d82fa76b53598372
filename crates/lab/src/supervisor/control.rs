//! Serving `control.sock`.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use super::{Lab, exec, nodes, status};
use crate::control::{Reply, Request};
use crate::error::{LabError, chain};
use crate::passing;
use crate::state::failed;

/// The longest request, in bytes: the kernel's limit for arguments is 2 MiB.
const LONGEST: usize = 4 << 20;

/// Keeps the socket served until it is dropped.
#[derive(Debug)]
pub(super) struct Server(tokio::task::JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens the socket, for its owner only, and serves it.
pub(super) fn serve(lab: &Rc<Lab>) -> Result<Server, LabError> {
    let path = lab.state.control();
    let listener =
        UnixListener::bind(&path).map_err(|source| failed("listen on", &path, source))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| failed("protect", &path, source))?;
    let lab = lab.clone();
    Ok(Server(tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let lab = lab.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(error) = answer(&lab, Connection::new(stream)).await {
                            tracing::debug!(error = chain(&error), "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "could not accept a control connection")
                }
            }
        }
    })))
}

async fn answer(lab: &Rc<Lab>, mut connection: Connection) -> io::Result<()> {
    let Some(request) = connection.read().await? else {
        return Ok(());
    };
    let reply = match request {
        Request::Status => Reply::Status { status: Box::new(status::status(lab)) },
        Request::Watch => return watch(lab, connection).await,
        Request::Node { name, start } => done(nodes::set(lab, &name, start).await),
        Request::Exec { place, command, env, terminal } => {
            return run(lab, connection, &place, command, env, terminal).await;
        }
        Request::Signal { .. } => {
            Reply::Refused { message: "no command runs on this connection".to_owned() }
        }
        Request::Shutdown => {
            lab.end.notify_one();
            // The connection closes with the lab: that is the answer.
            return std::future::pending().await;
        }
    };
    connection.write(&reply).await
}

/// Sends the table now and whenever something in it but the memory has changed.
async fn watch(lab: &Lab, mut connection: Connection) -> io::Result<()> {
    let mut changes = lab.view.changes();
    let mut shown = None;
    loop {
        changes.borrow_and_update();
        let table = status::table(lab);
        if shown.as_ref() != Some(&table) {
            let status = Box::new(status::with_memory(table.clone()));
            connection.write(&Reply::Status { status }).await?;
            shown = Some(table);
        }
        tokio::select! {
            // The view lives as long as the lab.
            _ = changes.changed() => {}
            // Nothing more can be asked here: it is the end of the connection, or a mistake.
            _ = connection.read() => return Ok(()),
        }
    }
}

async fn run(
    lab: &Rc<Lab>,
    mut connection: Connection,
    place: &str,
    command: Vec<String>,
    env: Vec<(String, String)>,
    terminal: bool,
) -> io::Result<()> {
    let Ok(streams) = <[OwnedFd; 3]>::try_from(std::mem::take(&mut connection.passed)) else {
        let message = "exec needs stdin, stdout and stderr beside the request".to_owned();
        return connection.write(&Reply::Refused { message }).await;
    };
    let mut process = match exec::start(lab, place, command, env, terminal, streams).await {
        Ok(process) => process,
        Err(error) => return connection.write(&done(Err(error))).await,
    };
    loop {
        tokio::select! {
            exit = process.wait() => return connection.write(&Reply::Exited { code: exit.code }).await,
            request = connection.read() => match request {
                Ok(Some(Request::Signal { signal })) => {
                    if let Ok(signal) = Signal::try_from(signal) {
                        process.signal_group(signal);
                    }
                }
                Ok(Some(_)) => {}
                // The caller is gone: what it started goes too.
                Ok(None) | Err(_) => {
                    process.signal_group(Signal::SIGKILL);
                    process.wait().await;
                    return Ok(());
                }
            },
        }
    }
}

fn done(result: Result<(), LabError>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Refused { message: chain(&error) },
    }
}

/// A stream of JSON lines, with the descriptors that came along.
struct Connection {
    stream: UnixStream,
    text: Vec<u8>,
    passed: Vec<OwnedFd>,
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        Self { stream, text: Vec::new(), passed: Vec::new() }
    }

    /// The next request; `None` at the end. Safe to drop while it waits.
    async fn read(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.text.len() > LONGEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
            }
            let Self { stream, text, passed } = self;
            if passing::receive_async(stream, text, passed).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }
}
