//! Talking to a running lab, for the command line.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::control::{Reply, Request, Status};
use crate::error::LabError;
use crate::passing;
use crate::state::StateDir;
use crate::terminal;

/// A command to run in the lab.
#[derive(Clone, Debug)]
pub struct Exec {
    /// `client`, a node's name, or `pod/[NAMESPACE/]NAME`.
    pub place: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Runs a command in the lab with this process's stdin, stdout and stderr, and returns its exit
/// code (128 + signal number when a signal ended it). When stdin and stdout are a terminal, the
/// command gets a terminal of its own that follows the window's size. Without one, SIGINT,
/// SIGTERM and SIGHUP are passed on to the command.
///
/// # Errors
/// [`LabError::NotRunning`], [`LabError::Refused`] for a place or program that does not exist.
pub fn exec(state_dir: &Path, exec: &Exec) -> Result<i32, LabError> {
    let stream = connect(state_dir)?;
    let talk = |source| LabError::Control { action: "run a command through", source };
    let interactive =
        io::IsTerminal::is_terminal(&io::stdin()) && io::IsTerminal::is_terminal(&io::stdout());
    let request = Request::Exec {
        place: exec.place.clone(),
        command: exec.command.clone(),
        env: std::env::var("TERM").map(|term| vec![("TERM".to_owned(), term)]).unwrap_or_default(),
        terminal: interactive,
    };
    if !interactive {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        send(&stream, &request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).map_err(talk)?;
        return Session::new(stream, None).and_then(Session::run).map_err(talk)?.exit();
    }
    let (ours, theirs) = terminal::open().map_err(talk)?;
    send(&stream, &request, &[theirs.as_fd(); 3]).map_err(talk)?;
    drop(theirs);
    let raw = RawMode::enter().map_err(talk)?;
    let reply = Session::new(stream, Some(File::from(ours))).and_then(Session::run);
    drop(raw);
    reply.map_err(talk)?.exit()
}

/// Starts or stops a node. Stopping kills its agent, kubelet and pods and takes its links down.
///
/// # Errors
/// [`LabError::NotRunning`], [`LabError::Refused`] for an unknown node.
pub fn node(state_dir: &Path, name: &str, start: bool) -> Result<(), LabError> {
    ask(state_dir, &Request::Node { name: name.to_owned(), start })?.done()
}

/// The table of nodes and Services.
///
/// # Errors
/// [`LabError::NotRunning`].
pub fn status(state_dir: &Path) -> Result<Status, LabError> {
    match ask(state_dir, &Request::Status)? {
        Reply::Status { status } => Ok(*status),
        other => Err(other.unexpected()),
    }
}

/// Gives the table of nodes and Services, and again whenever something in it has changed, until the
/// lab ends.
///
/// # Errors
/// [`LabError::NotRunning`], and when the lab ends meanwhile.
pub fn watch(state_dir: &Path, mut show: impl FnMut(Status)) -> Result<Infallible, LabError> {
    let stream = connect(state_dir)?;
    let talk = |source| LabError::Control { action: "watch", source };
    send(&stream, &Request::Watch, &[]).map_err(talk)?;
    let mut replies = BufReader::new(stream);
    loop {
        match read(&mut replies).map_err(talk)? {
            Reply::Status { status } => show(*status),
            other => return Err(other.unexpected()),
        }
    }
}

/// Ends a lab and removes what a killed one may have left in its state folder. Objects, keys and
/// logs stay for the next `up`. Returns false when none was running.
///
/// # Errors
/// When the supervisor does not answer.
pub fn down(state_dir: &Path) -> Result<bool, LabError> {
    let state = StateDir::new(state_dir);
    let was_running = match connect(state_dir) {
        Ok(stream) => {
            let talk = |source| LabError::Control { action: "end", source };
            send(&stream, &Request::Shutdown, &[]).map_err(talk)?;
            // It answers by going away.
            let mut rest = Vec::new();
            match (&stream).read_to_end(&mut rest) {
                Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                    return Err(talk(error));
                }
                _ => true,
            }
        }
        Err(LabError::NotRunning { .. }) => false,
        Err(error) => return Err(error),
    };
    if state.path.is_dir() {
        // Waits for the last moments of the supervisor, which holds the lock until its end.
        let _held = state.wait_for_lock()?;
        state.clean()?;
    }
    Ok(was_running)
}

fn connect(state_dir: &Path) -> Result<UnixStream, LabError> {
    let state = StateDir::new(state_dir);
    UnixStream::connect(state.control()).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            LabError::NotRunning { path: state.path }
        }
        _ => LabError::Control { action: "reach", source },
    })
}

fn ask(state_dir: &Path, request: &Request) -> Result<Reply, LabError> {
    let stream = connect(state_dir)?;
    let talk = |source| LabError::Control { action: "ask", source };
    send(&stream, request, &[]).map_err(talk)?;
    read(&mut BufReader::new(stream)).map_err(talk)
}

/// Sends a request with descriptors beside its first byte.
fn send(stream: &UnixStream, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let sent = passing::send(stream, &line, fds)?;
    let mut stream = stream;
    stream.write_all(&line[sent..])
}

fn read(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the lab ended meanwhile"));
    }
    Ok(serde_json::from_str(&line)?)
}

impl Reply {
    fn done(self) -> Result<(), LabError> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    fn exit(self) -> Result<i32, LabError> {
        match self {
            Self::Exited { code } => Ok(code),
            other => Err(other.unexpected()),
        }
    }

    fn unexpected(self) -> LabError {
        match self {
            Self::Refused { message } => LabError::Refused { message },
            other => LabError::Refused {
                message: format!("the supervisor answered something else: {other:?}"),
            },
        }
    }
}

/// A command that runs: the connection, and our end of its terminal.
struct Session {
    stream: UnixStream,
    terminal: Option<File>,
    signals: SignalFd,
}

impl Session {
    fn new(stream: UnixStream, terminal: Option<File>) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH] {
            set.add(signal);
        }
        set.thread_block()?;
        let session =
            Self { stream, terminal, signals: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK)? };
        session.follow_size()?;
        Ok(session)
    }

    /// Carries bytes and signals until the supervisor replies.
    fn run(mut self) -> io::Result<Reply> {
        let mut typing = true;
        loop {
            let [signalled, replied, shown, typed] = self.wait(typing)?;
            if signalled {
                self.pass_signal()?;
            }
            if typed {
                typing = self.pass_input()?;
            }
            if shown && !self.pass_output()? {
                // Every process has let go of the terminal: only the reply is missing.
                self.terminal = None;
                typing = false;
            }
            if replied && !shown {
                return read(&mut BufReader::new(&self.stream));
            }
        }
    }

    fn wait(&self, typing: bool) -> io::Result<[bool; 4]> {
        let stdin = io::stdin();
        let mut polled = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(terminal) = &self.terminal {
            polled.push(PollFd::new(terminal.as_fd(), PollFlags::POLLIN));
            if typing {
                polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        poll(&mut polled, PollTimeout::NONE)?;
        let ready = |at: usize| polled.get(at).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok([ready(0), ready(1), ready(2), ready(3)])
    }

    fn pass_signal(&self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).unwrap_or_default();
            if signal == libc::SIGWINCH {
                self.follow_size()?;
            } else {
                send(&self.stream, &Request::Signal { signal }, &[])?;
            }
        }
        Ok(())
    }

    fn follow_size(&self) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => terminal::resize(terminal, terminal::size(io::stdin())?),
            None => Ok(()),
        }
    }

    /// False at the end of the input.
    fn pass_input(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        // Not through io::stdin(), whose buffer poll(2) cannot see.
        let length = nix::unistd::read(io::stdin().as_fd(), &mut chunk)?;
        if let Some(terminal) = &mut self.terminal {
            terminal.write_all(&chunk[..length])?;
        }
        Ok(length > 0)
    }

    /// False when the terminal is closed.
    fn pass_output(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let Some(terminal) = &mut self.terminal else {
            return Ok(false);
        };
        // EIO: nobody holds the other end any more.
        let Ok(length) = terminal.read(&mut chunk) else {
            return Ok(false);
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(&chunk[..length])?;
        stdout.flush()?;
        Ok(length > 0)
    }
}

/// The user's terminal without line editing and echo, until dropped.
struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that refuses its own settings.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}
