//! The agent's HTTP pages, its report, and what it says when something is missing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use portolan_daemon::agent::dry_run::{Mark, Owner, dry_run};
use serde_json::{Value, json};

use crate::node::{
    SERVICES, SLICES, agent, agent_with, block_on, config, http, http_of, inside, inside_with,
    ruleset, run, service, slice, until, until_http, until_of,
};
use crate::support::Api;

fn status(page: &str) -> &str {
    page.split(' ').nth(1).unwrap_or_default()
}

fn body(page: &str) -> Value {
    let (_, body) = page.split_once("\r\n\r\n").expect("has a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {page}"))
}

#[test]
fn healthz_follows_the_node_and_livez_does_not() {
    if !inside("agent_pages::healthz_follows_the_node_and_livez_does_not") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let _agent = agent(&api);
        let page = until_http(10256, "/healthz", |page| status(page) == "503").await;
        assert_eq!(body(&page)["nodeEligible"], false, "the Node is missing");
        assert_eq!(status(&http(10256, "/livez").await), "200");
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let page = until_http(10256, "/healthz", |page| status(page) == "200").await;
        assert_eq!(body(&page)["nodeEligible"], true);
        assert_eq!(body(&page)["status"]["IPv4"]["healthy"], true);

        let taint = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
        api.merge("/api/v1/nodes/node1", json!({"spec": {"taints": taint}})).await;
        until_http(10256, "/healthz", |page| status(page) == "503").await;
        assert_eq!(status(&http(10256, "/livez").await), "200");
        api.merge("/api/v1/nodes/node1", json!({"spec": {"taints": null}})).await;
        until_http(10256, "/healthz", |page| status(page) == "200").await;

        let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
        api.merge("/api/v1/nodes/node1", held).await;
        api.delete("/api/v1/nodes/node1").await;
        until_http(10256, "/healthz", |page| status(page) == "503").await;
        api.merge("/api/v1/nodes/node1", json!({"metadata": {"finalizers": null}})).await;
        let metrics = http(10249, "/metrics").await;
        assert!(metrics.contains(r#"kubeproxy_proxy_healthz_total{code="503"}"#), "{metrics}");
    });
}

#[test]
fn the_report_tells_what_is_done_and_why_not_more() {
    if !inside("agent_pages::the_report_tells_what_is_done_and_why_not_more") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let _agent = agent(&api);
        let waiting = |page: &str| page.contains("Node node1 in the API");
        let report = body(&until_http(10249, "/services", waiting).await);
        assert_eq!(report["node"]["programmed"], false);
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        let local = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "local"},
            "spec": {"internalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80}]},
        });
        api.create(SERVICES, local).await;
        api.create(SLICES, slice("local", &["10.244.0.3"])).await;
        service(&api, "empty").await;
        until("the last Service is there", |held| held.contains("10.244.0.2")).await;
        let done = |page: &str| page.contains("10.244.0.2:8080") && page.contains("empty");
        let report = body(&until_http(10249, "/services?namespace=default", done).await);
        let node = &report["node"];
        assert_eq!(node["programmed"], true, "{report:#}");
        assert_eq!(node["nodePortAddresses"], json!(["172.30.0.11"]));
        assert_eq!(node["localDetector"], "NodeCIDR 10.244.0.0/24");
        let of = |name: &str| {
            let services = report["services"].as_array().expect("a list");
            services.iter().find(|service| service["name"] == name).expect("is there").clone()
        };
        let web = of("web");
        assert_eq!(web["frontends"][0]["address"], address.as_str());
        assert_eq!(web["frontends"][0]["action"], "balance");
        assert_eq!(web["reasons"], json!([]));
        assert_eq!(of("empty")["frontends"][0]["action"], "reject");
        assert_eq!(of("empty")["reasons"], json!(["no endpoint is ready"]));
        assert_eq!(of("local")["frontends"][0]["action"], "drop");
        let one = body(&http(10249, "/services?name=web").await);
        assert_eq!(one["services"].as_array().map(Vec::len), Some(1));
        let metrics = http(10249, "/metrics").await;
        let dropped = "kubeproxy_sync_proxy_rules_no_local_endpoints_total\
                       {ip_family=\"IPv4\",traffic_policy=\"internal\"} 1";
        assert!(metrics.contains(dropped), "{metrics}");
    });
}

#[test]
fn kube_proxys_pages_are_served_over_ipv6_too() {
    if !inside("agent_pages::kube_proxys_pages_are_served_over_ipv6_too") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let mut config = config(&api);
        config.metrics_bind = Some("[::1]:10249".parse().expect("is an address"));
        config.health_bind = Some("[::]:10256".parse().expect("is an address"));
        config.configuration = json!({"kind": "KubeProxyConfiguration"});
        config.flags = [("v".to_owned(), "4".to_owned())].into();
        let _agent = agent_with(config);
        let page =
            async |path: &str| http_of("[::1]:10249".parse().expect("is an address"), path).await;
        assert!(page("/proxyMode").await.ends_with("nftables"));
        assert!(page("/healthz").await.ends_with("ok"));
        let configz = body(&page("/configz").await);
        assert_eq!(configz["kubeproxy.config.k8s.io"]["kind"], "KubeProxyConfiguration");
        assert!(page("/flagz").await.contains("\nv=4\n"));
        assert!(page("/statusz").await.contains("Version: "));
        let profile = page("/debug/pprof/heap").await;
        assert!(status(&profile) == "404" && profile.contains("pprof is for Go"), "{profile}");
        let health = http_of("[::1]:10256".parse().expect("is an address"), "/livez").await;
        assert_eq!(status(&health), "200");
    });
}

#[test]
fn an_address_that_is_taken_is_tried_again_unless_that_is_fatal() {
    if !inside("agent_pages::an_address_that_is_taken_is_tried_again_unless_that_is_fatal") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        let mut config = config(&api);
        let taken = std::net::TcpListener::bind("127.0.0.1:10256").expect("is free");
        let failed =
            portolan_daemon::agent::run(config.clone(), std::future::pending()).await.unwrap_err();
        assert!(failed.to_string().contains("--healthz-bind-address"), "{failed:#}");
        config.bind_hard_fail = false;
        let _agent = agent_with(config);
        assert_eq!(status(&http(10249, "/livez").await), "200");
        drop(taken);
        assert_eq!(status(&http(10256, "/livez").await), "200");
    });
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_it_would() {
    if !inside("agent_pages::a_dry_run_changes_nothing_and_tells_what_it_would") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        let difference = dry_run(&config(&api)).await.expect("can be planned");
        assert_eq!(ruleset(), "", "nothing was changed");
        let web = Owner::Service(model::ServiceName::new("default", "web"));
        let change = &difference.changes[&web];
        assert_eq!(change.mark, Mark::Plus);
        let endpoint = format!("ip endpoints {{ {address} . tcp . 80 . 0 : 10.244.0.2 . 8080 }}");
        assert!(change.lines.contains(&(Mark::Plus, endpoint)), "{change:?}");

        let running = agent(&api);
        until("the Service is there", |held| held.contains("10.244.0.2")).await;
        drop(running);
        let difference = dry_run(&config(&api)).await.expect("can be planned");
        assert!(difference.changes.is_empty(), "{difference:?}");
        api.delete(&format!("{SERVICES}/web")).await;
        let difference = dry_run(&config(&api)).await.expect("can be planned");
        let gone = Owner::Nobodys(format!("{address}:80/TCP"));
        assert_eq!(difference.changes[&gone].mark, Mark::Minus, "{difference:?}");

        portolan_daemon::agent::cleanup().expect("the kernel is willing");
        assert_eq!(ruleset(), "", "cleaning up leaves nothing");
    });
}

#[test]
fn net_admin_is_the_only_capability_that_is_needed() {
    // D47.
    let only = ["setpriv", "--bounding-set=-all,+net_admin", "--"];
    if !inside_with("agent_pages::net_admin_is_the_only_capability_that_is_needed", &only) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the Service is there", |held| held.contains("10.244.0.2")).await;
        let report = body(&http(10249, "/services").await);
        let warnings = report["node"]["warnings"].to_string();
        assert!(!warnings.contains("CAP_"), "{warnings}");
    });
}

#[test]
fn a_missing_capability_is_named() {
    // D47.
    let without = ["setpriv", "--bounding-set=-net_admin", "--"];
    if !inside_with("agent_pages::a_missing_capability_is_named", &without) {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        let refused = |page: &str| body(page)["node"]["error"].is_string();
        let report = body(&until_http(10249, "/services", refused).await);
        let warning = report["node"]["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.contains("lacks CAP_NET_ADMIN"), "{report:#}");
        assert_eq!(report["node"]["programmed"], false);
    });
}

#[test]
fn a_service_manager_is_told_when_services_work() {
    let socket = "@portolan-test-notify";
    let manager = ["env", "NOTIFY_SOCKET=@portolan-test-notify", "WATCHDOG_USEC=100000"];
    let test = "agent_pages::a_service_manager_is_told_when_services_work";
    if !inside_with(test, &manager) {
        return;
    }
    block_on(async {
        let name = SocketAddr::from_abstract_name(&socket[1..]).expect("is a name");
        let manager = UnixDatagram::bind_addr(&name).expect("is free in this namespace");
        manager.set_nonblocking(true).expect("can be set");
        let manager = tokio::net::UnixDatagram::from_std(manager).expect("a runtime");
        let told = async || {
            let mut text = [0; 512];
            let length = manager.recv(&mut text).await.expect("can be read");
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        let api = Api::start().await;
        let _agent = agent(&api);
        let waits = |text: &str| text.contains("STATUS=waits for Node node1 in the API");
        loop {
            let text = told().await;
            assert!(!text.contains("READY=1"), "nothing works yet: {text}");
            if waits(&text) {
                break;
            }
        }
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        while !told().await.starts_with("READY=1\nSTATUS=") {}
        while told().await != "WATCHDOG=1\n" {}
    });
}

#[test]
fn connections_are_counted_when_asked_for() {
    if !inside("agent_pages::connections_are_counted_when_asked_for") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "127.0.0.1", "10.244.0.0/24").await;
        let mut config = config(&api);
        config.counters = true;
        let _agent = agent_with(config);
        // Nobody is behind it: connections are refused, and counted as that.
        let address = service(&api, "web").await;
        until_of(ruleset, "the Service is there", |held| held.contains(&address)).await;
        run("ip", &["route", "add", "10.96.0.0/12", "dev", "lo"]);
        let refused = tokio::net::TcpStream::connect((address.as_str(), 80)).await;
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        let counters = body(&http(10249, "/counters").await);
        let web = &counters["services"].as_array().expect("a list").iter();
        let web = web.clone().find(|one| one["name"] == "web").expect("is counted");
        assert_eq!(web["refused"], 1, "{counters:#}");
        let metrics = http(10249, "/metrics").await;
        let line = "portolan_service_connections_total\
                    {namespace=\"default\",service=\"web\",result=\"refused\"} 1";
        assert!(metrics.contains(line) && metrics.ends_with("# EOF\n"), "{metrics}");

        run("ip", &["address", "add", "10.244.0.2/32", "dev", "lo"]);
        let server = tokio::net::TcpListener::bind("10.244.0.2:8080").await.expect("is free");
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until_of(ruleset, "the endpoint is there", |held| held.contains("10.244.0.2")).await;
        let client = tokio::net::TcpStream::connect((address.as_str(), 80)).await;
        drop((client.expect("is accepted"), server));
        let counters = body(&http(10249, "/counters").await);
        let web = &counters["services"][0];
        assert_eq!(web["connections"], 1, "{counters:#}");
        let endpoint = &web["endpoints"]["10.244.0.2:8080"];
        assert_eq!(endpoint["to"], web["to"], "{counters:#}");
        let metrics = http(10249, "/metrics").await;
        let of_endpoint = |line: &&str| line.contains("endpoint=\"10.244.0.2:8080\"");
        let found: Vec<&str> = metrics.lines().filter(of_endpoint).collect();
        assert!(found.len() == 5 && !found.iter().any(|line| line.ends_with(" 0")), "{found:?}");
    });
}
