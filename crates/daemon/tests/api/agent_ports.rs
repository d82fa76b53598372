//! Ports of the node: which have sockets, and what health check ports say.

use serde_json::{Value, json};

use crate::node::{SERVICES, SLICES, agent, block_on, http_of, inside, run, slice, until_of};
use crate::support::Api;

/// Of the node.
const ADDRESS: &str = "172.30.0.11";

/// A Service of type LoadBalancer under policy Local, with a TCP and a UDP port, as the API has it.
async fn local(api: &Api) -> Value {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "quic", "port": 80, "targetPort": 8080, "protocol": "UDP"},
            ],
        },
    });
    api.create(SERVICES, service).await
}

fn port(value: &Value) -> u16 {
    value.as_u64().and_then(|port| port.try_into().ok()).expect("is a port")
}

/// An answer of the health check port: its status line, its weight and its body.
async fn check(port: u16) -> (String, String, Value) {
    let answer = http_of(format!("{ADDRESS}:{port}").parse().expect("an address"), "/any").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("has a body");
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let weight = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-load-balancing-endpoint-weight").then(|| value.to_owned())
    });
    let body = serde_json::from_str(body).expect("is JSON");
    (status, weight.unwrap_or_default(), body)
}

async fn until_checked(port: u16, wanted: (&str, &str)) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (status, weight, body) = check(port).await;
        if (status.as_str(), weight.as_str()) == wanted {
            return body;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}, weight {weight}: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Local ports of the sockets of this network namespace that take connections or datagrams, in
/// hexadecimal.
fn sockets() -> String {
    let tables = ["tcp", "tcp6", "udp", "udp6"];
    let tables = tables.map(|name| std::fs::read_to_string(format!("/proc/self/net/{name}")));
    // TCP_LISTEN, and TCP_CLOSE of UDP (include/net/tcp_states.h).
    let takes = |state: &str| matches!(state, "0A" | "07");
    let local = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        fields.nth(1).is_some_and(takes).then(|| port.to_owned())
    };
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    lines.filter_map(local).collect::<Vec<_>>().join(" ")
}

#[test]
fn health_check_node_ports_tell_of_ready_endpoints_on_the_node() {
    // Semantics 4.10: those that terminate do not count, whatever traffic they still get (D22).
    if !inside("agent_ports::health_check_node_ports_tell_of_ready_endpoints_on_the_node") {
        return;
    }
    block_on(async {
        run("ip", &["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
        let api = Api::start().await;
        api.node("node1", ADDRESS, "10.244.0.0/24").await;
        let _agent = agent(&api);
        let created = local(&api).await;
        let health = port(&created["spec"]["healthCheckNodePort"]);
        let mut endpoints = slice("web", &["10.244.0.2", "10.244.0.3", "10.244.1.2"]);
        for (index, node) in ["node1", "node1", "node2"].iter().enumerate() {
            endpoints["endpoints"][index]["nodeName"] = json!(node);
        }
        api.create(SLICES, endpoints).await;
        let body = until_checked(health, ("200", "2")).await;
        assert_eq!(body["service"], json!({"namespace": "default", "name": "web"}));
        assert_eq!(body["localEndpoints"], 2);
        assert_eq!(body["serviceProxyHealthy"], true);

        let leaving = json!({"endpoints": [{
            "addresses": ["10.244.0.2"], "nodeName": "node1",
            "conditions": {"ready": false, "serving": true, "terminating": true},
        }]});
        api.merge(&format!("{SLICES}/web-1"), leaving).await;
        let body = until_checked(health, ("503", "0")).await;
        assert_eq!(body["localEndpoints"], 0);

        let cluster = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
        api.merge(&format!("{SERVICES}/web"), cluster).await;
        let health = format!("{health:04X}");
        until_of(sockets, "the health check port is closed", |open| !open.contains(&health)).await;
    });
}

#[test]
fn no_socket_is_opened_for_node_ports() {
    // D32; health check ports have one.
    if !inside("agent_ports::no_socket_is_opened_for_node_ports") {
        return;
    }
    block_on(async {
        run("ip", &["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
        let api = Api::start().await;
        api.node("node1", ADDRESS, "10.244.0.0/24").await;
        let _agent = agent(&api);
        let created = local(&api).await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        let health = format!("{:04X}", port(&created["spec"]["healthCheckNodePort"]));
        // It is opened after the node ports have been programmed.
        until_of(sockets, "the health check port", |open| open.contains(&health)).await;
        let open = sockets();
        for which in 0..2 {
            let number = port(&created["spec"]["ports"][which]["nodePort"]);
            assert!(!open.contains(&format!("{number:04X}")), "{number}: {open}");
        }
        api.delete(&format!("{SERVICES}/web")).await;
        until_of(sockets, "no port is left", |open| !open.contains(&health)).await;
    });
}
