//! How long clients are without a Service after somebody else has deleted some of our tables: from
//! the first connection that fails to the first that succeeds again.
//!
//! `cargo run --release -p portolan-nft --example repair -- [SERVICES…]`, as root: it works in
//! network namespaces of its own. Each Service has five endpoints. The first, the middle and the last
//! one by name are tried all the time, through their node ports.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a report for people")]

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use model::{
    Action, Backend, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext,
    NodeView, Port, Protocol, ServiceName, ServiceView,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portolan_nft::ruleset::{Op, Ruleset};
use portolan_nft::{Dataplane, Kernel, Layout, Netfilter, Settings, diff};
use testkit::Namespace;

const ENDPOINT: ([u8; 4], u16) = ([10, 244, 0, 2], 8080);
const NODE: [u8; 4] = [172, 30, 0, 11];
const FIRST_NODE_PORT: u16 = 30_000;
const ENDPOINTS: u32 = 5;
/// Each damage is done so often, and the median told.
const TIMES: usize = 5;

fn main() {
    let sizes: Vec<u32> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { vec![100, 1000, 10_000] } else { sizes };
    println!("milliseconds without a Service, median of {TIMES}, by position of its name");
    println!("{:>8}  {:24} {:>7} {:>7} {:>7}", "Services", "damage", "first", "middle", "last");
    for services in sizes {
        measure(services);
    }
}

/// One thing that somebody does to our tables.
type Crime = (&'static str, fn(&Ruleset) -> Vec<Op>);

const CRIMES: [Crime; 4] = [
    ("table deleted", |_| Family::ALL.map(Op::DeleteTable).into()),
    ("set endpoints flushed", |_| {
        let sets = ["endpoints", "node-port-endpoints"];
        sets.map(|set| Op::FlushSet(Family::V4, set.into())).into()
    }),
    ("one element deleted", |held| {
        let set = "node-ports-masquerade";
        let keys = held[&Family::V4].sets[set].elements.keys().cloned().collect();
        vec![Op::DeleteElements(Family::V4, set.into(), keys)]
    }),
    ("chain services flushed", |_| vec![Op::FlushChain(Family::V4, "services".into())]),
];

fn measure(services: u32) {
    let (node, pod, client) = (Namespace::new(), Namespace::new(), Namespace::new());
    wire(&node, &pod, &client);
    pod.run(|| {
        let listener = TcpListener::bind(SocketAddr::from(ENDPOINT)).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
    });
    let probes = [0, services / 2, services - 1];
    let view = view(services, probes);
    let again = view.clone();
    let (mut intruder, held, repairs) = node.run(move || {
        let (tell, repairs) = channel();
        thread::spawn(move || agent(&view, &tell));
        repairs.recv().unwrap();
        let mut kernel = Kernel::open().unwrap();
        let held = kernel.read().unwrap();
        (kernel, held, repairs)
    });
    let clients: Vec<Client> =
        probes.map(|number| Client::start(&client, node_port(number))).into();
    for (what, crime) in CRIMES {
        let operations = crime(&held);
        let mut outages = vec![Vec::new(); clients.len()];
        for _ in 0..TIMES {
            intruder.commit(&operations).unwrap();
            repairs.recv().unwrap();
            for (client, outages) in clients.iter().zip(&mut outages) {
                outages.push(client.outage());
            }
        }
        let medians = outages.iter_mut().map(|outages| {
            outages.sort();
            outages[TIMES / 2].as_secs_f64() * 1e3
        });
        let medians: Vec<String> = medians.map(|outage| format!("{outage:7.1}")).collect();
        println!("{services:>8}  {what:24} {}", medians.join(" "));
    }
    drop((clients, repairs));
    let bare = bare_limit(&again);
    println!("{services:>8}  {:24} {:>23.1}", "(one bare transaction)", bare.as_secs_f64() * 1e3);
}

/// What the kernel takes to make all tables at once, with everything encoded.
fn bare_limit(view: &NodeView) -> Duration {
    let operations = diff(&Ruleset::new(), &Layout::new(view, &Settings::default()).ruleset());
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let operations = operations.clone();
            Namespace::new().run(move || {
                let mut kernel = Kernel::open().unwrap();
                let start = Instant::now();
                kernel.commit(&operations).unwrap();
                start.elapsed()
            })
        })
        .collect();
    times.sort();
    times[TIMES / 2]
}

/// The part of the agent that this is about.
fn agent(view: &NodeView, tell: &Sender<()>) {
    let mut dataplane = Dataplane::open(Settings::default()).unwrap();
    let mut watch = dataplane.events().unwrap();
    dataplane.sync(view).unwrap();
    tell.send(()).unwrap();
    loop {
        poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        let damage = watch.drain().unwrap();
        // Ends with the one who listens.
        if dataplane.repair(&damage).unwrap().repaired && tell.send(()).is_err() {
            return;
        }
    }
}

/// Opens one connection after the other, and tells how long none succeeded.
struct Client {
    outages: Receiver<Duration>,
    successes: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
}

impl Client {
    fn start(namespace: &Namespace, port: u16) -> Self {
        let (tell, outages) = channel();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let successes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&successes);
        let address = SocketAddr::from((NODE, port));
        namespace.run(move || {
            thread::spawn(move || {
                let mut failed = None;
                while !is_done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    if connects(address) {
                        failed.take().map(|since: Instant| tell.send(since.elapsed()));
                        counted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        failed.get_or_insert(start);
                    }
                    // Leaves the processors to the agent.
                    thread::sleep(Duration::from_millis(1));
                }
            });
        });
        Self { outages, successes, done }
    }

    /// How long nothing succeeded, once something does again; nothing if no attempt fell in between.
    fn outage(&self) -> Duration {
        let before = self.successes.load(Ordering::Relaxed);
        // The first of them may have begun before.
        while self.successes.load(Ordering::Relaxed) < before + 2 {
            thread::yield_now();
        }
        self.outages.try_iter().sum()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// Whether the endpoint answers: it closes at once. Without rules the node refuses, and what an
/// endpoint says meanwhile is lost.
fn connects(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(stream.read(&mut [0]), Ok(0))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(20);

fn wire(node: &Namespace, pod: &Namespace, client: &Namespace) {
    node.set("ipv4/ip_forward", "1");
    node.connect("pod", pod, "eth0");
    node.ip("addr add 10.244.0.1/32 dev pod\nroute add 10.244.0.2 dev pod\n");
    pod.ip("addr add 10.244.0.2/32 dev eth0\nroute add 10.244.0.1 dev eth0\n\
            route add default via 10.244.0.1\n");
    node.connect("ext", client, "eth0");
    node.ip("addr add 172.30.0.11/24 dev ext\n");
    client.ip("addr add 172.30.0.100/24 dev eth0\nroute add default via 172.30.0.11\n");
}

fn node_port(number: u32) -> u16 {
    FIRST_NODE_PORT + u16::try_from(number).unwrap()
}

fn view(services: u32, probes: [u32; 3]) -> NodeView {
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: [IpAddr::from(NODE)].into(),
            local_detector: LocalDetector::None,
            masquerade_all: false,
        },
        service_cidrs: Default::default(),
        services: (0..services)
            .map(|number| service(number, probes.contains(&number)))
            .map(|service| (service.name.clone(), Arc::new(service)))
            .collect(),
    }
}

fn service(number: u32, is_probe: bool) -> ServiceView {
    let address = IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number));
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 64;
    let backends =
        (0..ENDPOINTS).map(|endpoint| SocketAddr::from((Ipv4Addr::from(first + endpoint), 8080)));
    let backends: Arc<[Backend]> = match is_probe {
        true => [Backend { address: ENDPOINT.into(), local: true }].into(),
        false => backends.map(|address| Backend { address, local: false }).collect(),
    };
    let frontend = |kind, port| Frontend {
        kind,
        protocol: Protocol::Tcp,
        port: Port::new(port).unwrap(),
        port_name: "".into(),
        internal: Action::Balance(Arc::clone(&backends)),
        external: Action::Balance(Arc::clone(&backends)),
        lasting: Arc::default(),
        resets: false,
        masquerade: Masquerade::Always,
        affinity: None,
        source_ranges: None,
    };
    let mut frontends = vec![frontend(FrontendKind::ClusterIp(address), 80)];
    if is_probe {
        frontends.push(frontend(FrontendKind::NodePort(Family::V4), node_port(number)));
    }
    ServiceView {
        name: ServiceName::new("default", format!("service-{number:05}")),
        cluster_ips: vec![address],
        frontends,
        health_check: None,
        report: Vec::new(),
    }
}
