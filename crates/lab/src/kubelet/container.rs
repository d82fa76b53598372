//! A container: what shall run, the process that does, and the life from start to end and back.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Notify, watch};

use super::console::Console;
use super::logs::Log;
use super::spec::Container;
use super::status::{ContainerStatus, Ended, State, now};
use crate::launch::Launch;
use crate::process::{Exit, Process};

/// One container of a pod, over all its runs.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) spec: Container,
    pub(crate) status: RefCell<ContainerStatus>,
    pub(crate) log_folder: PathBuf,
    /// The logs of the last run but one, and of the last.
    logs: RefCell<[Option<Log>; 2]>,
    run: RefCell<Option<Run>>,
    /// A probe has decided that the present run must end.
    pub(crate) unhealthy: Notify,
    /// Changes whenever the status does.
    pub(crate) changed: watch::Sender<u64>,
    /// Runs begun so far in this kubelet's life.
    runs: Cell<u32>,
}

/// A process that runs as the container.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: Process,
    pub(crate) console: Rc<Console>,
    /// Mount, host name and network namespace, open.
    namespaces: Vec<OwnedFd>,
    /// Which mount namespace: what shares it belongs to the container.
    mounts: u64,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) directory: Option<String>,
}

impl Runner {
    pub(crate) fn new(spec: Container, log_folder: PathBuf, reason: &'static str) -> Self {
        let status = ContainerStatus::new(&spec.name, &spec.image, reason);
        Self {
            spec,
            status: RefCell::new(status),
            log_folder,
            logs: RefCell::default(),
            run: RefCell::default(),
            unhealthy: Notify::new(),
            changed: watch::Sender::new(0),
            runs: Cell::new(0),
        }
    }

    /// Changes the status and tells.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ContainerStatus)) {
        change(&mut self.status.borrow_mut());
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until the status is as wished.
    pub(crate) async fn wait_until(&self, wished: impl Fn(&ContainerStatus) -> bool) {
        // The sender lives in self: it cannot fail.
        let _ = self.changed.subscribe().wait_for(|_| wished(&self.status.borrow())).await;
    }

    /// Waiting, with the reason that kubectl shows.
    pub(crate) fn waiting(&self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.update(|status| {
            if let State::Terminated(ended) = &status.state {
                status.last = Some(ended.clone());
            }
            status.state = State::Waiting { reason, message };
            status.ready = false;
            status.started = false;
        });
    }

    /// Why it waits, for messages.
    pub(crate) fn waiting_reason(&self) -> &'static str {
        match &self.status.borrow().state {
            State::Waiting { reason, .. } => reason,
            State::Running { .. } => "Running",
            State::Terminated(ended) => ended.reason,
        }
    }

    /// Running from now on.
    pub(crate) fn running(&self, run: Run, id: String) {
        self.run.replace(Some(run));
        self.update(|status| {
            if let State::Terminated(ended) = &status.state {
                status.last = Some(ended.clone());
            }
            status.state = State::Running { since: now() };
            status.started = false;
            status.ready = false;
            status.id = id;
        });
    }

    /// It has ended: nothing of it is left, and its log is complete.
    pub(crate) fn ended(&self, exit: Exit) {
        self.run.replace(None);
        self.update(|status| {
            let started = match &status.state {
                State::Running { since } => since.clone(),
                _ => now(),
            };
            status.state = State::Terminated(Ended {
                code: exit.code,
                signal: None,
                reason: if exit.code == 0 { "Completed" } else { "Error" },
                message: String::new(),
                started,
                finished: now(),
                id: status.id.clone(),
            });
            status.ready = false;
            status.started = false;
        });
    }

    /// It could not even be started.
    pub(crate) fn not_started(&self, reason: &'static str, message: String) {
        self.update(|status| {
            status.state = State::Terminated(Ended {
                code: 128,
                signal: None,
                reason,
                message,
                started: now(),
                finished: now(),
                id: status.id.clone(),
            });
        });
    }

    /// A log for the next run.
    pub(crate) fn next_log(&self) -> io::Result<Log> {
        let log = Log::create(&self.log_folder, self.runs.get())?;
        self.runs.set(self.runs.get() + 1);
        let mut logs = self.logs.borrow_mut();
        logs.rotate_left(1);
        logs[1] = Some(log.clone());
        Ok(log)
    }

    /// The log of the last run, or of the one before.
    pub(crate) fn log(&self, previous: bool) -> Option<Log> {
        self.logs.borrow()[usize::from(!previous)].clone()
    }

    /// A launch inside the running container; `None` when it does not run.
    pub(crate) fn enter(&self) -> Option<io::Result<Launch>> {
        let run = self.run.borrow();
        let run = run.as_ref()?;
        let namespaces = run
            .namespaces
            .iter()
            .map(|fd| fd.as_fd().try_clone_to_owned())
            .collect::<io::Result<Vec<_>>>();
        Some(namespaces.map(|enter| Launch {
            enter,
            env: run.env.clone(),
            directory: run.directory.clone(),
            ..Launch::default()
        }))
    }

    /// The streams of the running container; `None` when it does not run.
    pub(crate) fn console(&self) -> Option<Rc<Console>> {
        self.run.borrow().as_ref().map(|run| run.console.clone())
    }

    /// Sends a signal to the running process.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(run) = &*self.run.borrow() {
            run.process.signal(signal);
        }
    }

    /// Kills the process and everything it left behind, if it runs.
    pub(crate) async fn kill(&self) {
        let run = self.run.borrow_mut().take();
        if let Some(mut run) = run {
            run.process.signal_group(Signal::SIGKILL);
            run.process.wait().await;
            run.kill_rest();
        }
    }

    /// Kills what the ended process left behind in its mount namespace.
    pub(crate) fn kill_rest(&self) {
        if let Some(run) = &*self.run.borrow() {
            run.kill_rest();
        }
    }
}

impl Run {
    /// Of a process that has become the container's program, in these namespaces: mount, host
    /// name, network.
    pub(crate) fn new(
        process: Process,
        console: Rc<Console>,
        namespaces: Vec<OwnedFd>,
        env: Vec<(String, String)>,
        directory: Option<String>,
    ) -> io::Result<Self> {
        let mounts =
            namespaces.first().ok_or_else(|| io::Error::other("its namespaces are not known"))?;
        let mounts = File::from(mounts.try_clone()?).metadata()?.ino();
        Ok(Self { process, console, namespaces, mounts, env, directory })
    }

    /// Children that the process left behind still stand in its mount namespace: exactly these
    /// are killed, again and again until none is left, since a dying one may have had a child.
    fn kill_rest(&self) {
        loop {
            let rest = in_mount_namespace(self.mounts);
            if rest.is_empty() {
                return;
            }
            for pid in rest {
                // It may have ended meanwhile.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}

/// The living processes of a mount namespace. Zombies have none any more.
fn in_mount_namespace(inode: u64) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let namespace = std::fs::metadata(entry.path().join("ns/mnt")).ok()?;
            (namespace.ino() == inode).then(|| Pid::from_raw(pid))
        })
        .collect()
}

/// What a container runs.
///
/// # Errors
/// For an image that the lab does not have, with what it has.
pub(crate) fn program(
    container: &Container,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<String>, String> {
    let arguments = container.args.iter();
    if !container.command.is_empty() {
        return Ok(container.command.iter().chain(arguments).map(|text| expand(text)).collect());
    }
    let builtin: &[&str] = match repository(&container.image) {
        "portolan/web" => &["portolan", "web"],
        "portolan/dns" => &["portolan", "dns"],
        "portolan" => &["portolan"],
        _ => {
            return Err(format!(
                "the lab has no images but portolan/web and portolan/dns; to run a program of this \
                 machine in place of {:?}, give the container a `command:`",
                container.image
            ));
        }
    };
    Ok(builtin
        .iter()
        .map(|text| (*text).to_owned())
        .chain(arguments.map(|text| expand(text)))
        .collect())
}

/// Whether a container runs one of the lab's own images.
pub(crate) fn is_builtin(container: &Container) -> bool {
    matches!(repository(&container.image), "portolan/web" | "portolan/dns" | "portolan")
}

/// An image's name without registry, tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let name_start = image.rfind('/').map_or(0, |at| at + 1);
    let end = image[name_start..].find(':').map_or(image.len(), |at| name_start + at);
    let image = &image[..end];
    image.strip_prefix("docker.io/").or_else(|| image.strip_prefix("localhost/")).unwrap_or(image)
}

/// The pause before a container is started again after it has ended this many times: none at
/// first, then 10 s doubling to 300 s, as the real kubelet.
pub(crate) fn restart_delay(ended: u32) -> Duration {
    match ended {
        0 | 1 => Duration::ZERO,
        more => Duration::from_secs((10_u64 << (more - 2).min(5)).min(300)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn images_without_a_command_are_the_labs_own() {
        let run = |value| program(&container(value), str::to_owned);
        assert_eq!(
            run(json!({"image": "docker.io/portolan/web:1@sha256:0", "args": ["-v"]})).unwrap(),
            ["portolan", "web", "-v"]
        );
        assert_eq!(
            run(json!({"image": "nginx", "command": ["sleep"], "args": ["9"]})).unwrap(),
            ["sleep", "9"]
        );
        let text = run(json!({"image": "registry:5000/nginx:1.29"})).unwrap_err();
        assert!(
            text.contains("portolan/web") && text.contains("registry:5000/nginx:1.29"),
            "{text}"
        );
    }

    #[test]
    fn restarts_wait_longer_and_longer() {
        let seconds: Vec<_> = (0..9).map(|ended| restart_delay(ended).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
