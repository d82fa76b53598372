//! One node with two pods and a client outside, in namespaces.
//!
//! ```text
//!  client 172.30.0.250 ─── 172.30.0.11 node ─┬─ pod 10.244.0.2
//!                                            └─ pod 10.244.0.3
//! ```
//! The same with IPv6 (fd00:30::, fd00:10:244::). The client has a route for cluster IPs, so that
//! off-cluster traffic to them can be tried.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use super::namespace::{Namespace, run};

pub(crate) struct Lab {
    pub(crate) node: Namespace,
    pub(crate) pods: [Namespace; 2],
    pub(crate) client: Namespace,
}

impl Lab {
    /// Builds it; pods answer TCP and UDP on port 8080 and tell who asked.
    pub(crate) fn new() -> Self {
        let lab = Self {
            node: Namespace::new(),
            pods: [Namespace::new(), Namespace::new()],
            client: Namespace::new(),
        };
        lab.node.run(|| {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
            }
        });
        let peer = lab.client.path().to_owned();
        lab.node.run(move || {
            run("ip link add ext type veth peer name eth0");
            run(&format!("ip link set eth0 netns {peer}"));
            run("ip addr add 172.30.0.11/24 dev ext");
            run("ip addr add fd00:30::11/64 dev ext nodad");
            run("ip link set ext up");
        });
        lab.client.run(|| {
            run("ip addr add 172.30.0.250/24 dev eth0");
            run("ip addr add fd00:30::250/64 dev eth0 nodad");
            run("ip link set eth0 up");
            run("ip route add 10.96.0.0/16 via 172.30.0.11");
            run("ip route add fd00:10:96::/112 via fd00:30::11");
        });
        lab.node.run(|| {
            run("ip route add default via 172.30.0.250");
            run("ip route add default via fd00:30::250");
        });
        for (pod, number) in lab.pods.iter().zip(2..) {
            lab.connect(pod, number);
            pod.run(|| serve("0.0.0.0:8080".parse().unwrap()));
            pod.run(|| serve("[::]:8080".parse().unwrap()));
        }
        lab
    }

    fn connect(&self, pod: &Namespace, number: u8) {
        let peer = pod.path().to_owned();
        self.node.run(move || {
            run(&format!("ip link add pod{number} type veth peer name eth0"));
            run(&format!("ip link set eth0 netns {peer}"));
            run(&format!("ip addr add 10.244.0.1/32 dev pod{number}"));
            run(&format!("ip addr add fd00:10:244::1/128 dev pod{number} nodad"));
            run(&format!("ip link set pod{number} up"));
            run(&format!("ip route add 10.244.0.{number} dev pod{number}"));
            run(&format!("ip route add fd00:10:244::{number} dev pod{number}"));
        });
        pod.run(move || {
            run(&format!("ip addr add 10.244.0.{number}/32 dev eth0"));
            run(&format!("ip addr add fd00:10:244::{number}/128 dev eth0 nodad"));
            run("ip link set eth0 up");
            run("ip route add 10.244.0.1 dev eth0");
            run("ip route add default via 10.244.0.1");
            run("ip route add fd00:10:244::1 dev eth0");
            run("ip route add default via fd00:10:244::1");
        });
    }
}

/// Answers every TCP connection and UDP packet with "SERVER CLIENT", then echoes.
fn serve(address: SocketAddr) {
    if address.is_ipv6() {
        // Dual-stack sockets would take the IPv4 port too.
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
    }
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

fn answer(mut stream: TcpStream) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let _ = writeln!(stream, "{} {}", local.ip(), peer.ip());
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|len| len == 1) && stream.write_all(&byte).is_ok() {}
}

/// What a TCP connection brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tried {
    /// Answered by this pod, which saw this client.
    Answered(IpAddr, IpAddr),
    Refused,
    TimedOut,
}

/// Connects and reads the greeting. One lost packet does not make it time out: the client repeats
/// itself after a second.
pub(crate) fn tcp(address: &str) -> Tried {
    try_tcp(address, ANSWER)
}

/// Whether a connection stays unanswered.
pub(crate) fn silent(address: &str) -> bool {
    try_tcp(address, PATIENCE) == Tried::TimedOut
}

fn try_tcp(address: &str, patience: Duration) -> Tried {
    match TcpStream::connect_timeout(&address.parse().unwrap(), patience) {
        Ok(mut stream) => greeting(&mut stream),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Tried::Refused,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Tried::TimedOut,
        Err(error) => panic!("connect to {address}: {error}"),
    }
}

pub(crate) fn greeting(stream: &mut TcpStream) -> Tried {
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let mut text = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0].into());
    }
    let (server, client) = text.split_once(' ').unwrap();
    Tried::Answered(server.parse().unwrap(), client.parse().unwrap())
}

/// One question and answer over a socket; the client that the pod saw, `None` if nothing came
/// back.
pub(crate) fn udp(socket: &UdpSocket, address: &str) -> Option<IpAddr> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"who am I", address).ok()?;
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..len]).ok()?.parse().ok()
}

/// How long silence has to last to count as dropped.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long an answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(10);
