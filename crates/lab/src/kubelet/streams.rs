//! Our ends of a process's standard streams: pipes, or a terminal.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

use crate::terminal;
use crate::tty::Tty;

/// Standard output: the number of its descriptor, and of its channel in `v5.channel.k8s.io`.
pub(crate) const STDOUT: u8 = 1;
/// Standard error, likewise.
pub(crate) const STDERR: u8 = 2;

/// Which streams a process gets; the others lead nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// One terminal in place of all three.
    pub(crate) terminal: bool,
}

/// Our ends.
pub(crate) struct Streams {
    pub(crate) stdin: Option<Box<dyn AsyncWrite + Unpin>>,
    /// What is written to [`STDOUT`] and [`STDERR`]. A terminal has the former only.
    pub(crate) output: Vec<(u8, Box<dyn AsyncRead + Unpin>)>,
    /// To be resized.
    pub(crate) terminal: Option<Rc<OwnedFd>>,
}

impl Streams {
    /// Makes both ends; the second are stdin, stdout and stderr of the process.
    ///
    /// # Errors
    /// Out of descriptors or terminals.
    pub(crate) fn make(wanted: Wanted) -> io::Result<(Self, [Stdio; 3])> {
        if wanted.terminal {
            return Self::terminal(wanted.stdin);
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

    fn terminal(stdin: bool) -> io::Result<(Self, [Stdio; 3])> {
        let (ours, theirs) = terminal::open()?;
        let reader = Tty::new(File::from(ours.try_clone()?))?;
        let writer = Tty::new(File::from(ours.try_clone()?))?;
        let streams = Self {
            stdin: stdin.then(|| Box::new(writer) as _),
            output: vec![(STDOUT, Box::new(reader))],
            terminal: Some(Rc::new(ours)),
        };
        Ok((streams, [theirs.try_clone()?.into(), theirs.try_clone()?.into(), theirs.into()]))
    }
}
