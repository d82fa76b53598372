//! The agent in a network namespace of its own, read back by the independent `nft` program.

use std::process::Command;
use std::time::Duration;

use portolan_daemon::agent::{AgentConfig, run};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::Api;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "PORTOLAN_TEST_INSIDE";

/// Runs a test of this file inside a network namespace. True in the process that is inside.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        let ip = testkit::program("ip").expect("was found outside");
        let up = Command::new(ip).args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "loopback comes up");
        return true;
    }
    if let Some(reason) = testkit::no_namespaces() {
        testkit::skip(test, &reason);
        return false;
    }
    for program in ["nft", "ip"] {
        if testkit::program(program).is_none() {
            testkit::skip(test, &format!("the program {program} is not here"));
            return false;
        }
    }
    let unshare = testkit::program("unshare").expect("was found above");
    let status = Command::new(unshare)
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("has a path"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("can start");
    assert!(status.success(), "the test failed inside its namespace");
    false
}

fn block_on(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(test);
}

fn agent(api: &Api) -> JoinSet<()> {
    let mut config = AgentConfig::new("node1".into());
    config.kubeconfig = Some(api.kubeconfig.clone());
    config.health_bind = Some(([127, 0, 0, 1], 10256).into());
    let mut task = JoinSet::new();
    task.spawn(async {
        run(config, std::future::pending()).await.unwrap_or_else(|error| panic!("{error:?}"));
    });
    task
}

async fn service(api: &Api, name: &str) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    let created = api.create(SERVICES, service).await;
    created["spec"]["clusterIP"].as_str().expect("has an address").to_owned()
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|&one| json!({"addresses": [one]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

/// The maps that the kernel holds, in nft's words: Services and endpoints are their elements.
fn maps() -> String {
    let nft = testkit::program("nft").expect("was found");
    let output = Command::new(nft).args(["list", "maps"]).output().expect("can start");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn until(what: &str, mut holds: impl FnMut(&str) -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let held = maps();
        if holds(&held) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}:\n{held}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn http(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("can write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("can read");
    answer
}

#[test]
fn endpoints_reach_the_kernel_and_leave_it() {
    // D44.
    if !inside("agent::endpoints_reach_the_kernel_and_leave_it") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2", "10.244.1.2"])).await;
        until("both endpoints are there", |held| {
            held.contains(&address) && held.contains("10.244.0.2") && held.contains("10.244.1.2")
        })
        .await;
        let one = json!({"endpoints": [{"addresses": ["10.244.1.2"]}]});
        api.merge(&format!("{SLICES}/web-1"), one).await;
        until("one endpoint is gone", |held| {
            !held.contains("10.244.0.2") && held.contains("10.244.1.2")
        })
        .await;
        let health = http(10256, "/healthz").await;
        assert!(health.starts_with("HTTP/1.1 200") && health.contains("lastUpdated"), "{health}");
        assert!(http(10249, "/proxyMode").await.ends_with("nftables"));
        let metrics = http(10249, "/metrics").await;
        assert!(metrics.contains("kubeproxy_watch_to_kernel_duration_seconds_count"), "{metrics}");
    });
}

#[test]
fn tables_that_somebody_deletes_come_back() {
    // D50.
    if !inside("agent::tables_that_somebody_deletes_come_back") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let _agent = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the Service is there", |held| held.contains(&address)).await;
        let nft = testkit::program("nft").expect("was found");
        let deleted = Command::new(nft).args(["flush", "ruleset"]).status().expect("can start");
        assert!(deleted.success());
        until("the Service is back", |held| held.contains(&address) && held.contains("10.244.0.2"))
            .await;
    });
}

#[test]
fn a_restart_while_the_api_server_is_away_leaves_the_tables_alone() {
    // D6, D48.
    if !inside("agent::a_restart_while_the_api_server_is_away_leaves_the_tables_alone") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let first = agent(&api);
        let address = service(&api, "web").await;
        api.create(SLICES, slice("web", &["10.244.0.2"])).await;
        until("the Service is there", |held| held.contains("10.244.0.2")).await;
        drop(first);
        let (kubeconfig, before) = (api.kubeconfig.clone(), maps());
        let (folder, port) = api.stop().await;
        let mut config = AgentConfig::new("node1".into());
        config.kubeconfig = Some(kubeconfig);
        let mut second = JoinSet::new();
        second.spawn(async {
            run(config, std::future::pending()).await.unwrap_or_else(|error| panic!("{error:?}"));
        });
        // Long enough for several attempts to reach the server.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(maps(), before, "traffic goes on");
        let api = Api::start_in(folder, port).await;
        api.delete(&format!("{SERVICES}/web")).await;
        until("the Service is gone", |held| !held.contains(&address)).await;
    });
}
