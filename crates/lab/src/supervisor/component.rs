//! The shipped API server, controller and agents as processes, kept running.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{LabError, chain};
use crate::launch::{DEFAULT_PATH, Launch, Root, Started};
use crate::net::Namespace;
use crate::process::{Children, Process};
use crate::progress::{Progress, tell};
use crate::state::StateDir;

/// The first delay before a process that died is started again; doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A process that ran this long counts as healthy: its next delay is the first one again.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long a process may take to end in order.
const GRACE: Duration = Duration::from_secs(3);

/// How to run a component.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// Such as `agent-node1`; names the log.
    pub(crate) name: String,
    /// Arguments after `portolan`.
    pub(crate) arguments: Vec<String>,
    /// Where it runs.
    pub(crate) namespace: Namespace,
    /// Its view of the file system.
    pub(crate) root: Option<Root>,
}

/// A component that is kept running until [`Running::stop`].
#[derive(Debug)]
pub(crate) struct Running {
    stop: watch::Sender<Option<Signal>>,
    task: tokio::task::JoinHandle<()>,
}

impl Component {
    /// Starts it. `listeners` are handed over, again after every restart.
    ///
    /// # Errors
    /// When its log cannot be written.
    pub(crate) fn run(
        self,
        children: Children,
        state: &StateDir,
        listeners: Vec<OwnedFd>,
    ) -> Result<Running, LabError> {
        let log = state.new_log(&self.name)?;
        let (stop, stopped) = watch::channel(None);
        let task = tokio::task::spawn_local(self.keep(children, log, listeners, stopped));
        Ok(Running { stop, task })
    }

    async fn keep(
        self,
        children: Children,
        log: std::fs::File,
        listeners: Vec<OwnedFd>,
        mut stop: watch::Receiver<Option<Signal>>,
    ) {
        let mut delay = FIRST_DELAY;
        loop {
            let began = Instant::now();
            let failure = match self.spawn(&children, &log, &listeners) {
                Ok((process, started)) => match attend(process, started, &mut stop).await {
                    Some(failure) => failure,
                    None => return,
                },
                Err(error) => chain(&error),
            };
            if began.elapsed() > HEALTHY {
                delay = FIRST_DELAY;
            }
            let text = format!(
                "{} failed: {failure}; see logs/{}.log; starting it again",
                self.name, self.name
            );
            tracing::warn!(component = self.name, failure, "starting it again");
            tell(&Progress::Warning { text });
            tokio::select! {
                () = tokio::time::sleep(delay) => delay = (delay * 2).min(LONGEST_DELAY),
                _ = stop.changed() => return,
            }
        }
    }

    fn spawn(
        &self,
        children: &Children,
        log: &std::fs::File,
        listeners: &[OwnedFd],
    ) -> std::io::Result<(Process, Started)> {
        let mut program = vec!["portolan".to_owned()];
        program.extend(self.arguments.iter().cloned());
        let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        env.extend(
            ["PORTOLAN_LOG", "RUST_BACKTRACE"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))),
        );
        let launch = Launch {
            program,
            env,
            enter: vec![std::os::fd::AsFd::as_fd(&self.namespace).try_clone_to_owned()?],
            listeners: listeners.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?,
            root: self.root.clone(),
            ..Launch::default()
        };
        let (out, err) = (log.try_clone()?, log.try_clone()?);
        children.launch(launch, |command| {
            command.stdin(Stdio::null()).stdout(out).stderr(err);
        })
    }
}

impl Running {
    /// Ends it in order with SIGTERM, or at once with SIGKILL, and waits for that.
    pub(crate) async fn stop(self, signal: Signal) {
        self.stop.send_replace(Some(signal));
        // The task ends with the process; a panic in it has been reported by the runtime.
        let _ = self.task.await;
    }
}

/// From a start to its end: the failure in words, or `None` when it was stopped at our wish.
async fn attend(
    process: Process,
    started: Started,
    stop: &mut watch::Receiver<Option<Signal>>,
) -> Option<String> {
    let failed = started.wait().await.err();
    let code = ended_or_stopped(process, stop).await?;
    Some(failed.unwrap_or_else(|| format!("it ended with {code}")))
}

/// Waits for the process: its exit code, or `None` when it was stopped at our wish.
async fn ended_or_stopped(
    mut process: Process,
    stop: &mut watch::Receiver<Option<Signal>>,
) -> Option<i32> {
    let signal = tokio::select! {
        exit = process.wait() => return Some(exit.code),
        signal = stop.wait_for(Option::is_some) => signal.ok().and_then(|signal| *signal),
    };
    process.signal_group(signal.unwrap_or(Signal::SIGKILL));
    if tokio::time::timeout(GRACE, process.wait()).await.is_err() {
        process.signal_group(Signal::SIGKILL);
        process.wait().await;
    }
    None
}
