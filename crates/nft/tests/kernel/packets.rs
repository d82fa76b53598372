//! Who answers, and whom it sees.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::{
    Affinity, Family, Frontend, FrontendKind, Masquerade, NodeView, Protocol, ServiceView,
};
use portolan_nft::{Dataplane, Settings};
use socket2::{Domain, Socket, Type};

use crate::Test;
use crate::lab::{Lab, Tried, silent, tcp, udp};
use crate::namespace::Namespace;
use crate::view::{
    balance, cluster_ip, drop_, frontend, ip, load_balancer, node_port, reject, service, view,
};

pub(crate) const TESTS: &[Test] = &[
    ("pods_reach_cluster_ips_with_their_own_address", pods_reach_cluster_ips),
    ("hairpin_is_masqueraded", hairpin),
    ("off_cluster_clients_and_the_node_are_masqueraded", off_cluster),
    ("node_ports_and_load_balancers_answer_everybody", outside),
    ("udp_is_balanced_too", udp_everywhere),
    ("client_ports_are_kept_when_they_are_free", source_ports),
    ("policy_local_keeps_the_client_address", policy_local),
    ("no_endpoints_refuse_at_once", refusals),
    ("undeclared_ports_refuse_and_unallocated_addresses_are_silent", cluster_addresses),
    ("pings_of_cluster_ips_are_refused", pings),
    ("source_ranges_are_enforced", source_ranges),
    ("icmp_errors_of_endpoints_reach_the_client", icmp_errors),
    ("affinity_keeps_a_client_at_its_endpoint", affinity),
];

const V4: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];
const V6: [&str; 2] = ["[fd00:10:244::2]:8080", "[fd00:10:244::3]:8080"];

/// A lab whose node holds a view.
fn lab(view: NodeView) -> (Lab, Arc<Mutex<Dataplane>>) {
    let lab = Lab::new();
    let dataplane = lab.node.run(move || {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view).unwrap();
        Arc::new(Mutex::new(dataplane))
    });
    (lab, dataplane)
}

fn web() -> ServiceView {
    let local = |mut frontend: Frontend, all: &[&str], own: &[&str]| {
        frontend.masquerade = Masquerade::NodeOnly;
        frontend.internal = balance(all);
        frontend.external = if own.is_empty() { drop_() } else { balance(own) };
        frontend
    };
    service(
        "web",
        [
            cluster_ip("10.96.0.10", 80, balance(&V4)),
            cluster_ip("fd00:10:96::10", 80, balance(&V6)),
            cluster_ip("10.96.0.10", 81, balance(&V4[..1])),
            cluster_ip("fd00:10:96::10", 81, balance(&V6[..1])),
            load_balancer("172.30.0.192", 80, balance(&V4)),
            load_balancer("fd00:30::c000", 80, balance(&V6)),
            node_port(Family::V4, 30007, balance(&V4)),
            node_port(Family::V6, 30007, balance(&V6)),
            local(node_port(Family::V4, 30008, drop_()), &V4, &V4[1..]),
            local(node_port(Family::V6, 30008, drop_()), &V6, &V6[1..]),
            local(load_balancer("172.30.0.193", 80, drop_()), &V4, &[]),
            local(load_balancer("fd00:30::c001", 80, drop_()), &V6, &[]),
        ],
    )
}

/// Connects often enough to meet every endpoint of a few; all must answer.
fn answers(address: &str) -> BTreeSet<(String, String)> {
    let answers = (0..30).map(|_| match tcp(address) {
        Tried::Answered(server, client) => (server.to_string(), client.to_string()),
        other => panic!("{address}: {other:?}"),
    });
    answers.collect()
}

fn expect(address: &str, seen: &[(&str, &str)]) {
    let want: BTreeSet<_> =
        seen.iter().map(|(server, client)| ((*server).to_owned(), (*client).to_owned())).collect();
    assert_eq!(answers(address), want, "{address}");
}

/// Refused, and at once, however often one asks.
fn refused(address: &str) {
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(tcp(address), Tried::Refused, "{address}");
    }
    // A client that had to repeat itself would take a second each.
    assert!(start.elapsed() < Duration::from_secs(5), "{address}: {:?}", start.elapsed());
}

fn pods_reach_cluster_ips() {
    let (lab, _dataplane) = lab(view([web()]));
    // The first pod: the second sees its address, itself it sees as the node (hairpin).
    lab.pods[0].run(|| {
        expect("10.96.0.10:80", &[("10.244.0.2", "10.244.0.1"), ("10.244.0.3", "10.244.0.2")]);
        expect(
            "[fd00:10:96::10]:80",
            &[("fd00:10:244::2", "fd00:10:244::1"), ("fd00:10:244::3", "fd00:10:244::2")],
        );
    });
}

fn hairpin() {
    let (lab, _dataplane) = lab(view([web()]));
    lab.pods[0].run(|| {
        expect("10.96.0.10:81", &[("10.244.0.2", "10.244.0.1")]);
        expect("[fd00:10:96::10]:81", &[("fd00:10:244::2", "fd00:10:244::1")]);
    });
}

fn off_cluster() {
    let (lab, _dataplane) = lab(view([web()]));
    for place in [&lab.client, &lab.node] {
        place.run(|| {
            expect("10.96.0.10:80", &[("10.244.0.2", "10.244.0.1"), ("10.244.0.3", "10.244.0.1")]);
            expect(
                "[fd00:10:96::10]:80",
                &[("fd00:10:244::2", "fd00:10:244::1"), ("fd00:10:244::3", "fd00:10:244::1")],
            );
        });
    }
}

fn outside() {
    let (lab, _dataplane) = lab(view([web()]));
    for place in [&lab.client, &lab.node, &lab.pods[0], &lab.pods[1]] {
        place.run(|| {
            let both = [("10.244.0.2", "10.244.0.1"), ("10.244.0.3", "10.244.0.1")];
            expect("172.30.0.11:30007", &both);
            let both = [("fd00:10:244::2", "fd00:10:244::1"), ("fd00:10:244::3", "fd00:10:244::1")];
            expect("[fd00:30::11]:30007", &both);
        });
    }
    // The announcer is not here: the client needs a route to the load balancer address.
    lab.client.run(|| {
        crate::namespace::run("ip route add 172.30.0.192 via 172.30.0.11");
        crate::namespace::run("ip route add fd00:30::c000 via fd00:30::11");
    });
    for place in [&lab.client, &lab.node, &lab.pods[0]] {
        place.run(|| {
            let both = [("10.244.0.2", "10.244.0.1"), ("10.244.0.3", "10.244.0.1")];
            expect("172.30.0.192:80", &both);
            let both = [("fd00:10:244::2", "fd00:10:244::1"), ("fd00:10:244::3", "fd00:10:244::1")];
            expect("[fd00:30::c000]:80", &both);
        });
    }
}

fn udp_everywhere() {
    let udp_frontend =
        |kind, port, endpoints: &[&str]| frontend(kind, Protocol::Udp, port, balance(endpoints));
    let dns = service(
        "dns",
        [
            udp_frontend(FrontendKind::ClusterIp(ip("10.96.0.53")), 53, &V4[1..]),
            udp_frontend(FrontendKind::ClusterIp(ip("fd00:10:96::53")), 53, &V6[1..]),
            udp_frontend(FrontendKind::NodePort(Family::V4), 30053, &V4[1..]),
            udp_frontend(FrontendKind::NodePort(Family::V6), 30053, &V6[1..]),
        ],
    );
    let (lab, _dataplane) = lab(view([dns]));
    let ask = |bind: &'static str, address: &'static str| {
        move || udp(&UdpSocket::bind(bind).unwrap(), address).map(|client| client.to_string())
    };
    let pod = &lab.pods[0];
    assert_eq!(pod.run(ask("0.0.0.0:0", "10.96.0.53:53")).as_deref(), Some("10.244.0.2"));
    assert_eq!(pod.run(ask("[::]:0", "[fd00:10:96::53]:53")).as_deref(), Some("fd00:10:244::2"));
    let client = &lab.client;
    assert_eq!(client.run(ask("0.0.0.0:0", "172.30.0.11:30053")).as_deref(), Some("10.244.0.1"));
    assert_eq!(client.run(ask("[::]:0", "[fd00:30::11]:30053")).as_deref(), Some("fd00:10:244::1"));
    let node = &lab.node;
    assert_eq!(node.run(ask("0.0.0.0:0", "10.96.0.53:53")).as_deref(), Some("10.244.0.1"));
}

/// Asks a pod over UDP from an address, and tells the port that the pod saw.
fn port_seen(client: &Namespace, from: &'static str, address: &'static str) -> u16 {
    client.run(move || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(b"port", address).unwrap();
        let mut buffer = [0; 64];
        let len = socket.recv(&mut buffer).unwrap();
        std::str::from_utf8(&buffer[..len]).unwrap().parse().unwrap()
    })
}

fn source_ports() {
    // D11. What a server remembers about a port of the node must fit the next connection from it.
    let udp = |kind, endpoint| frontend(kind, Protocol::Udp, 30053, balance(&[endpoint]));
    let ports = service(
        "ports",
        [
            udp(FrontendKind::NodePort(Family::V4), "10.244.0.3:9000"),
            udp(FrontendKind::NodePort(Family::V6), "[fd00:10:244::3]:9000"),
        ],
    );
    let (lab, _dataplane) = lab(view([ports]));
    lab.pods[1].run(|| {
        for address in ["0.0.0.0:9000", "[::]:9000"] {
            let socket = UdpSocket::bind(address).unwrap();
            std::thread::spawn(move || {
                while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
                    let _ = socket.send_to(peer.port().to_string().as_bytes(), peer);
                }
            });
        }
    });
    let node = "172.30.0.11:30053";
    assert_eq!(port_seen(&lab.client, "172.30.0.250:40000", node), 40000);
    assert_eq!(port_seen(&lab.client, "172.30.0.250:40000", node), 40000, "every time");
    lab.client.run(|| crate::namespace::run("ip addr add 172.30.0.251/24 dev eth0"));
    assert_ne!(port_seen(&lab.client, "172.30.0.251:40000", node), 40000, "the first one's");
    assert_eq!(port_seen(&lab.client, "172.30.0.250:700", node), 700);
    let node = "[fd00:30::11]:30053";
    assert_eq!(port_seen(&lab.client, "[fd00:30::250]:40000", node), 40000);
}

fn policy_local() {
    let (lab, _dataplane) = lab(view([web()]));
    lab.client.run(|| {
        expect("172.30.0.11:30008", &[("10.244.0.3", "172.30.0.250")]);
        expect("[fd00:30::11]:30008", &[("fd00:10:244::3", "fd00:30::250")]);
        crate::namespace::run("ip route add 172.30.0.193 via 172.30.0.11");
        crate::namespace::run("ip route add fd00:30::c001 via fd00:30::11");
        assert!(silent("172.30.0.193:80"), "no local endpoint");
        assert!(silent("[fd00:30::c001]:80"), "no local endpoint");
    });
    // Short-circuit: pods of this node reach every endpoint, and keep their address.
    lab.pods[1].run(|| {
        let both = [("10.244.0.2", "10.244.0.3"), ("10.244.0.3", "10.244.0.1")];
        expect("172.30.0.11:30008", &both);
        expect("172.30.0.193:80", &both);
    });
    lab.node.run(|| {
        let both = [("10.244.0.2", "10.244.0.1"), ("10.244.0.3", "10.244.0.1")];
        expect("172.30.0.11:30008", &both);
        expect("172.30.0.193:80", &both);
        let both = [("fd00:10:244::2", "fd00:10:244::1"), ("fd00:10:244::3", "fd00:10:244::1")];
        expect("[fd00:30::c001]:80", &both);
    });
}

fn refusals() {
    let empty = service(
        "empty",
        [
            cluster_ip("10.96.0.20", 80, reject()),
            cluster_ip("fd00:10:96::20", 80, reject()),
            cluster_ip("10.96.0.20", 81, drop_()),
            node_port(Family::V4, 30020, reject()),
            node_port(Family::V6, 30020, reject()),
            node_port(Family::V4, 30021, drop_()),
        ],
    );
    let (lab, _dataplane) = lab(view([empty]));
    for place in [&lab.pods[0], &lab.node, &lab.client] {
        place.run(|| {
            for address in
                ["10.96.0.20:80", "[fd00:10:96::20]:80", "172.30.0.11:30020", "[fd00:30::11]:30020"]
            {
                refused(address);
            }
            for address in ["10.96.0.20:81", "172.30.0.11:30021"] {
                assert!(silent(address), "{address}");
            }
        });
    }
}

fn cluster_addresses() {
    let (lab, _dataplane) = lab(view([web()]));
    for place in [&lab.pods[0], &lab.node] {
        place.run(|| {
            refused("10.96.0.10:9999");
            refused("[fd00:10:96::10]:9999");
            assert!(silent("10.96.77.77:80"));
            assert!(silent("[fd00:10:96::7777]:80"));
        });
    }
}

/// No protocol but the declared ones is answered by a cluster IP (semantics 4.6).
fn pings() {
    let (lab, _dataplane) = lab(view([web()]));
    lab.pods[0].run(|| {
        // Port unreachable: RFC 792 and RFC 4443 section 3.1.
        assert_eq!(ping("10.96.0.10"), Some((3, 3)));
        assert_eq!(ping("fd00:10:96::10"), Some((1, 4)));
        assert_eq!(ping("10.96.77.77"), None);
        // Echo replies of those who are there.
        assert_eq!(ping("10.244.0.3"), Some((0, 0)));
        assert_eq!(ping("fd00:10:244::3"), Some((129, 0)));
    });
}

/// Type and code of the first ICMP message that an echo request brings.
fn ping(address: &str) -> Option<(u8, u8)> {
    let address = ip(address);
    let (domain, protocol, header) = match address {
        IpAddr::V4(_) => (Domain::IPV4, socket2::Protocol::ICMPV4, 20),
        IpAddr::V6(_) => (Domain::IPV6, socket2::Protocol::ICMPV6, 0),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    // The checksum of the IPv4 one; the kernel makes that of the other.
    let request: [u8; 8] =
        if address.is_ipv4() { [8, 0, 0xf7, 0xff, 0, 0, 0, 0] } else { [128, 0, 0, 0, 0, 0, 0, 0] };
    socket.send_to(&request, &SocketAddr::new(address, 0).into()).unwrap();
    let mut buffer = [0; 256];
    loop {
        let len = socket.read(&mut buffer).ok()?;
        let message = &buffer[header..len];
        // Neighbours look for each other as well.
        if !(133..=137).contains(&message[0]) {
            return Some((message[0], message[1]));
        }
    }
}

fn source_ranges() {
    let restricted = |address, port, ranges: &[&str]| {
        let endpoints = if address == "172.30.0.194" { &V4 } else { &V6 };
        let mut frontend = load_balancer(address, port, balance(endpoints));
        frontend.source_ranges = Some(ranges.iter().map(|range| range.parse().unwrap()).collect());
        frontend
    };
    let bank = service(
        "bank",
        [
            restricted("172.30.0.194", 80, &["172.30.0.240/28", "172.30.0.0/25", "172.30.0.0/24"]),
            restricted("172.30.0.194", 81, &["192.0.2.0/24", "198.51.100.7/32"]),
            restricted("fd00:30::c002", 80, &["fd00:30::/64"]),
            restricted("fd00:30::c002", 81, &["2001:db8::/32"]),
        ],
    );
    let (lab, _dataplane) = lab(view([bank]));
    lab.client.run(|| {
        crate::namespace::run("ip route add 172.30.0.194 via 172.30.0.11");
        crate::namespace::run("ip route add fd00:30::c002 via fd00:30::11");
        assert!(matches!(tcp("172.30.0.194:80"), Tried::Answered(..)));
        assert!(matches!(tcp("[fd00:30::c002]:80"), Tried::Answered(..)));
        assert!(silent("172.30.0.194:81"));
        assert!(silent("[fd00:30::c002]:81"));
    });
    lab.node.run(|| assert!(silent("172.30.0.194:81"), "the node is checked too"));
}

fn icmp_errors() {
    // D42: nobody listens on the endpoint's port; its kernel says so about its own address.
    let deaf = |kind, endpoint| frontend(kind, Protocol::Udp, 53, balance(&[endpoint]));
    let (lab, _dataplane) = lab(view([service(
        "deaf",
        [
            deaf(FrontendKind::ClusterIp(ip("10.96.0.53")), "10.244.0.3:9"),
            deaf(FrontendKind::ClusterIp(ip("fd00:10:96::53")), "[fd00:10:244::3]:9"),
        ],
    )]));
    for place in [&lab.pods[0], &lab.client] {
        place.run(|| {
            for (own, address) in
                [("0.0.0.0:0", "10.96.0.53:53"), ("[::]:0", "[fd00:10:96::53]:53")]
            {
                let socket = UdpSocket::bind(own).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket.connect(address).unwrap();
                socket.send(b"anybody there").unwrap();
                let error = socket.recv(&mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
            }
        });
    }
}

fn affinity() {
    // D15, D17.
    let sticky = |mut frontend: Frontend| {
        frontend.affinity = Some(Affinity { timeout_seconds: 100 });
        frontend
    };
    let all = |v4: &[&str], v6: &[&str]| {
        view([service(
            "sticky",
            [
                sticky(cluster_ip("10.96.0.30", 80, balance(v4))),
                sticky(node_port(Family::V4, 30030, balance(v4))),
                sticky(cluster_ip("fd00:10:96::30", 80, balance(v6))),
                sticky(node_port(Family::V6, 30030, balance(v6))),
            ],
        )])
    };
    let (lab, dataplane) = lab(all(&V4, &V6));
    let addresses =
        [("10.96.0.30:80", "172.30.0.11:30030"), ("[fd00:10:96::30]:80", "[fd00:30::11]:30030")];
    let mut kept = Vec::new();
    for (cluster_ip, node_port) in addresses {
        let servers: BTreeSet<_> = lab
            .client
            .run(move || [answers(cluster_ip), answers(node_port)].into_iter().flatten().collect());
        let [(server, _)] = Vec::from_iter(&servers)[..] else { panic!("one of {servers:?}") };
        kept.push(server.parse::<IpAddr>().unwrap());
    }
    // The remembered endpoints go away: others are drawn and remembered.
    let others = |all: [&'static str; 2], gone: IpAddr| {
        let own = gone.to_string();
        all.into_iter().filter(|text| !text.contains(&own)).collect::<Vec<_>>()
    };
    let rest = all(&others(V4, kept[0]), &others(V6, kept[1]));
    lab.node.run(move || dataplane.lock().unwrap().sync(&rest).unwrap());
    for ((cluster_ip, node_port), gone) in addresses.into_iter().zip(kept) {
        let servers: BTreeSet<_> = lab
            .client
            .run(move || [answers(cluster_ip), answers(node_port)].into_iter().flatten().collect());
        let [(server, _)] = Vec::from_iter(&servers)[..] else { panic!("one of {servers:?}") };
        assert_ne!(server.parse::<IpAddr>().unwrap(), gone);
    }
}
