//! The outer process of `portolan up`: it starts the supervisor, tells what it says, and passes
//! on the wish to end.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::LabConfig;
use crate::error::{LabError, chain};
use crate::progress::{Progress, tell};
use crate::sandbox;
use crate::state::StateDir;

/// The hidden name of the process that makes the namespaces.
pub(crate) const SUPERVISOR: &str = "lab-supervisor";

/// Starts a lab and stays until it has ended; with [`LabConfig::detach`], until it is ready.
///
/// SIGINT, SIGTERM and SIGHUP end the lab in order. Killed outright, the kernel ends it. Call it
/// on the main thread: the lab dies with the thread that started it.
///
/// # Errors
/// Everything that keeps a lab from starting, each with its remedy: see [`LabError`].
pub fn up(config: &LabConfig, progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
    config.validate()?;
    let state = StateDir::new(&config.state_dir);
    state.prepare()?;
    // Asked here for its better error; the supervisor takes the lock for good.
    drop(state.lock()?);
    let signals = block_signals()?;
    let (mut child, stdin, stdout) = start(config, &state)?;
    let outer =
        Outer { config, signals, stdin: Some(stdin), stdout, asked_to_end: false, ready: false };
    let result = outer.follow(progress);
    if matches!(result, Ok(Followed::Detached)) {
        return Ok(());
    }
    let status = child
        .wait()
        .map_err(|source| LabError::System { action: "wait for the supervisor", source })?;
    match result? {
        Followed::Ended { asked } if !asked && !status.success() => {
            Err(LabError::Ended { status: status.to_string(), logs: state.logs() })
        }
        _ => Ok(()),
    }
}

/// `lab-supervisor`: makes the namespaces and waits for their pid 1.
pub(crate) fn supervisor_main(detach: bool) -> ExitCode {
    let ended = unblock_signals().and_then(|()| sandbox::leave(detach)).and_then(|()| {
        sandbox::this_program(crate::supervisor::INIT)
            .status()
            .map_err(|source| LabError::System { action: "start the lab's first process", source })
    });
    match ended {
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            tell(&Progress::Failed { message: chain(&error) });
            ExitCode::FAILURE
        }
    }
}

enum Followed {
    Detached,
    Ended { asked: bool },
}

/// The outer process while the supervisor runs. Closing `stdin` asks the supervisor to end.
struct Outer<'a> {
    config: &'a LabConfig,
    signals: SignalFd,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    asked_to_end: bool,
    ready: bool,
}

impl Outer<'_> {
    fn follow(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Followed, LabError> {
        let mut text = Vec::new();
        loop {
            if !self.wait()? {
                continue;
            }
            let mut chunk = [0; 4096];
            let length = self
                .stdout
                .read(&mut chunk)
                .map_err(|source| LabError::Control { action: "hear from", source })?;
            if length == 0 {
                return Ok(Followed::Ended { asked: self.asked_to_end });
            }
            text.extend(&chunk[..length]);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if let Ok(event) = serde_json::from_slice(&line)
                    && self.take(event, progress)?
                {
                    return Ok(Followed::Detached);
                }
            }
        }
    }

    /// Passes an event on. True when the lab is ready and may be left alone.
    fn take(
        &mut self,
        event: Progress,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<bool, LabError> {
        if let Progress::Failed { message } = event {
            return Err(LabError::Start { message });
        }
        self.ready |= matches!(event, Progress::Ready { .. });
        progress(event);
        Ok(self.ready && self.config.detach)
    }

    /// Waits for words of the supervisor (true) or a signal.
    fn wait(&mut self) -> Result<bool, LabError> {
        let mut polled = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut polled, PollTimeout::NONE)
            .map_err(LabError::system("wait for the supervisor"))?;
        let [signalled, spoken] = polled.map(|fd| fd.any().unwrap_or(false));
        if signalled
            && self.signals.read_signal().map_err(LabError::system("read a signal"))?.is_some()
        {
            self.asked_to_end = true;
            self.stdin = None;
        }
        Ok(spoken)
    }
}

fn start(
    config: &LabConfig,
    state: &StateDir,
) -> Result<(Child, ChildStdin, ChildStdout), LabError> {
    let failed = |source| LabError::System { action: "start the supervisor", source };
    let mut child = sandbox::this_program(SUPERVISOR)
        .arg(if config.detach { "detach" } else { "stay" })
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(state.new_log("supervisor")?)
        .spawn()
        .map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(std::io::Error::other("its pipes are missing")));
    };
    let mut line = serde_json::to_vec(config).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    stdin.write_all(&line).map_err(failed)?;
    Ok((child, stdin, stdout))
}

/// The outer process reads its signals from a descriptor and has blocked them, and a blocked
/// signal stays blocked through fork and exec: no process of the lab would hear SIGTERM.
fn unblock_signals() -> Result<(), LabError> {
    SigSet::empty().thread_set_mask().map_err(LabError::system("unblock signals"))
}

fn block_signals() -> Result<SignalFd, LabError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().map_err(LabError::system("block signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(LabError::system("read signals from a descriptor"))
}
