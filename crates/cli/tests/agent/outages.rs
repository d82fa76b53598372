//! API servers that are away, that come back with another history, and Nodes that change meanwhile.

use std::process::Command;

use futures::StreamExt as _;
use serde_json::json;

use crate::api::Api;
use crate::kernel::{Monitor, gone, maps, programmed, ruleset};
use crate::place::{block_on, inside};
use crate::process::{Process, agent, portolan, until};
use crate::relay::Relay;

/// What a command prints.
fn output(mut command: Command) -> String {
    let output = command.output().expect("can start");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_second_agent_on_a_node_is_told_of_the_first() {
    if !inside("outages::a_second_agent_on_a_node_is_told_of_the_first") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        let start = || agent(&["--kubeconfig", &kubeconfig.display().to_string()]);
        let (mut first, mut second) = (start(), start());
        let told = |one: &Process| one.said("another agent programs this node already");
        let line = until("one of them is told", || told(&first).or_else(|| told(&second))).await;
        assert!(line.contains("WARN"), "{line}");
        assert!(first.is_running() && second.is_running(), "one may take the other's place");
        let taken = |one: &Process| one.said("does a kube-proxy or another agent run here?");
        until("its port is taken", || taken(&first).or_else(|| taken(&second))).await;
    });
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    // D6, D48.
    if !inside("outages::a_server_that_is_away_at_the_start_is_waited_for") {
        return;
    }
    block_on(async {
        let mut api = Api::start().await;
        api.node("10.244.0.0/24").await;
        let address = api.service("web", "10.244.0.2").await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        let kubeconfig = kubeconfig.display().to_string();
        let mut first = agent(&["--kubeconfig", &kubeconfig]);
        programmed("10.244.0.2").await;
        first.kill();
        api.kill();

        let monitor = Monitor::start().await;
        let second = agent(&["--kubeconfig", &kubeconfig]);
        second.says("with the last known state").await;
        let table = output(portolan(&["agent", "status"]));
        let reason = format!("no answer from the API server at {}", api.address);
        assert!(table.contains("waits for") && table.contains(&reason), "{table}");
        let refusal = output(portolan(&["agent", "--dry-run", "--kubeconfig", &kubeconfig]));
        assert!(refusal.contains("error: cannot plan without") && refusal.contains(&reason));
        api.resume().await;
        api.service("late", "10.244.0.7").await;
        programmed("10.244.0.7").await;
        assert_untouched(&monitor.losses().await, &[&address, "10.244.0.2"]);
    });
}

/// Nothing that names one of these was removed, and nothing was removed as a whole.
fn assert_untouched(losses: &[String], kept: &[&str]) {
    for loss in losses {
        let touches = kept.iter().any(|kept| loss.contains(kept));
        assert!(loss.starts_with("delete element") && !touches, "{losses:#?}");
    }
}

#[test]
fn a_history_that_is_gone_is_listed_again_and_nothing_in_use_is_touched() {
    if !inside("outages::a_history_that_is_gone_is_listed_again_and_nothing_in_use_is_touched") {
        return;
    }
    block_on(async {
        let mut api = Api::start().await;
        api.node("10.244.0.0/24").await;
        let address = api.service("stays", "10.244.0.2").await;
        api.service("goes", "10.244.0.3").await;
        let relay = Relay::to(&api.address);
        let direct = std::mem::replace(&mut api.address, relay.address.clone());
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        api.address = direct;
        let mut command = portolan(&["agent", "--hostname-override=node1"]);
        command.arg("--kubeconfig").arg(kubeconfig);
        command.env("PORTOLAN_LOG", "info,portolan_cluster=debug");
        let agent = Process::start(command);
        programmed("10.244.0.2").await;
        programmed("10.244.0.3").await;

        let monitor = Monitor::start().await;
        relay.cut();
        agent.says("with the last known state").await;
        // A server that starts remembers no earlier events.
        api.delete_service("goes").await;
        api.restart().await;
        api.service("comes", "10.244.0.4").await;
        relay.mend();
        programmed("10.244.0.4").await;
        gone("10.244.0.3").await;
        assert!(agent.said("listing again").is_some(), "the server has answered 410 Gone");
        assert!(maps().contains("10.244.0.2"));
        assert_untouched(&monitor.losses().await, &[&address, "10.244.0.2"]);
    });
}

#[test]
fn long_lists_arrive_whole() {
    if !inside("outages::long_lists_arrive_whole") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        let api = &api;
        let make = |number: u32| async move {
            let endpoint = format!("10.244.0.{}", number + 2);
            api.service(&format!("web-{number}"), &endpoint).await
        };
        futures::stream::iter(0..120).map(make).buffer_unordered(8).count().await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        let _agent = agent(&["--kubeconfig", &kubeconfig.display().to_string()]);
        until("every endpoint is programmed", || {
            let held = maps();
            held.contains("10.244.0.2").then_some(())?;
            held.contains("10.244.0.121").then_some(())
        })
        .await;
    });
}

#[test]
fn another_pod_cidr_counts_without_a_restart() {
    // D13, D49: kube-proxy ends and is started again.
    if !inside("outages::another_pod_cidr_counts_without_a_restart") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        api.service("web", "10.244.9.2").await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        let mut agent = agent(&[
            "--kubeconfig",
            &kubeconfig.display().to_string(),
            "--detect-local-mode=NodeCIDR",
        ]);
        programmed("10.244.9.2").await;
        assert!(ruleset().contains("10.244.0.0/24"));

        // A podCIDR cannot be changed, but a Node can come again with another one.
        let monitor = Monitor::start().await;
        api.delete("/api/v1/nodes/node1").await;
        api.node("10.244.7.0/24").await;
        until("the next range counts", || {
            let held = ruleset();
            (held.contains("10.244.7.0/24") && !held.contains("10.244.0.0/24")).then_some(())
        })
        .await;
        assert!(agent.is_running());
        let losses = monitor.losses().await;
        let endpoints = losses.iter().filter(|line| line.contains("10.244.9.2"));
        assert_eq!(endpoints.count(), 0, "{losses:#?}");
    });
}
