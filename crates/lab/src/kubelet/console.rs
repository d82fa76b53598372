//! Where a running container can be attached to: its stdin, its terminal, and what it writes,
//! which also goes to the log.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use super::logs::{self, Log};
use super::streams::{STDERR, Streams};

/// A piece of output: the stream's number, and the bytes.
pub(crate) type Piece = (u8, Bytes);

/// The streams of one run of a container.
pub(crate) struct Console {
    stdin: Mutex<Option<Box<dyn AsyncWrite + Unpin>>>,
    terminal: Option<Rc<OwnedFd>>,
    /// Whoever wants to know what is written from now on; of each stream that is still open.
    followers: RefCell<Vec<(u8, Vec<mpsc::Sender<Piece>>)>>,
}

impl Console {
    /// Begins to pass on what the container writes. The tasks end with its output.
    pub(crate) fn start(streams: Streams, log: &Log) -> (Rc<Self>, Vec<JoinHandle<()>>) {
        let Streams { stdin, output, terminal } = streams;
        let followers = output.iter().map(|(stream, _)| (*stream, Vec::new())).collect();
        let console = Rc::new(Self {
            stdin: Mutex::new(stdin),
            terminal,
            followers: RefCell::new(followers),
        });
        let tasks = output.into_iter().map(|(stream, from)| {
            let name = if stream == STDERR { "stderr" } else { "stdout" };
            let log = log.writer(name);
            tokio::task::spawn_local(console.clone().pass_on(stream, from, log))
        });
        let tasks = tasks.collect();
        (console, tasks)
    }

    /// Hears all output from now on, until the container's streams end. One that does not listen
    /// holds the container up, as in other runtimes.
    pub(crate) fn follow(&self) -> mpsc::Receiver<Piece> {
        let (send, receive) = mpsc::channel(QUEUE);
        for (_, followers) in &mut *self.followers.borrow_mut() {
            followers.push(send.clone());
        }
        receive
    }

    /// Types. What a container without stdin, or one that reads no more, is told is lost.
    pub(crate) async fn write(&self, data: &[u8]) {
        if let Some(stdin) = &mut *self.stdin.lock().await {
            // It reads no more; it may go on writing.
            let _ = stdin.write_all(data).await;
        }
    }

    /// The container reads to the end of its stdin.
    pub(crate) async fn close_stdin(&self) {
        drop(self.stdin.lock().await.take());
    }

    /// The container's terminal, if it has one.
    pub(crate) fn terminal(&self) -> Option<Rc<OwnedFd>> {
        self.terminal.clone()
    }

    async fn pass_on(
        self: Rc<Self>,
        stream: u8,
        mut from: Box<dyn AsyncRead + Unpin>,
        mut log: logs::Writer,
    ) {
        let mut piece = vec![0; PIECE];
        // A terminal whose last user has gone gives EIO, which is its end.
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            log.write(&piece[..length]);
            self.tell(stream, &piece[..length]).await;
        }
        log.finish();
        self.followers.borrow_mut().retain(|(open, _)| *open != stream);
    }

    async fn tell(&self, stream: u8, piece: &[u8]) {
        let mut followers = Vec::new();
        for (open, all) in &mut *self.followers.borrow_mut() {
            if *open == stream {
                all.retain(|follower| !follower.is_closed());
                followers.clone_from(all);
            }
        }
        if followers.is_empty() {
            return;
        }
        let piece = Bytes::copy_from_slice(piece);
        for follower in followers {
            // It may leave at any time.
            let _ = follower.send((stream, piece.clone())).await;
        }
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

/// Pieces of output that may wait for a slow follower.
const QUEUE: usize = 8;
/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;
