//! A lab for one test: started with the binary, ended when the test ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A running lab in a state folder of its own.
pub(crate) struct Lab {
    state: tempfile::TempDir,
}

impl Lab {
    /// Starts a lab with manifests and further arguments. `None` when this machine cannot (the
    /// test is then counted as skipped).
    pub(crate) fn start(test: &str, manifests: &str, arguments: &[&str]) -> Option<Self> {
        if let Some(reason) = testkit::no_namespaces() {
            testkit::skip(test, &format!("no unprivileged namespaces: {reason}"));
            return None;
        }
        let lab = Self { state: tempfile::tempdir().unwrap() };
        let output = lab.up(manifests, arguments);
        let said = text(&output);
        assert!(output.status.success() && !said.contains("not everything"), "up: {said}");
        Some(lab)
    }

    /// `portolan up --detach -f -`.
    pub(crate) fn up(&self, manifests: &str, arguments: &[&str]) -> Output {
        let mut command = self.portolan(&["up", "--detach", "-f", "-"]);
        command.args(arguments);
        feed(command, manifests)
    }

    /// A command of the binary about this lab.
    pub(crate) fn portolan(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(arguments).env("PORTOLAN_STATE", self.state.path());
        command
    }

    /// Runs a command somewhere in the lab.
    pub(crate) fn exec(&self, place: &str, command: &[&str]) -> Output {
        let mut exec = self.portolan(&["exec", place, "--"]);
        exec.args(command).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a shell script somewhere in the lab; what it printed.
    pub(crate) fn script(&self, place: &str, script: &str) -> String {
        let output = self.exec(place, &["bash", "-c", script]);
        assert!(output.status.success(), "at {place}: {}\n{script}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `portolan status --output json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.portolan(&["status", "--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The kubeconfig that `portolan kubeconfig` names.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let output = self.portolan(&["kubeconfig"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().into()
    }

    /// Runs the real kubectl; it must succeed. What it printed.
    pub(crate) fn kubectl(&self, kubectl: &Path, arguments: &[&str]) -> String {
        let output = self.kubectl_output(kubectl, arguments, "");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the real kubectl with something on stdin.
    pub(crate) fn kubectl_output(&self, kubectl: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = self.kubectl_command(kubectl);
        command.args(arguments);
        feed(command, input)
    }

    /// The real kubectl, with arguments and streams still to be given.
    pub(crate) fn kubectl_command(&self, kubectl: &Path) -> Command {
        let mut command = Command::new(kubectl);
        // A cache of another server's discovery would answer for this one.
        command.arg("--cache-dir").arg(self.state.path().join("kubectl-cache"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// Process ids, as this test sees them, of the lab's programs whose command line contains a
    /// text, such as `agent-node1`.
    pub(crate) fn processes(&self, text: &str) -> Vec<Pid> {
        let state = self.state.path().display().to_string();
        processes(|line| line.contains(&state) && line.contains(text))
    }

    /// Kills one of the lab's programs outright and waits until another one runs in its place.
    pub(crate) fn kill_and_await_next(&self, text: &str) {
        let [old] = self.processes(text)[..] else { panic!("one {text} should run") };
        kill(old, Signal::SIGKILL).unwrap();
        eventually(
            &format!("{text} runs again"),
            || matches!(self.processes(text)[..], [new] if new != old),
        );
    }

    /// The state folder.
    pub(crate) fn folder(&self) -> &Path {
        self.state.path()
    }

    /// A pod's name on a node, by label `app`.
    pub(crate) fn pod_on(&self, kubectl: &Path, app: &str, node: &str) -> String {
        let field = format!("--field-selector=spec.nodeName={node}");
        let selector = format!("--selector=app={app}");
        let path = "-o=jsonpath={.items[0].metadata.name}";
        self.kubectl(kubectl, &["get", "pods", &field, &selector, path])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let ended = self.portolan(&["down"]).output();
        if std::thread::panicking() {
            let mut logs = String::new();
            let folder = std::fs::read_dir(self.state.path().join("logs"));
            for file in folder.into_iter().flatten().flatten() {
                let content = std::fs::read_to_string(file.path()).unwrap_or_default();
                let tail: Vec<&str> = content.lines().rev().take(15).collect();
                let _ = writeln!(logs, "--- {}", file.path().display());
                for line in tail.iter().rev() {
                    let _ = writeln!(logs, "{line}");
                }
            }
            println!("{logs}");
        } else {
            assert!(ended.is_ok_and(|output| output.status.success()), "portolan down");
        }
    }
}

/// The newest real kubectl; skips the test aloud when there is none.
pub(crate) fn kubectl(test: &str) -> Option<PathBuf> {
    let found = testkit::kubectls().into_iter().next();
    if found.is_none() {
        testkit::skip(test, "no kubectl: scripts/setup installs it from PyPI");
    }
    found
}

/// What a program printed, for messages.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until something holds that no event tells of.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes of this machine whose command line, joined by spaces, is wanted.
pub(crate) fn processes(wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let found = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // The launcher carries the command line of what it is about to become.
        (wanted(&line) && !line.contains("lab-launch")).then(|| Pid::from_raw(pid))
    });
    found.collect()
}

/// Requests that go on, one after the other, each on a connection of its own.
pub(crate) struct Traffic {
    exec: Child,
    stop: PathBuf,
}

impl Traffic {
    /// Starts to ask a URL from a place.
    pub(crate) fn start(lab: &Lab, place: &str, url: &str) -> Self {
        let stop = lab.folder().join(format!("stop-{}", place.replace('/', "-")));
        let stop = stop.with_extension(url.len().to_string() + &url.replace(['/', ':'], "-"));
        let script = format!(
            "until [ -e '{}' ]; do curl -s --connect-timeout 2 -m 4 {url} || echo failed $?; done",
            stop.display()
        );
        let exec = lab
            .portolan(&["exec", place, "--", "bash", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { exec, stop }
    }

    /// Ends it: how many requests were answered, and what became of the others.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        std::fs::write(&self.stop, "").unwrap();
        let output = self.exec.wait_with_output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let (answered, failed): (Vec<&str>, Vec<&str>) =
            lines.lines().partition(|line| line.contains("pod="));
        (answered.len(), failed.into_iter().map(str::to_owned).collect())
    }
}

fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
