//! Changes of the node and of the cluster's addresses, credentials, and a server that comes and goes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::node::{
    SLICES, agent, agent_with, block_on, config, inside, needs_own_server, ruleset, service, slice,
    until, until_of,
};
use crate::support::Api;

#[test]
fn changes_of_the_node_apply_at_once() {
    // D49.
    if !inside("agent_changes::changes_of_the_node_apply_at_once") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let _agent = agent(&api);
        // The Node comes after the agent: nothing is programmed before.
        service(&api, "web").await;
        let mut hinted = slice("web", &["10.244.0.2", "10.244.1.2"]);
        for (index, zone) in ["east", "west"].iter().enumerate() {
            hinted["endpoints"][index]["hints"] = json!({"forZones": [{"name": zone}]});
        }
        api.create(SLICES, hinted).await;
        assert_eq!(ruleset(), "");
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let both = |held: &str| held.contains("10.244.0.2") && held.contains("10.244.1.2");
        until("both endpoints without a zone", both).await;

        let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "west"}}});
        api.merge("/api/v1/nodes/node1", zone).await;
        until("the hinted endpoint only", |held| {
            !held.contains("10.244.0.2") && held.contains("10.244.1.2")
        })
        .await;

        let addresses = json!([{"type": "InternalIP", "address": "172.30.0.99"}]);
        api.merge("/api/v1/nodes/node1/status", json!({"status": {"addresses": addresses}})).await;
        until_of(ruleset, "the node's new address", |held| {
            held.contains("172.30.0.99") && !held.contains("172.30.0.11")
        })
        .await;
    });
}

#[test]
fn changes_of_service_cidrs_apply_at_once() {
    // D49; kube-proxy waits for its next full sync.
    if !inside("agent_changes::changes_of_service_cidrs_apply_at_once") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        until_of(ruleset, "our tables", |held| held.contains("table ip portolan")).await;
        assert!(!ruleset().contains("10.112.0.0/16"));
        let range = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "more"}, "spec": {"cidrs": ["10.112.0.0/16"]},
        });
        api.create("/apis/networking.k8s.io/v1/servicecidrs", range).await;
        until_of(ruleset, "the second range", |held| held.contains("10.112.0.0/16")).await;
    });
}

#[test]
fn a_server_that_restarts_is_followed_again() {
    // Its history is gone with it: old watches get 410 Gone and everything is listed again.
    let test = "agent_changes::a_server_that_restarts_is_followed_again";
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let mut api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the endpoint is there", |held| held.contains("10.244.0.2")).await;
        for round in 3..6 {
            let (folder, port) = api.stop().await;
            api = Api::start_in(folder, port).await;
            let address = format!("10.244.0.{round}");
            let endpoints = json!({"endpoints": [{"addresses": [address]}]});
            api.merge(&format!("{SLICES}/web-1"), endpoints).await;
            until("the next endpoint is there", |held| held.contains(&address)).await;
        }
    });
}

/// A kubeconfig that names the same server and has its credentials from elsewhere.
fn with_user(api: &Api, user: &str) -> PathBuf {
    let text = std::fs::read_to_string(&api.kubeconfig).expect("can be read");
    let text = text.replace("user: {token: T}", &format!("user: {user}"));
    let path = api.kubeconfig.with_file_name("other-kubeconfig");
    std::fs::write(&path, text).expect("can be written");
    path
}

async fn programs_with(api: &Api, kubeconfig: &Path) {
    api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
    let mut config = config(api);
    config.kubeconfig = Some(kubeconfig.to_owned());
    let _agent = agent_with(config);
    service(api, "web").await;
    api.create(SLICES, slice("web", &["10.244.0.2"])).await;
    until("the endpoint is there", |held| held.contains("10.244.0.2")).await;
}

#[test]
fn an_exec_plug_in_gives_the_credentials() {
    let test = "agent_changes::an_exec_plug_in_gives_the_credentials";
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let plug_in = api.kubeconfig.with_file_name("plug-in");
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"token": "T"},
        });
        std::fs::write(&plug_in, format!("#!/bin/sh\necho '{credential}'\n")).expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&plug_in, mode).expect("can be made a program");
        let user: Value = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plug_in,
            "interactiveMode": "Never",
        }});
        programs_with(&api, &with_user(&api, &user.to_string())).await;
    });
}

#[test]
fn a_token_file_gives_the_credentials() {
    let test = "agent_changes::a_token_file_gives_the_credentials";
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let file = api.kubeconfig.with_file_name("token");
        std::fs::write(&file, "T").expect("can be written");
        let user = json!({ "tokenFile": file });
        programs_with(&api, &with_user(&api, &user.to_string())).await;
    });
}

#[test]
fn another_server_can_be_named() {
    let test = "agent_changes::another_server_can_be_named";
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let mut config = config(&api);
        let text = std::fs::read_to_string(&api.kubeconfig).expect("can be read");
        let wrong = api.kubeconfig.with_file_name("wrong");
        let address = api.address.to_string();
        std::fs::write(&wrong, text.replace(&address, "127.0.0.1:1")).expect("can be written");
        config.kubeconfig = Some(wrong);
        config.server = Some(format!("https://{address}"));
        let _agent = agent_with(config);
        until_of(ruleset, "our tables", |held| held.contains("table ip portolan")).await;
    });
}
