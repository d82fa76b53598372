//! A process with CAP_NET_ADMIN and nothing else, on a read-only /proc/sys as in a container: what
//! works, and what is told of the rest.

use std::process::Command;

use serde_json::{Value, json};

use crate::api::Api;
use crate::kernel::programmed;
use crate::place::{block_on, inside, run};
use crate::process::{Process, portolan, until};

/// `portolan agent status` of the agent that runs here.
fn status() -> Option<Value> {
    let output = portolan(&["agent", "status", "-o", "json"]).output().expect("can start");
    serde_json::from_slice(&output.stdout).ok()
}

/// An agent whose capabilities are these only.
fn limited(capabilities: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(testkit::program("setpriv").expect("was looked for"));
    command.arg(format!("--bounding-set=-all{capabilities}")).args(["--no-new-privs", "--"]);
    command.arg(env!("CARGO_BIN_EXE_portolan")).args(["agent", "--hostname-override=node1"]);
    Process::start({
        command.args(arguments);
        command
    })
}

fn can_run(test: &str) -> bool {
    if testkit::program("setpriv").is_none() {
        testkit::skip(test, "the program setpriv is not here");
        return false;
    }
    inside(test)
}

fn read_only_proc_sys() {
    run("mount", &["--bind", "/proc/sys", "/proc/sys"]);
    run("mount", &["-o", "remount,bind,ro", "/proc/sys"]);
}

#[test]
fn with_net_admin_alone_services_work_and_the_rest_is_named() {
    // D47.
    if !can_run("capabilities::with_net_admin_alone_services_work_and_the_rest_is_named") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        api.service("web", "10.244.0.2").await;
        read_only_proc_sys();
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"})).display().to_string();
        let agent = limited(
            ",+net_admin",
            &[
                "--kubeconfig",
                &kubeconfig,
                "--conntrack-tcp-timeout-close-wait=1234s",
                "--nodeport-addresses=primary,localhost",
                "--oom-score-adj=-999",
            ],
        );
        programmed("10.244.0.2").await;
        run("nft", &["delete", "table", "ip", "portolan"]);
        programmed("10.244.0.2").await;
        until("the report is complete", || {
            status().filter(|all| all["node"]["programmed"] == true)
        })
        .await;
        let report = status().expect("the agent answers");
        let warnings = report["node"]["warnings"].as_array().expect("a list");
        let told = |parts: &[&str]| {
            let text = |warning: &Value| warning.as_str().unwrap_or_default().to_owned();
            let holds = |text: &String| parts.iter().all(|part| text.contains(part));
            assert!(warnings.iter().map(text).any(|text| holds(&text)), "{parts:?}: {report:#}");
        };
        told(&["nf_conntrack_tcp_timeout_close_wait to 1234", "--init-only", "Read-only"]);
        told(&["node ports do not answer on 127.0.0.1", "route_localnet"]);
        told(&["forwards no IPv4 packets", "sysctl -w net.ipv4.ip_forward=1"]);
        assert!(agent.said("oomScoreAdj to -999: needs CAP_SYS_RESOURCE").is_some());
        let ipv6 = warnings.iter().any(|warning| warning.to_string().contains("IPv6"));
        assert!(!ipv6, "the Node has no IPv6 address: {report:#}");
    });
}

#[test]
fn announcing_needs_net_raw_and_says_so() {
    // D47.
    if !can_run("capabilities::announcing_needs_net_raw_and_says_so") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"})).display().to_string();
        let announcing = ["--kubeconfig", &kubeconfig, "--announce-interface=lo"];
        let mut agent = limited(",+net_admin", &announcing);
        assert!(!agent.ends().await.success(), "it was asked for what cannot be done");
        agent.says("needs CAP_NET_RAW").await;
        let mut agent = limited(",+net_admin,+net_raw", &announcing);
        until("the agent answers", status).await;
        assert!(agent.is_running());
    });
}

#[test]
fn chains_that_only_a_missing_program_can_remove_are_told() {
    if !inside("capabilities::chains_that_only_a_missing_program_can_remove_are_told") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        run("nft", &["add table ip nat; add chain ip nat KUBE-SERVICES"]);
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"})).display().to_string();
        let mut command = portolan(&["agent", "--hostname-override=node1", "--replace-kube-proxy"]);
        command.args(["--kubeconfig", &kubeconfig]).env("PATH", "/nonexistent");
        let agent = Process::start(command);
        let line = agent.says("could not remove a kube-proxy's 1 KUBE-* chain").await;
        assert!(line.contains("kube-proxy --cleanup"), "{line}");
        let left = |all: &Value| all["node"]["warnings"].to_string().contains("iptables-nft: nat");
        until("the report tells", || status().filter(left)).await;
    });
}

#[test]
fn without_net_admin_the_agent_says_so_and_stays() {
    // D47.
    if !can_run("capabilities::without_net_admin_the_agent_says_so_and_stays") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"})).display().to_string();
        let mut agent = limited("", &["--kubeconfig", &kubeconfig]);
        agent.says("lacks CAP_NET_ADMIN").await;
        let refused = |report: &Value| report["node"]["error"].is_string();
        let report = until("the report tells", || status().filter(refused)).await;
        assert_eq!(report["node"]["programmed"], false);
        assert!(agent.is_running(), "somebody may ask it why");
        let output = portolan(&["agent", "status"]).output().expect("can start");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(table.contains("CAP_NET_ADMIN") && output.status.success(), "{table}");
    });
}
