//! Names of the cluster, asked over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use portolan_daemon::dns::{DnsConfig, run};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::Api;

/// A question for the IPv4 addresses of a name (RFC 1035, 4.1).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("is a label"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The last four octets of an answer that has one record; `None` for a denial or silence.
async fn ask(server: SocketAddr, name: &str) -> Option<[u8; 4]> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(server).await.expect("can connect");
    socket.send(&question(name)).await.ok()?;
    let mut answer = [0; 512];
    let received = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut answer));
    let length = received.await.ok()?.ok()?;
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    (answers == 1).then(|| answer[length - 4..length].try_into().expect("are four"))
}

#[tokio::test]
async fn a_service_has_its_name_as_soon_as_it_is_there() {
    let api = Api::start().await;
    let free = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = free.local_addr().expect("is bound");
    drop(free);
    let config = DnsConfig {
        kubeconfig: Some(api.kubeconfig.clone()),
        domain: "cluster.local".to_owned(),
        binds: vec![address],
        upstream: None,
    };
    let mut task = JoinSet::new();
    task.spawn(async {
        run(config, std::future::pending()).await.unwrap_or_else(|error| panic!("{error:?}"));
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]},
    });
    let created = api.create("/api/v1/namespaces/default/services", service).await;
    let wanted: std::net::Ipv4Addr =
        created["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok()).expect("has one");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(octets) = ask(address, "web.default.svc.cluster.local").await {
            assert_eq!(octets, wanted.octets());
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the name never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
