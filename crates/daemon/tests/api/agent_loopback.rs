//! Node ports on loopback addresses: clients on the node, a pod in another namespace.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Namespace;
use tokio::io::AsyncReadExt as _;

use crate::node::{
    SERVICES, SLICES, agent_with, block_on, config, inside, needs_own_server, run, slice,
};
use crate::support::Api;

const TCP_PORT: u16 = 30_007;
const UDP_PORT: u16 = 30_053;
const POD: [&str; 2] = ["10.244.0.2", "fd00:10:244::2"];

#[test]
fn node_ports_answer_on_both_loopback_addresses() {
    // D31, D32.
    let test = "agent_loopback::node_ports_answer_on_both_loopback_addresses";
    // It needs both families and these node ports.
    if needs_own_server(test) || !inside(test) {
        return;
    }
    block_on(async {
        let _pod = pod();
        let api = Api::start().await;
        api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
        let mut config = config(&api);
        config.node_ports.loopback = true;
        let _agent = agent_with(config);
        for families in [vec!["IPv4"], vec!["IPv4", "IPv6"]] {
            let six = if families.len() == 2 { POD[1] } else { POD[0] };
            api.create(SERVICES, service(&families)).await;
            refused().await;
            for (family, address) in families.iter().zip(POD) {
                api.create(SLICES, endpoints(family, address)).await;
            }
            for (loopback, pod) in [("127.0.0.1", POD[0]), ("::1", six)] {
                let pod: IpAddr = pod.parse().expect("is one");
                answers(loopback, "TCP", TCP_PORT, pod).await;
                answers(loopback, "UDP", UDP_PORT, pod).await;
            }
            for family in families {
                api.delete(&format!("{SLICES}/web-{}", family.to_lowercase())).await;
            }
            refused().await;
            api.delete(&format!("{SERVICES}/web")).await;
            until("the ports on ::1 are free", async || {
                TcpListener::bind(("::1", TCP_PORT)).is_ok()
                    && UdpSocket::bind(("::1", UDP_PORT)).is_ok()
            })
            .await;
        }
    });
}

/// With and without endpoints: nobody has to wait for what nobody answers.
async fn refused() {
    for loopback in ["127.0.0.1", "::1"] {
        for (protocol, port) in [("TCP", TCP_PORT), ("UDP", UDP_PORT)] {
            let address = address(loopback, port);
            until(&format!("{protocol} to {address} is refused"), async || {
                // Who sends a datagram that a rule refuses on its way out may be told at once (EPERM).
                let kind = ask(protocol, address).await.map_err(|error| error.kind());
                [Err(ErrorKind::ConnectionRefused), Err(ErrorKind::PermissionDenied)]
                    .contains(&kind)
            })
            .await;
        }
    }
}

async fn answers(loopback: &str, protocol: &str, port: u16, pod: IpAddr) {
    let address = address(loopback, port);
    until(&format!("{protocol} to {address} is answered by {pod}"), async || {
        ask(protocol, address).await.is_ok_and(|answer| answer == pod.to_string())
    })
    .await;
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("is one"), port)
}

/// Who answers.
async fn ask(protocol: &str, address: SocketAddr) -> std::io::Result<String> {
    let asked = async {
        let mut text = String::new();
        if protocol == "TCP" {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.read_to_string(&mut text).await?;
        } else {
            let any: SocketAddr = if address.is_ipv4() {
                self::address("0.0.0.0", 0)
            } else {
                self::address("::", 0)
            };
            let socket = tokio::net::UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            socket.send(b"?").await?;
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).await?;
            text.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
        Ok(text)
    };
    let patience = Duration::from_millis(500);
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn service(families: &[&str]) -> Value {
    let policy = if families.len() == 2 { "RequireDualStack" } else { "SingleStack" };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "ipFamilyPolicy": policy, "ipFamilies": families,
            "ports": [
                {"name": "http", "port": 80, "nodePort": TCP_PORT},
                {"name": "dns", "port": 53, "nodePort": UDP_PORT, "protocol": "UDP"},
            ],
        },
    })
}

fn endpoints(family: &str, address: &str) -> Value {
    let mut slice = slice("web", &[address]);
    slice["metadata"]["name"] = format!("web-{}", family.to_lowercase()).into();
    slice["addressType"] = family.into();
    slice["ports"] = json!([
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "dns", "port": 8053, "protocol": "UDP"},
    ]);
    slice
}

/// A pod that tells its address, joined to this node.
fn pod() -> Namespace {
    let pod = Namespace::new();
    let ip = |arguments: &str| drop(run("ip", &arguments.split(' ').collect::<Vec<_>>()));
    ip(&format!("link add pod type veth peer name eth0 netns {}", pod.path()));
    ip("link set pod up");
    ip("addr add 10.244.0.1/32 dev pod");
    ip("addr add fd00:10:244::1/128 dev pod nodad");
    // Cluster IPs need a route for their first packet.
    ip("addr add 172.30.0.11/32 dev lo");
    ip("route add 10.244.0.2 dev pod");
    ip("-6 route add fd00:10:244::2 dev pod");
    ip("route add default via 10.244.0.2 dev pod onlink");
    ip("-6 route add default via fd00:10:244::2 dev pod onlink");
    pod.ip("addr add 10.244.0.2/32 dev eth0\naddr add fd00:10:244::2/128 dev eth0 nodad\n\
         link set eth0 up\nroute add default dev eth0\nroute add ::/0 dev eth0\n");
    for address in POD {
        pod.run(move || {
            let listener = TcpListener::bind((address, 8080)).expect("is free");
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    drop(std::io::Write::write_all(&mut stream, address.as_bytes()));
                }
            });
            let socket = UdpSocket::bind((address, 8053)).expect("is free");
            std::thread::spawn(move || {
                while let Ok((_, client)) = socket.recv_from(&mut [0; 64]) {
                    drop(socket.send_to(address.as_bytes(), client));
                }
            });
        });
    }
    pod
}
