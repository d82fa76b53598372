//! Bad days: a machine that forbids, a disk that is full, programs that die.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::harness::{Lab, Traffic, eventually, kubectl, text};
use crate::reach::DUAL_STACK;

#[test]
fn forbidden_user_namespaces_are_named_with_their_setting() {
    let test = "forbidden_user_namespaces_are_named_with_their_setting";
    if let Some(reason) = testkit::no_namespaces() {
        return testkit::skip(test, &format!("no unprivileged namespaces: {reason}"));
    }
    let Some(setpriv) = testkit::program("setpriv") else {
        return testkit::skip(test, "no setpriv (util-linux)");
    };
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec '{}' --bounding-set=-all \\
         --inh-caps=-all '{}' up --state '{}'",
        setpriv.display(),
        env!("CARGO_BIN_EXE_portolan"),
        folder.path().join("state").display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "bash", "-c", &script])
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains("user.max_user_namespaces"), "{said}");
}

#[test]
fn a_taken_port_is_refused() {
    let test = "a_taken_port_is_refused";
    if let Some(reason) = testkit::no_namespaces() {
        return testkit::skip(test, &format!("no unprivileged namespaces: {reason}"));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["up", "--api-port", &port, "--state"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains(&port), "{said}");
    assert!(said.contains("--api-port"), "{said}");
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let test = "a_full_disk_refuses_writes_and_goes_on_reading";
    let Some(kubectl) = kubectl(test) else { return };
    if let Some(reason) = testkit::no_namespaces() {
        return testkit::skip(test, &format!("no unprivileged namespaces: {reason}"));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.yaml"), DUAL_STACK).unwrap();
    let script = include_str!("full-disk.sh");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c", script])
        .env("PORTOLAN", env!("CARGO_BIN_EXE_portolan"))
        .env("KUBECTL", &kubectl)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn killed_programs_lose_neither_traffic_nor_objects() {
    let test = "killed_programs_lose_neither_traffic_nor_objects";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let traffic = Traffic::start(&lab, "client", "http://node1:30007/");
    let mut connection = Connection::open(&lab);
    let pod = connection.ask();

    // The agent dies while endpoints change under it; the next one carries the change out.
    let mut scale = Command::new(&kubectl);
    scale.arg("--kubeconfig").arg(lab.kubeconfig());
    scale.args(["scale", "deployment/web", "--replicas=3"]);
    assert!(scale.stdout(Stdio::null()).status().unwrap().success());
    lab.kill_and_await_next("agent-node1");
    lab.kubectl(&kubectl, &["rollout", "status", "deployment/web", "--timeout=30s"]);
    let ask = "for i in $(seq 60); do curl -s -m 2 http://node1:30007/; done";
    eventually("all three pods answer", || {
        let answers = lab.script("client", ask);
        let pods: std::collections::BTreeSet<_> =
            answers.lines().filter_map(crate::reach::pod_of).collect();
        pods.len() == 3
    });
    assert_eq!(connection.ask(), pod, "an established connection stays");

    // The API server dies: what it acknowledged is there, and everybody comes back to it.
    for number in 0..5 {
        lab.kubectl(&kubectl, &["create", "configmap", &format!("kept-{number}")]);
    }
    lab.kill_and_await_next("apiserver --state");
    let names = "-o=jsonpath={.items[*].metadata.name}";
    let kept = lab.kubectl(&kubectl, &["get", "configmaps", names]);
    assert_eq!(kept.matches("kept-").count(), 5, "{kept}");
    lab.kill_and_await_next("controller.kubeconfig");
    lab.kubectl(&kubectl, &["scale", "deployment/web", "--replicas=2"]);
    lab.kubectl(&kubectl, &["rollout", "status", "deployment/web", "--timeout=30s"]);
    let count = "-o=jsonpath={.items[*].endpoints[*].conditions.ready}";
    let own = "--selector=kubernetes.io/service-name=web-clusterip";
    eventually("slices follow after all", || {
        lab.kubectl(&kubectl, &["get", "endpointslices", own, count]).matches("true").count() == 4
    });
    let (answered, failed) = traffic.stop();
    assert!(failed.is_empty(), "{answered} answered, failed: {failed:?}");
    assert!(answered > 50, "{answered}");
}

#[test]
fn flushed_tables_are_repaired_at_once() {
    let test = "flushed_tables_are_repaired_at_once";
    if testkit::program("nft").is_none() {
        return testkit::skip(test, "no nft (package nftables)");
    }
    let Some(lab) = Lab::start(test, DUAL_STACK, &["--nodes", "1"]) else { return };
    let flushed = |times: usize| {
        lab.script("node1", "nft flush ruleset");
        eventually(&format!("the tables are back, time {times}"), || {
            let ask = "curl -s --connect-timeout 0.5 -m 1 http://node1:30007/; true";
            lab.script("client", ask).contains("pod=")
        });
        let ruleset = lab.script("node1", "nft -s list ruleset");
        let mut lines: Vec<String> = ruleset.lines().map(str::to_owned).collect();
        // Chains are listed in the order in which they were made.
        lines.sort();
        lines
    };
    let first = flushed(1);
    assert!(first.iter().any(|line| line.contains("30007")), "{first:?}");
    for times in 2..=3 {
        assert_eq!(flushed(times), first);
    }
}

/// One HTTP connection of the client through a node port.
struct Connection {
    exec: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Connection {
    fn open(lab: &Lab) -> Self {
        let script = "exec 3<>/dev/tcp/node1/30007; while read -r _; do \
                      printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; \
                      while read -r line <&3; do case $line in pod=*) echo $line; break;; esac; done; done";
        let mut exec = lab
            .portolan(&["exec", "client", "--", "bash", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(exec.stdout.take().unwrap()).lines();
        Self { exec, lines }
    }

    /// The pod that answers on it.
    fn ask(&mut self) -> String {
        writeln!(self.exec.stdin.as_mut().unwrap(), "go").unwrap();
        let line = self.lines.next().unwrap().unwrap();
        crate::reach::pod_of(&line).unwrap().to_owned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.exec.kill();
        let _ = self.exec.wait();
    }
}
