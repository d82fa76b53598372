//! Nothing stays when a lab ends, by whatever hand.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Lab, eventually, processes};
use crate::reach::DUAL_STACK;

#[test]
fn nothing_is_left_behind() {
    let test = "nothing_is_left_behind";
    if let Some(reason) = testkit::no_namespaces() {
        return testkit::skip(test, &format!("no unprivileged namespaces: {reason}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("web.yaml");
    std::fs::write(&manifest, DUAL_STACK).unwrap();
    let state = folder.path().join("state");
    // One state folder for all: each `up` follows the bad end of the one before.
    for (who, signal) in [
        (Who::Outer, Signal::SIGINT),
        (Who::Outer, Signal::SIGTERM),
        (Who::Outer, Signal::SIGKILL),
        (Who::Supervisor, Signal::SIGKILL),
        (Who::Init, Signal::SIGKILL),
        (Who::Outer, Signal::SIGINT),
    ] {
        let mut up = up(&state, &manifest);
        let outer = Pid::from_raw(i32::try_from(up.id()).unwrap());
        let supervisor = child_of(outer);
        let init = child_of(supervisor);
        let inside = std::fs::read_link(format!("/proc/{init}/ns/pid")).unwrap();
        assert!(count_in(&inside) >= 8, "the lab's own pid namespace holds its processes");
        let victim = match who {
            Who::Outer => outer,
            Who::Supervisor => supervisor,
            Who::Init => init,
        };
        kill(victim, signal).unwrap();
        let status = up.wait().unwrap();
        if signal != Signal::SIGKILL {
            assert!(status.success(), "{signal}: {status}");
        }
        eventually(&format!("no process after {signal}"), || {
            count_in(&inside) == 0
                && processes(|line| line.contains(&state.display().to_string())).is_empty()
        });
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&state.display().to_string()), "{mounts}");
        let run = std::fs::read_dir(state.join("run")).unwrap().count();
        assert_eq!(run, 0, "what is in run/ lives in memory only");
        let down = portolan(&state, "down").output().unwrap();
        assert!(down.status.success(), "down after {signal}: {down:?}");
        assert!(!state.join("control.sock").exists(), "after {signal} and down");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "files outside the state folder: {names:?}");
}

#[test]
fn sixteen_nodes_start_and_answer() {
    let test = "sixteen_nodes_start_and_answer";
    let Some(lab) = Lab::start(test, DUAL_STACK, &["--nodes", "16"]) else { return };
    let status = lab.status();
    let nodes = status["nodes"].as_array().unwrap();
    assert!(nodes.len() == 16 && nodes.iter().all(|node| node["ready"] == true), "{status}");
    let ask = "for i in $(seq 16); do curl -s -m 2 http://node$i:30007/; done";
    let answers = lab.script("client", ask);
    assert_eq!(answers.matches("pod=").count(), 16, "{answers}");
}

#[test]
fn loopback_urls_lead_to_every_node_and_the_load_balancer() {
    let test = "loopback_urls_lead_to_every_node_and_the_load_balancer";
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let status = lab.status();
    let mut leads = Vec::new();
    for service in status["services"].as_array().unwrap() {
        for url in service["urls"].as_array().unwrap() {
            if url["protocol"] != "TCP" {
                continue;
            }
            let output = Command::new("curl")
                .args(["-s", "-m", "5", url["url"].as_str().unwrap()])
                .output()
                .unwrap();
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(answer.contains("pod="), "{url}: {answer}");
            leads.push(url["leads_to"].as_str().unwrap().to_owned());
        }
    }
    for wanted in ["node1:30007", "node2:30007", "172.30.0.192:80"] {
        assert!(leads.iter().any(|lead| lead == wanted), "{wanted} is not among {leads:?}");
    }
}

#[derive(Clone, Copy)]
enum Who {
    Outer,
    Supervisor,
    Init,
}

/// `portolan up` in the foreground, once everything answers.
fn up(state: &Path, manifest: &Path) -> Child {
    let mut command = portolan(state, "up");
    command.args(["--output", "json", "-f"]).arg(manifest);
    let mut up =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The table is one JSON object: its end is a line of its own.
    let lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let mut heard = Vec::new();
    for line in lines.map_while(Result::ok) {
        let last = line == "}";
        heard.push(line);
        if last {
            return up;
        }
    }
    panic!("portolan up ended: {:?}\n{heard:?}", up.wait_with_output());
}

fn portolan(state: &Path, command: &str) -> Command {
    let mut portolan = Command::new(env!("CARGO_BIN_EXE_portolan"));
    portolan.arg(command).arg("--state").arg(state);
    portolan
}

fn child_of(parent: Pid) -> Pid {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    Pid::from_raw(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// How many processes live in a pid namespace.
fn count_in(namespace: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == namespace)
    })
    .count()
}
