//! Network namespaces inside this process: one thread lives in each.

use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, alive as long as this value.
pub(crate) struct Namespace {
    jobs: Sender<Job>,
    path: String,
}

impl Namespace {
    /// A new one with loopback up.
    pub(crate) fn new() -> Self {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, entered) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(gettid()).unwrap();
            for job in queue {
                job();
            }
        });
        let thread = entered.recv().unwrap();
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        let namespace = Self { jobs, path };
        namespace.run(|| {
            // Duplicate address detection would keep link-local addresses unusable for a second.
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
            run("ip link set lo up");
        });
        namespace
    }

    /// Does something inside. Threads and programs that it starts stay inside.
    pub(crate) fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            done.send(outcome).unwrap();
        });
        self.jobs.send(job).unwrap();
        match result.recv().unwrap() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// For `ip link set … netns PATH`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Runs a program given as words; panics with what it said if it fails.
pub(crate) fn run(line: &str) {
    output(line).unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// What a program prints, or what it complains about.
pub(crate) fn output(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let program = testkit::program(words.next().unwrap()).ok_or("no such program")?;
    let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
