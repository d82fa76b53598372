//! A terminal as an asynchronous stream.

use std::fs::File;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Our end of a terminal, readable and writable without blocking.
#[derive(Debug)]
pub(crate) struct Tty(AsyncFd<File>);

impl Tty {
    /// Takes over our end.
    ///
    /// # Errors
    /// When the event loop cannot watch it.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        register(file).map(Self)
    }
}

#[expect(unsafe_code, reason = "the event loop watches a descriptor by its number")]
fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: the AsyncFd owns the file from here on, and nothing takes it out or replaces it, so
    // the descriptor stays open and the same until both are dropped together.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}

impl AsyncRead for Tty {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            if let Ok(result) =
                ready.try_io(|file| file.get_ref().read(buffer.initialize_unfilled()))
            {
                return Poll::Ready(result.map(|length| buffer.advance(length)));
            }
        }
    }
}

impl AsyncWrite for Tty {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
