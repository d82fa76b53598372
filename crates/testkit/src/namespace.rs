//! Network namespaces inside a test process: one thread lives in each.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::program;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, alive as long as this value. Making one needs a process that is root of
/// its user namespace.
#[derive(Debug)]
pub struct Namespace {
    jobs: Sender<Job>,
    path: String,
}

impl Namespace {
    /// A new one with loopback up and no duplicate address detection.
    ///
    /// # Panics
    /// When the process may not make one; ask [`crate::no_namespaces`] first.
    #[expect(clippy::new_without_default, reason = "making a namespace is no default")]
    pub fn new() -> Self {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, entered) = channel();
        thread::spawn(move || {
            let _ = ready.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid()));
            queue.into_iter().for_each(|job| job());
        });
        let thread = match entered.recv() {
            Ok(Ok(thread)) => thread,
            error => panic!("cannot make a network namespace: {error:?}"),
        };
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        let namespace = Self { jobs, path };
        // Detection would keep addresses unusable for a second.
        namespace.set("ipv6/conf/default/accept_dad", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// For `ip link set … netns PATH`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Does something inside. Threads and programs that it starts stay inside.
    ///
    /// # Panics
    /// When the closure does.
    pub fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            // The receiver waits below.
            let _ = done.send(outcome);
        });
        let sent = self.jobs.send(job);
        match result.recv() {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the thread of the namespace is gone: {sent:?}"),
        }
    }

    /// Runs `ip` with a list of its commands, one a line, all at once.
    ///
    /// # Panics
    /// When a command fails or there is no `ip`.
    pub fn ip(&self, commands: &str) {
        let commands = commands.to_owned();
        self.run(move || {
            let Some(ip) = program("ip") else { panic!("the program ip (iproute2) is missing") };
            let child = Command::new(ip)
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            let output = child.and_then(|mut child| {
                if let Some(mut input) = child.stdin.take() {
                    std::io::Write::write_all(&mut input, commands.as_bytes())?;
                }
                child.wait_with_output()
            });
            match output {
                Ok(output) if output.status.success() => {}
                failed => panic!("ip: {failed:?}\n{commands}"),
            }
        });
    }

    /// Writes below `/proc/sys/net`.
    ///
    /// # Panics
    /// When the key cannot be written.
    pub fn set(&self, key: &str, value: &'static str) {
        let file = format!("/proc/sys/net/{key}");
        self.run(move || {
            let written = std::fs::write(&file, value);
            assert!(written.is_ok(), "write {value} to {file}: {written:?}");
        });
    }

    /// A pair of connected interfaces, one here and one in another namespace, both up.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn connect(&self, interface: &str, other: &Self, other_interface: &str) {
        let path = &other.path;
        self.ip(&format!(
            "link add {interface} type veth peer name {other_interface} netns {path}\n\
             link set {interface} up\n"
        ));
        other.ip(&format!("link set {other_interface} up"));
    }
}
