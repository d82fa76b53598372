//! A process of the shipped binary, with what it has said.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A started process; it is killed with the value.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

/// `portolan` with arguments.
pub(crate) fn portolan(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.args(arguments);
    command
}

/// An agent of node1 that listens on loopback.
pub(crate) fn agent(arguments: &[&str]) -> Process {
    let mut command = portolan(&["agent", "--hostname-override=node1"]);
    command.arg("--healthz-bind-address=127.0.0.1:10256").args(arguments);
    Process::start(command)
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (child.stderr.take().expect("is a pipe"), Arc::clone(&said));
        // Ends when the process does.
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                kept.lock().expect("nobody panicked").push(line);
            }
        });
        Self { child, said }
    }

    /// The first line that holds this.
    pub(crate) fn said(&self, text: &str) -> Option<String> {
        let said = self.said.lock().expect("nobody panicked");
        said.iter().find(|line| line.contains(text)).cloned()
    }

    /// How often it has said this.
    pub(crate) fn count(&self, text: &str) -> usize {
        let said = self.said.lock().expect("nobody panicked");
        said.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until it says this.
    pub(crate) async fn says(&self, text: &str) -> String {
        until(text, || self.said(text)).await
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().expect("is a child")).await
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("can be killed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            let said = self.said.lock().expect("nobody panicked").join("\n");
            eprintln!("a process ended with {ended:?} and said:\n{said}");
        }
    }
}

/// Waits until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
