//! How many connections per second an outside client can open through a node port, for as long as
//! it likes: un-NATed, through Portolan's tables, and through tables that masquerade as kube-proxy
//! does, with fully random ports.
//!
//! `cargo run --release -p portolan-nft --example churn -- [SECONDS] [CLIENTS]`, as root: it works
//! in network namespaces of its own. The server closes first, so that its ports rest in TIME_WAIT.
//! What it refuses is a SYN that meets a port in TIME_WAIT with a timestamp that looks older
//! (`TcpExtPAWSTimewait`): each costs its client a second.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a report for people")]

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use model::{
    Action, Backend, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext,
    NodeView, Port, Protocol, ServiceName, ServiceView,
};
use portolan_nft::{Dataplane, Settings};
use testkit::Namespace;

const NODE_PORT: u16 = 30007;
const ENDPOINT: ([u8; 4], u16) = ([10, 244, 0, 2], 8080);
const NODE: [u8; 4] = [172, 30, 0, 11];

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u8>().unwrap());
    let seconds = numbers.next().unwrap_or(60);
    let clients = numbers.next().unwrap_or(1);
    // The rules are there in this case as well, so that connections are tracked.
    let direct = measure(seconds, clients, SocketAddr::from(ENDPOINT), |node| Some(portolan(node)));
    report("un-NATed", &direct, &direct);
    let node_port = SocketAddr::from((NODE, NODE_PORT));
    report("Portolan", &measure(seconds, clients, node_port, |node| Some(portolan(node))), &direct);
    if testkit::program("nft").is_none() {
        return testkit::skip("fully random ports", "the program nft is missing");
    }
    let random = measure(seconds, clients, node_port, |node| {
        fully_random(node);
        None
    });
    report("fully random ports", &random, &direct);
}

/// Connections of each second.
fn measure(
    seconds: u8,
    clients: u8,
    to: SocketAddr,
    program: impl FnOnce(&Namespace) -> Option<Dataplane>,
) -> Vec<usize> {
    let (node, pod) = (Namespace::new(), Namespace::new());
    let clients: Vec<Namespace> = (0..clients).map(|_| Namespace::new()).collect();
    wire(&node, &pod, &clients);
    let _dataplane = program(&node);
    pod.run(|| {
        let listener = TcpListener::bind(SocketAddr::from(ENDPOINT)).unwrap();
        for _ in 0..2 {
            let listener = listener.try_clone().unwrap();
            thread::spawn(move || listener.incoming().for_each(drop));
        }
    });
    let (count, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for client in &clients {
        for _ in 0..THREADS {
            let (count, done) = (Arc::clone(&count), Arc::clone(&done));
            client.run(move || thread::spawn(move || churn(to, &count, &done)));
        }
    }
    let start = Instant::now();
    let rates = (1..=seconds).map(|second| {
        let end = start + Duration::from_secs(second.into());
        thread::sleep(end.saturating_duration_since(Instant::now()));
        count.swap(0, Ordering::Relaxed)
    });
    let rates = rates.collect();
    done.store(true, Ordering::Relaxed);
    println!("{:>20}  SYNs refused in TIME_WAIT: {}", "", pod.run(refused));
    rates
}

/// `TcpExtPAWSTimewait` of the current network namespace; 0 where the kernel does not count it.
fn refused() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut all = names.split(' ').zip(values.split(' '));
    let count = all.find(|(name, _)| *name == "PAWSTimewait").map(|(_, value)| value.parse());
    count.transpose().unwrap().unwrap_or(0)
}

/// Opens one connection after the other.
fn churn(to: SocketAddr, count: &AtomicUsize, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else {
            continue;
        };
        if matches!(stream.read(&mut [0]), Ok(0)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many connections a client opens side by side.
const THREADS: usize = 4;

fn wire(node: &Namespace, pod: &Namespace, clients: &[Namespace]) {
    node.set("ipv4/ip_forward", "1");
    // Otherwise the server forgets early what it has closed.
    pod.set("ipv4/tcp_max_tw_buckets", "1000000");
    node.connect("pod", pod, "eth0");
    node.ip("addr add 10.244.0.1/32 dev pod\nroute add 10.244.0.2 dev pod\n");
    pod.ip("addr add 10.244.0.2/32 dev eth0\nroute add 10.244.0.1 dev eth0\n\
            route add default via 10.244.0.1\n");
    node.ip("link add ext type bridge\nlink set ext up\naddr add 172.30.0.11/24 dev ext\n");
    for (number, client) in clients.iter().enumerate() {
        node.connect(&format!("client{number}"), client, "eth0");
        node.ip(&format!("link set client{number} master ext"));
        client.ip(&format!(
            "addr add 172.30.0.{}/24 dev eth0\nroute add default via 172.30.0.11\n",
            100 + number
        ));
    }
}

fn portolan(node: &Namespace) -> Dataplane {
    node.run(|| {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view()).unwrap();
        dataplane
    })
}

fn fully_random(node: &Namespace) {
    node.run(|| {
        nft("table ip nat {
            chain prerouting {
                type nat hook prerouting priority dstnat
                ip daddr 172.30.0.11 tcp dport 30007 dnat to 10.244.0.2:8080
            }
            chain postrouting {
                type nat hook postrouting priority srcnat
                ct status dnat masquerade fully-random
            }
        }");
    });
}

fn nft(ruleset: &str) {
    let Some(program) = testkit::program("nft") else { return };
    let mut child = Command::new(program).args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), ruleset.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn view() -> NodeView {
    let backends: Arc<[Backend]> =
        [Backend { address: SocketAddr::from(ENDPOINT), local: true }].into();
    let frontend = Frontend {
        kind: FrontendKind::NodePort(Family::V4),
        protocol: Protocol::Tcp,
        port: Port::new(NODE_PORT).unwrap(),
        port_name: "".into(),
        internal: Action::Balance(Arc::clone(&backends)),
        external: Action::Balance(backends),
        lasting: Arc::default(),
        resets: false,
        masquerade: Masquerade::Always,
        affinity: None,
        source_ranges: None,
    };
    let service = ServiceView {
        name: ServiceName::new("default", "web"),
        cluster_ips: Vec::new(),
        frontends: vec![frontend],
        health_check: None,
        report: Vec::new(),
    };
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: [IpAddr::from(NODE)].into(),
            local_detector: LocalDetector::None,
            masquerade_all: false,
        },
        service_cidrs: Default::default(),
        services: [(service.name.clone(), Arc::new(service))].into(),
    }
}

fn report(what: &str, rates: &[usize], reference: &[usize]) {
    let mean = |rates: &[usize]| rates.iter().sum::<usize>() / rates.len().max(1);
    let least = rates.iter().min().copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = mean(rates) as f64 / mean(reference).max(1) as f64;
    println!(
        "{what:>20}: {:>6} connections/s, {least:>6} in the worst second, {ratio:.2} of un-NATed",
        mean(rates)
    );
    println!("{:>20}  {rates:?}", "");
}
