//! The supervisor's children. As pid 1 it inherits every orphan of the lab, so it waits for
//! whatever ends and hands the exit to whoever started it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::launch::{Launch, Started};

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exit {
    /// Exit code; 128 + signal number when a signal ended it, as shells and kubelets count.
    pub(crate) code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
}

/// All children. There is one in the process; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    waiting: Rc<RefCell<BTreeMap<i32, watch::Sender<Option<Exit>>>>>,
}

/// A child that was started.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
}

impl Children {
    /// Starts to wait for children, for as long as the runtime lives. Nothing else in the process
    /// may wait for its own.
    pub(crate) fn start() -> io::Result<Self> {
        let children = Self::default();
        let mut ended = signal(SignalKind::child())?;
        let reaper = children.clone();
        tokio::task::spawn_local(async move {
            while ended.recv().await.is_some() {
                reaper.reap();
            }
        });
        Ok(children)
    }

    /// Spawns a command whose standard streams are set.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let (tell, exit) = watch::channel(None);
        // The reaper runs on this thread and only between awaits: it cannot come in between.
        self.waiting.borrow_mut().insert(pid, tell);
        Ok(Process { pid: Pid::from_raw(pid), exit })
    }

    /// Spawns by way of `lab-launch`. `streams` sets stdin, stdout and stderr.
    pub(crate) fn launch(
        &self,
        launch: Launch,
        streams: impl FnOnce(&mut Command),
    ) -> io::Result<(Process, Started)> {
        let (mut command, inherited, started) = launch.prepare()?;
        streams(&mut command);
        let process = self.spawn(&mut command)?;
        drop(inherited);
        Ok((process, started))
    }

    fn reap(&self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit { code, signal: None }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let signal = signal as i32;
                    (pid, Exit { code: 128 + signal, signal: Some(signal) })
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            if let Some(tell) = self.waiting.borrow_mut().remove(&pid.as_raw()) {
                tell.send_replace(Some(exit));
            }
        }
    }
}

impl Process {
    /// Its pid in the lab's pid namespace.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&mut self) -> Exit {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit { code: 255, signal: None }),
            Err(_runtime_ends) => std::future::pending().await,
        }
    }

    /// Sends a signal to it alone, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_running() {
            // It may have ended this very moment.
            let _ = kill(self.pid, signal);
        }
    }

    /// Sends a signal to it and everything it started that did not leave its session.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // The group may outlive its leader; an empty one gives ESRCH.
        let _ = nix::sys::signal::killpg(self.pid, signal);
    }
}
