//! A lab for one test: started with the binary, ended when the test ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
        assert!(output.status.success(), "portolan up: {}", text(&output));
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
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        // A cache of another server's discovery would answer for this one.
        command.arg("--cache-dir").arg(self.state.path().join("kubectl-cache"));
        feed(command, input)
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
