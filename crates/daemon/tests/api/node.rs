//! A node: a network namespace of its own with an agent in it, read back by the independent `nft`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use portolan_daemon::agent::{AgentConfig, run as run_agent};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::other_cluster::Passage;
use crate::support::Api;

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "PORTOLAN_TEST_INSIDE";

/// Runs a test of this file inside a network namespace. True in the process that is inside.
pub(crate) fn inside(test: &str) -> bool {
    inside_with(test, &[])
}

/// True, aloud, when a test has to start and end its API server and the suite uses another one.
pub(crate) fn needs_own_server(test: &str) -> bool {
    let other = crate::other_cluster::is_wanted();
    if other && !is_inside() {
        testkit::skip(test, "the API server of another cluster is not ours to end or to configure");
    }
    other
}

/// Whether this process is inside already.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The same, started by a command such as `setpriv` with its arguments.
pub(crate) fn inside_with(test: &str, command: &[&str]) -> bool {
    if is_inside() {
        return true;
    }
    if let Some(reason) = testkit::no_namespaces() {
        testkit::skip(test, &reason);
        return false;
    }
    for program in ["nft", "ip", "sh"].iter().chain(command.first()) {
        if testkit::program(program).is_none() {
            testkit::skip(test, &format!("the program {program} is not here"));
            return false;
        }
    }
    let passage = Passage::open();
    if passage.is_none() {
        eprintln!("uses the embedded API server; PORTOLAN_TEST_KUBECONFIG may name another");
    }
    let unshare = testkit::program("unshare").expect("was found above");
    let status = Command::new(unshare)
        .args(["--user", "--map-root-user", "--net", "--"])
        // With a command that takes capabilities away, loopback has to be up before.
        .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .args(command)
        .arg(std::env::current_exe().expect("has a path"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .envs(passage.iter().map(Passage::environment))
        .status()
        .expect("can start");
    assert!(status.success(), "the test failed inside its namespace");
    false
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(test);
}

pub(crate) fn config(api: &Api) -> AgentConfig {
    let mut config = AgentConfig::new("node1".into());
    config.kubeconfig = Some(api.kubeconfig.clone());
    config.health_bind = Some(([127, 0, 0, 1], 10256).into());
    config
}

pub(crate) fn agent(api: &Api) -> JoinSet<()> {
    agent_with(config(api))
}

pub(crate) fn agent_with(config: AgentConfig) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async {
        run_agent(config, std::future::pending()).await.unwrap_or_else(|error| panic!("{error:?}"));
    });
    task
}

pub(crate) async fn service(api: &Api, name: &str) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    let created = api.create(SERVICES, service).await;
    created["spec"]["clusterIP"].as_str().expect("has an address").to_owned()
}

pub(crate) fn slice(service: &str, addresses: &[&str]) -> Value {
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
pub(crate) fn maps() -> String {
    run("nft", &["list", "maps"])
}

/// Everything that nf_tables holds.
pub(crate) fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// What a program prints; it has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let path = testkit::program(program).unwrap_or_else(|| panic!("{program} was found"));
    let output = Command::new(path).args(arguments).output().expect("can start");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) async fn until(what: &str, holds: impl FnMut(&str) -> bool) {
    until_of(maps, what, holds).await;
}

/// Waits until what is read is as wanted.
pub(crate) async fn until_of(
    read: impl Fn() -> String,
    what: &str,
    mut holds: impl FnMut(&str) -> bool,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let held = read();
        if holds(&held) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}:\n{held}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn http(port: u16, path: &str) -> String {
    http_of(([127, 0, 0, 1], port).into(), path).await
}

/// Waits until a page is as wanted and returns it.
pub(crate) async fn until_http(
    port: u16,
    path: &str,
    mut holds: impl FnMut(&str) -> bool,
) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let page = http(port, path).await;
        if holds(&page) {
            return page;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path} never became right: {page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The whole answer, head and body; waits for a server that answers.
pub(crate) async fn http_of(server: SocketAddr, path: &str) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match try_http(server, path).await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(tokio::time::Instant::now() < deadline, "nobody answers: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn try_http(server: SocketAddr, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
