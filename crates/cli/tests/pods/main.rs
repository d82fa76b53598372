//! What pods do in the lab: probes, hooks, order, restarts, files, logs and ends, as the real
//! kubectl sees them. One lab for all checks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a failed test shows the logs of its lab")]

mod attach;
#[path = "../lab/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole lab, which use more of it")]
mod harness;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Lab, eventually, processes, text};

#[test]
fn pods_do_what_their_specs_say() {
    let test = "pods_do_what_their_specs_say";
    let Some(kubectl) = harness::kubectl(test) else { return };
    let marks = tempfile::tempdir().unwrap();
    let folder = marks.path().display().to_string();
    let manifests = include_str!("pods.yaml").replace("MARKS", &folder);
    let Some(lab) = Lab::start(test, &manifests, &[]) else { return };
    let pods = Pods { lab, kubectl, marks: marks.path().to_owned() };
    // First: the back-off that it looks for lasts ten seconds only.
    the_restart_policy_decides(&pods);
    readiness_waits_for_the_startup_probe(&pods);
    liveness_restarts(&pods);
    probes_go_over_https_and_grpc(&pods);
    a_failed_startup_probe_ends_a_container(&pods);
    what_cannot_run_says_why(&pods);
    init_containers_run_in_order_and_sidecars_end_last(&pods);
    a_container_knows_what_its_spec_tells_it(&pods);
    a_pod_changes_how_names_are_found(&pods);
    a_pod_of_the_host_network_serves(&pods);
    logs_are_cut_as_asked(&pods);
    logs_are_followed_to_the_end(&pods);
    attach::a_terminal_is_attached(&pods);
    attach::pipes_are_attached(&pods);
    attach::stdin_stays_open_or_ends_with_its_first_client(&pods);
    a_datagram_passes_the_loopback_url(&pods);
    hooks_begin_and_end_containers(&pods);
    hooks_and_signals_end_pods(&pods);
    force_does_not_wait(&pods);
}

struct Pods {
    lab: Lab,
    kubectl: PathBuf,
    marks: PathBuf,
}

impl Pods {
    fn run(&self, arguments: &[&str]) -> String {
        self.lab.kubectl(&self.kubectl, arguments)
    }

    fn get(&self, name: &str) -> Value {
        serde_json::from_str(&self.run(&["get", "pod", name, "-o", "json"])).unwrap()
    }

    /// The state of a pod's first container.
    fn container(&self, name: &str) -> Value {
        self.get(name)["status"]["containerStatuses"][0].clone()
    }

    fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        eventually(&format!("{name}: {what}"), || holds(&self.container(name)));
    }

    fn until_phase(&self, name: &str, phase: &str) {
        let wait = format!("--for=jsonpath={{.status.phase}}={phase}");
        self.run(&["wait", "pod", name, &wait, "--timeout=20s"]);
    }

    /// The messages of a pod's events.
    fn events(&self, name: &str) -> String {
        let field = format!("--field-selector=involvedObject.name={name}");
        self.run(&[
            "get",
            "events",
            &field,
            "-o=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
        ])
    }

    fn has_event(&self, name: &str, message: &str) {
        eventually(&format!("{name}: event {message:?}"), || self.events(name).contains(message));
    }

    fn mark(&self, file: &str) -> String {
        std::fs::read_to_string(self.marks.join(file)).unwrap_or_default()
    }
}

fn readiness_waits_for_the_startup_probe(pods: &Pods) {
    pods.until("slow", "it runs", |status| status["state"]["running"].is_object());
    let status = pods.container("slow");
    assert_eq!((&status["started"], &status["ready"]), (&false.into(), &false.into()));
    pods.has_event("slow", "Startup probe failed");
    pods.run(&["exec", "slow", "--", "touch", "/data/started"]);
    pods.run(&["wait", "pod", "slow", "--for=condition=Ready", "--timeout=20s"]);
    assert_eq!(pods.container("slow")["restartCount"], 0);
}

fn liveness_restarts(pods: &Pods) {
    pods.run(&["wait", "pod", "live", "--for=condition=Ready", "--timeout=20s"]);
    let unready = "curl -s -X POST http://localhost:8080/unready";
    pods.run(&["exec", "live", "--", "sh", "-c", unready]);
    pods.until("live", "it is restarted", |status| status["restartCount"] == 1);
    pods.run(&["wait", "pod", "live", "--for=condition=Ready", "--timeout=20s"]);
    pods.has_event("live", "Liveness probe failed: HTTP probe failed with statuscode: 503");
    pods.has_event("live", "Readiness probe failed: HTTP probe failed with statuscode: 503");
    pods.has_event("live", "Container web failed liveness probe, will be restarted");
    assert!(pods.container("live")["lastState"]["terminated"].is_object());
    pods.run(&["logs", "live", "--previous"]);
}

fn probes_go_over_https_and_grpc(pods: &Pods) {
    pods.run(&["wait", "pod", "secure", "--for=condition=Ready", "--timeout=20s"]);
    let unready = "curl -s -X POST http://localhost:8080/unready";
    pods.run(&["exec", "secure", "--", "sh", "-c", unready]);
    pods.until("secure", "it is restarted", |status| status["restartCount"] == 1);
    pods.has_event("secure", "Readiness probe failed: HTTP probe failed with statuscode: 503");
    pods.has_event(
        "secure",
        "Liveness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    );
    pods.run(&["wait", "pod", "secure", "--for=condition=Ready", "--timeout=20s"]);
    pods.has_event("unknown-service", "Readiness probe failed: error: health rpc probe failed");
    assert_eq!(pods.container("unknown-service")["ready"], false);
}

fn a_failed_startup_probe_ends_a_container(pods: &Pods) {
    pods.until_phase("dies-at-start", "Failed");
    pods.has_event("dies-at-start", "Container c failed startup probe");
    assert_eq!(pods.container("dies-at-start")["state"]["terminated"]["exitCode"], 143);
}

fn the_restart_policy_decides(pods: &Pods) {
    pods.until_phase("never", "Failed");
    let never = pods.container("never");
    assert_eq!(never["state"]["terminated"]["exitCode"], 3);
    assert_eq!(never["restartCount"], 0);
    pods.until_phase("on-failure", "Succeeded");
    assert_eq!(pods.container("on-failure")["restartCount"], 1);
    pods.until("always", "it waits longer and longer", |status| {
        let waiting = &status["state"]["waiting"];
        waiting["reason"] == "CrashLoopBackOff"
            && waiting["message"].as_str().is_some_and(|text| text.starts_with("back-off 10s"))
    });
    let always = pods.container("always");
    assert_eq!(always["restartCount"], 1);
    assert_eq!(always["lastState"]["terminated"]["reason"], "Completed");
    assert_eq!(pods.get("always")["status"]["phase"], "Running");
    let missing = pods.lab.kubectl_output(&pods.kubectl, &["logs", "chatty", "--previous"], "");
    assert!(text(&missing).contains("previous terminated container"), "{}", text(&missing));
}

fn what_cannot_run_says_why(pods: &Pods) {
    pods.until("no-image", "it has no image", |status| {
        let waiting = &status["state"]["waiting"];
        matches!(waiting["reason"].as_str(), Some("ErrImagePull" | "ImagePullBackOff"))
            && waiting["message"]
                .as_str()
                .is_some_and(|text| text.contains("portolan/web") && text.contains("nginx:1.29"))
    });
    pods.until_phase("no-program", "Failed");
    let ended = pods.container("no-program")["state"]["terminated"].clone();
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&128.into(), &"StartError".into()));
    assert!(ended["message"].as_str().unwrap().contains("/does/not/exist"), "{ended}");
}

fn init_containers_run_in_order_and_sidecars_end_last(pods: &Pods) {
    pods.until_phase("ordered", "Succeeded");
    assert_eq!(pods.run(&["logs", "ordered", "-c", "main"]), "first\nside\nsecond\n");
    eventually("the sidecar is told to end", || pods.mark("side") == "ended\n");
}

fn a_container_knows_what_its_spec_tells_it(pods: &Pods) {
    pods.until_phase("informed", "Succeeded");
    let node = pods.get("informed")["spec"]["nodeName"].as_str().unwrap().to_owned();
    let logs = pods.run(&["logs", "informed"]);
    let (first, rest) = logs.split_once('\n').unwrap();
    let ip = first.split(' ').nth(1).unwrap();
    assert!(ip.starts_with("10.244."), "{first}");
    let expected = format!("informed {ip} {node} front http://{ip}:8080 xyzzy green cpu=2");
    assert_eq!(first, expected);
    assert!(rest.starts_with("greenxyzzytier=\"front\""), "{rest}");
    assert!(rest.ends_with("eyJ\n-----BEGIN CERTIFICATE-----\ndefault"), "{rest}");
}

fn a_pod_changes_how_names_are_found(pods: &Pods) {
    pods.until_phase("resolver", "Succeeded");
    let logs = pods.run(&["logs", "resolver"]);
    let expected = "nameserver 192.0.2.1\n\
        search default.svc.cluster.local svc.cluster.local cluster.local example.com\n\
        options ndots:2 rotate\n\
        greendeep\n";
    assert_eq!(logs, expected, "and parts of volumes are mounted");
}

fn a_pod_of_the_host_network_serves(pods: &Pods) {
    pods.run(&["wait", "pod", "host", "--for=condition=Ready", "--timeout=20s"]);
    let status = pods.get("host")["status"].clone();
    assert_eq!(status["podIP"], status["hostIP"]);
    for place in ["node1", "node2", "pod/live"] {
        let answer = pods.lab.script(place, "curl -s -m 5 http://host.default.svc.cluster.local");
        assert!(answer.contains("pod=host"), "from {place}: {answer}");
    }
}

fn logs_are_cut_as_asked(pods: &Pods) {
    pods.until("chatty", "it runs", |status| status["state"]["running"].is_object());
    eventually("it has spoken", || pods.run(&["logs", "chatty"]) == "line 1\nline 2\nline 3\n");
    assert_eq!(pods.run(&["logs", "chatty", "--tail=1"]), "line 3\n");
    assert_eq!(pods.run(&["logs", "chatty", "--limit-bytes=4"]), "line");
    assert_eq!(pods.run(&["logs", "chatty", "--since=1h", "--tail=2"]), "line 2\nline 3\n");
    assert_eq!(pods.run(&["logs", "chatty", "--since-time=2100-01-01T00:00:00Z"]), "");
    let dated = pods.run(&["logs", "chatty", "--timestamps", "--tail=1"]);
    let (time, line) = dated.split_once(' ').unwrap();
    assert!(line == "line 3\n" && time.ends_with('Z') && time.len() == 30, "{dated}");
}

fn logs_are_followed_to_the_end(pods: &Pods) {
    let kubeconfig = pods.lab.kubeconfig();
    let mut command = std::process::Command::new(&pods.kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(["logs", "-f", "chatty", "--tail=1"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    pods.run(&["exec", "chatty", "--", "touch", "/data/go"]);
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("last\n"), "{}", text(&output));
    pods.until_phase("chatty", "Succeeded");
}

fn a_datagram_passes_the_loopback_url(pods: &Pods) {
    let status = pods.lab.status().to_string();
    let at = status.find("udp://").unwrap_or_else(|| panic!("no URL: {status}"));
    let address = status[at + 6..].split('"').next().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect(address).unwrap();
    let mut answer = [0; 512];
    // A datagram may be lost.
    eventually("a datagram comes back", || {
        socket.send(b"ahoy\n").unwrap();
        socket.recv(&mut answer).is_ok_and(|length| {
            let answer = String::from_utf8_lossy(&answer[..length]);
            answer.contains("pod=live") && answer.ends_with("ahoy\n")
        })
    });
}

fn hooks_begin_and_end_containers(pods: &Pods) {
    pods.until("late", "it runs", |status| status["state"]["running"].is_object());
    assert_eq!(pods.container("late")["ready"], false, "its hook has not ended");
    std::fs::write(pods.marks.join("go"), "").unwrap();
    pods.run(&["wait", "pod", "late", "--for=condition=Ready", "--timeout=20s"]);
    let began = std::time::Instant::now();
    pods.run(&["delete", "pod", "late", "--wait=true", "--timeout=20s"]);
    assert!(began.elapsed() >= Duration::from_secs(1), "it sleeps before it ends");
    pods.until_phase("unwelcome", "Failed");
    pods.has_event("unwelcome", "PostStartHook failed: Get \"http://10.244.");
    pods.has_event("unwelcome", "FailedPostStartHook");
}

fn hooks_and_signals_end_pods(pods: &Pods) {
    for name in ["polite", "stubborn"] {
        pods.until(name, "it runs", |status| status["state"]["running"].is_object());
    }
    pods.run(&["delete", "pod", "polite", "stubborn", "--wait=true", "--timeout=20s"]);
    assert_eq!(pods.mark("polite"), "postStart\npreStop\nTERM\n");
    assert_eq!(pods.mark("stubborn"), "TERM\n", "it was killed after its grace period");
    pods.has_event("polite", "Stopping container c");
}

fn force_does_not_wait(pods: &Pods) {
    let mark = marked(&pods.marks);
    pods.until("forced", "it runs", |status| status["state"]["running"].is_object());
    let count = || processes(|line| line.contains(&mark) && line.contains("trap")).len();
    assert_eq!(count(), 1);
    pods.run(&["delete", "pod", "forced", "--force", "--grace-period=0", "--wait=true"]);
    eventually("its process has gone", || count() == 0);
}

fn marked(marks: &Path) -> String {
    marks.join("forced").display().to_string()
}
