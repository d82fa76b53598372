//! What is counted about connections, by real packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use model::{
    Affinity, Family, Frontend, FrontendKind, NodeView, Protocol, ServiceName, ServiceView,
};
use portolan_nft::ruleset::{Key, Op, Traffic};
use portolan_nft::{Counters, Counts, Dataplane, Meter, Netfilter, Settings, Synced};

use crate::Test;
use crate::lab::{Lab, Tried, silent, tcp, udp};
use crate::namespace::{output, run};
use crate::view::{
    balance, cluster_ip, drop_, frontend, ip, load_balancer, node_port, reject, service, socket,
    view,
};

pub(crate) const TESTS: &[Test] = &[
    ("packets_and_bytes_are_counted_in_both_directions", traffic),
    ("connections_are_counted_once_whatever_becomes_of_them", connections),
    ("what_a_process_of_the_node_sends_to_another_counts_once", on_the_node),
    ("counters_survive_changes_and_restarts", survival),
    ("counters_of_gone_services_are_deleted", deletion),
    ("only_connections_to_services_are_counted", foreign_translation),
    ("what_finds_no_room_is_counted_together", overflow),
    ("nothing_is_counted_unless_asked_for", off),
];

const POD: &str = "10.244.0.2:8080";
const OTHER: &str = "10.244.0.3:8080";
const POD6: &str = "[fd00:10:244::2]:8080";

/// A node that counts, and what reads its counters.
struct Counting {
    lab: Lab,
    view: NodeView,
    dataplane: Dataplane,
    meter: Meter,
}

impl Counting {
    fn on(view: &NodeView) -> Self {
        let lab = Lab::new();
        let (dataplane, meter) = open(&lab, view);
        Self { lab, view: view.clone(), dataplane, meter }
    }

    fn sync(&mut self, view: NodeView) {
        self.dataplane.sync(&view).unwrap();
        self.view = view;
    }

    /// As a new process does.
    fn restart(&mut self) {
        (self.dataplane, self.meter) = open(&self.lab, &self.view);
    }

    fn all(&mut self) -> Counters {
        let retired = self.meter.read(&self.view).unwrap();
        self.dataplane.retire(&retired).unwrap();
        self.meter.retired(retired);
        self.meter.counters().clone()
    }

    fn of(&mut self, name: &str) -> Counts {
        let name = ServiceName::new("default", name);
        self.all().services.remove(&name).unwrap_or_default()
    }

    /// The client asks over UDP from one port, some times.
    fn ask(&self, address: &'static str, times: usize) {
        self.lab.client.run(move || ask(address, times));
    }
}

fn open(lab: &Lab, view: &NodeView) -> (Dataplane, Meter) {
    let view = view.clone();
    lab.node.run(move || {
        let settings = Settings { counters: true, ..Settings::default() };
        let meter = Meter::open(&settings).unwrap();
        let mut dataplane = Dataplane::open(settings).unwrap();
        dataplane.sync(&view).unwrap();
        (dataplane, meter)
    })
}

/// From a port of its own each time: the kernel might give out the same one again, and the flow would
/// not be a new one.
fn ask(address: &str, times: usize) {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    let own = if address.starts_with('[') { "::" } else { "0.0.0.0" };
    let socket = UdpSocket::bind((own, port)).unwrap();
    for _ in 0..times {
        assert!(udp(&socket, address).is_some(), "{address}");
    }
}

/// UDP on a cluster IP of each family and a node port.
fn dns(v4: &[&str], v6: &[&str]) -> ServiceView {
    let udp = |kind, port, endpoints| frontend(kind, Protocol::Udp, port, balance(endpoints));
    service(
        "dns",
        [
            udp(FrontendKind::ClusterIp(ip("10.96.0.53")), 53, v4),
            udp(FrontendKind::ClusterIp(ip("fd00:10:96::53")), 53, v6),
            udp(FrontendKind::NodePort(Family::V4), 30053, v4),
        ],
    )
}

fn packets_of(packets: u64, bytes_each: u64) -> Traffic {
    Traffic { packets, bytes: packets * bytes_each }
}

/// A question is 8 bytes, after 8 of UDP and an IP header; the answer is the address that the pod
/// saw.
const QUESTION: u64 = 20 + 8 + 8;
const ANSWER: u64 = 20 + 8 + "10.244.0.1".len() as u64;
const QUESTION6: u64 = 40 + 8 + 8;
const ANSWER6: u64 = 40 + 8 + "fd00:10:244::1".len() as u64;

fn traffic() {
    let mut node = Counting::on(&view([dns(&[POD], &[POD6])]));
    node.ask("10.96.0.53:53", 5);
    node.ask("172.30.0.11:30053", 3);
    node.ask("[fd00:10:96::53]:53", 2);
    node.lab.node.run(|| ask("10.96.0.53:53", 1));
    let counts = node.of("dns");
    let of = |endpoint| counts.endpoints[&socket(endpoint)].clone();
    assert_eq!(of(POD).to, packets_of(5 + 3 + 1, QUESTION));
    assert_eq!(of(POD).from, packets_of(5 + 3 + 1, ANSWER));
    assert_eq!(of(POD).connections, 3);
    assert_eq!(of(POD6).to, packets_of(2, QUESTION6));
    assert_eq!(of(POD6).from, packets_of(2, ANSWER6));
    assert_eq!(of(POD6).connections, 1);
    assert_eq!(counts.connections, 4);
    assert_eq!(counts.to_endpoints.packets, 11);
    assert_eq!(counts.from_endpoints.bytes, 9 * ANSWER + 2 * ANSWER6);

    // An ICMP error belongs to the connection that it is about: nobody listens there.
    node.sync(view([dns(&["10.244.0.2:9"], &[POD6])]));
    node.lab.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.96.0.53:53").unwrap();
        socket.send(b"who am I").unwrap();
        let refused = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
    let deaf = node.of("dns").endpoints[&socket("10.244.0.2:9")].clone();
    assert_eq!((deaf.connections, deaf.to.packets, deaf.from.packets), (1, 1, 1));
}

fn web(endpoints: &[&str]) -> ServiceView {
    let action = || balance(endpoints);
    service("web", [cluster_ip("10.96.0.10", 80, action()), node_port(Family::V4, 30007, action())])
}

fn connections() {
    // D15, D23, D26, D33.
    let sticky = |mut frontend: Frontend| {
        frontend.affinity = Some(Affinity { timeout_seconds: 60 });
        frontend
    };
    let mut restricted = load_balancer("172.30.0.194", 80, balance(&[POD]));
    restricted.source_ranges = Some(vec!["192.0.2.0/24".parse().unwrap()]);
    let mut node = Counting::on(&view([
        web(&[POD]),
        service("bank", [restricted]),
        service("sticky", [sticky(cluster_ip("10.96.0.30", 80, balance(&[POD])))]),
        service("refusing", [node_port(Family::V4, 30020, reject())]),
        service("local", [node_port(Family::V4, 30021, drop_())]),
    ]));
    let client = &node.lab.client;
    client.run(|| {
        let answered = |address| assert!(matches!(tcp(address), Tried::Answered(..)));
        (0..3).for_each(|_| answered("172.30.0.11:30007"));
        (0..2).for_each(|_| answered("10.96.0.10:80"));
        (0..4).for_each(|_| answered("10.96.0.30:80"));
        (0..5).for_each(|_| assert_eq!(tcp("172.30.0.11:30020"), Tried::Refused));
        run("ip route add 172.30.0.194 via 172.30.0.11");
        assert!(silent("172.30.0.194:80") && silent("172.30.0.11:30021"));
    });
    for (name, connections) in [("web", 5), ("sticky", 4)] {
        let counts = node.of(name);
        assert_eq!(counts.connections, connections, "{name}");
        assert_eq!(counts.endpoints[&socket(POD)].connections, connections, "{name}");
        assert!(counts.to_endpoints.packets > 2 * connections, "{counts:?}");
        assert_eq!((counts.refused, counts.dropped, counts.forbidden), (0, 0, 0));
    }
    assert_eq!(node.of("refusing"), Counts { refused: 5, ..Counts::default() });
    assert_eq!(node.of("local"), Counts { dropped: 1, ..Counts::default() });
    assert_eq!(node.of("bank"), Counts { forbidden: 1, ..Counts::default() });
    assert_eq!(node.all().left_out, Counts::default());
}

fn on_the_node() {
    let mut node = Counting::on(&view([dns(&["172.30.0.11:9053"], &[POD6])]));
    node.lab.node.run(|| {
        let server = UdpSocket::bind("172.30.0.11:9053").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(b"10.244.0.1", peer);
            }
        });
        ask("10.96.0.53:53", 3);
    });
    node.ask("172.30.0.11:30053", 2);
    let counts = node.of("dns").endpoints[&socket("172.30.0.11:9053")].clone();
    assert_eq!(counts.connections, 2);
    assert_eq!(counts.to, packets_of(5, QUESTION));
    assert_eq!(counts.from, packets_of(5, ANSWER));
}

fn survival() {
    let both = view([dns(&[POD, OTHER], &[POD6])]);
    let one = view([dns(&[OTHER], &[POD6])]);
    let mut node = Counting::on(&both);
    let spread = || (0..40).for_each(|_| ask("10.96.0.53:53", 1));
    node.lab.client.run(spread);
    let before = node.of("dns");
    assert_eq!(before.connections, 40);
    assert_eq!(before.endpoints.len(), 2);

    node.sync(one);
    assert_eq!(node.dataplane.verify().unwrap(), Synced::default(), "no foreign change");
    // Twice, for it has to be silent in between.
    node.of("dns");
    let after = node.of("dns");
    assert_eq!((after.connections, after.to_endpoints), (40, before.to_endpoints));
    for _ in 0..2 {
        let endpoints: Vec<SocketAddr> = node.of("dns").endpoints.into_keys().collect();
        assert_eq!(endpoints, [socket(OTHER)], "the other one is gone and silent");
        node.restart();
        let counts = node.of("dns");
        assert_eq!((counts.connections, counts.to_endpoints), (40, before.to_endpoints));
        assert_eq!(counts.from_endpoints, before.from_endpoints);
    }
    node.ask("10.96.0.53:53", 1);
    assert_eq!(node.of("dns").connections, 41);
    assert_eq!(node.of("dns").endpoints[&socket(OTHER)].connections, {
        before.endpoints[&socket(OTHER)].connections + 1
    });
}

fn deletion() {
    let mut node = Counting::on(&view([dns(&[POD], &[POD6]), web(&[POD])]));
    node.ask("10.96.0.53:53", 1);
    assert_eq!(node.of("dns").connections, 1);
    node.sync(view([web(&[POD])]));
    assert!(node.all().services.is_empty());
    node.sync(view([dns(&[POD], &[POD6]), web(&[POD])]));
    assert!(node.all().services.is_empty(), "a Service that comes back begins anew");
    node.restart();
    assert!(node.all().services.is_empty(), "nor has the kernel kept anything");
}

fn foreign_translation() {
    if testkit::program("nft").is_none() {
        return testkit::skip("only_connections_to_services_are_counted", "no nft program");
    }
    let mut node = Counting::on(&view([web(&[POD])]));
    node.lab.node.run(|| {
        run("nft add table ip foreign");
        run("nft add chain ip foreign pre { type nat hook prerouting priority -90 ; }");
        run("nft add rule ip foreign pre udp dport 7000-8000 dnat to 10.244.0.2:8080");
    });
    node.ask("172.30.0.11:7777", 2);
    assert!(node.all().services.is_empty());
    let sets = node.lab.node.run(|| output("nft list set ip portolan count-to-endpoints").unwrap());
    assert!(!sets.contains("7777"), "{sets}");
}

fn overflow() {
    // `COUNTERS_SIZE`.
    const ROOM: u32 = 1 << 14;
    let mut node = Counting::on(&view([dns(&[POD], &[POD6])]));
    let strangers = (0..ROOM).map(|number: u32| {
        let key = [&[9; 16][..], &number.to_be_bytes()].concat();
        (Key::new(&key), Traffic { packets: 1, bytes: 1 })
    });
    let strangers: Vec<_> = strangers.collect();
    for set in ["count-connections", "count-to-endpoints", "count-from-endpoints"] {
        let full = Op::AddCounted(Family::V4, set.into(), strangers.clone());
        node.dataplane.netfilter_mut().commit(&[full]).unwrap();
    }
    node.ask("10.96.0.53:53", 3);
    let counters = node.all();
    assert!(counters.services.is_empty(), "{counters:?}");
    assert_eq!(counters.left_out.connections, 1);
    assert_eq!(counters.left_out.to_endpoints, packets_of(3, QUESTION));
    assert_eq!(counters.left_out.from_endpoints, packets_of(3, ANSWER));
    // Elements of nobody have been deleted: there is room again.
    node.ask("10.96.0.53:53", 2);
    let counters = node.all();
    assert_eq!(counters.left_out.to_endpoints.packets, 3);
    let name = ServiceName::new("default", "dns");
    assert_eq!(counters.services[&name].to_endpoints, packets_of(2, QUESTION));
}

fn off() {
    let lab = Lab::new();
    let ruleset = lab.node.run(|| {
        let view = view([dns(&[POD], &[POD6])]);
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view).unwrap();
        let mut meter = Meter::open(&Settings::default()).unwrap();
        assert!(meter.read(&view).unwrap().is_empty() && meter.counters().services.is_empty());
        dataplane.netfilter_mut().read().unwrap()
    });
    let table = &ruleset[&Family::V4];
    let names = table.sets.keys().chain(table.chains.keys());
    assert!(names.clone().count() > 20);
    assert!(names.clone().all(|name| !name.contains("count")), "{:?}", names.collect::<Vec<_>>());

    // Switched on and off, in place: nobody notices.
    let (mut counting, _) = open(&lab, &view([dns(&[POD], &[POD6])]));
    assert_eq!(counting.verify().unwrap(), Synced::default());
    lab.client.run(|| ask("10.96.0.53:53", 1));
    lab.node.run(move || {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view([dns(&[POD], &[POD6])])).unwrap();
        assert_eq!(dataplane.netfilter_mut().read().unwrap(), ruleset);
    });
}
