//! Packets that connection tracking, fragments or a host firewall make special.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use model::{Family, FrontendKind, Protocol};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sendto, socket as open_socket,
};
use portolan_nft::{Dataplane, Firewall, FirewallChain, Opened, Settings};

use crate::Test;
use crate::lab::{self, Lab, Tried, greeting, silent, tcp};
use crate::namespace::{Namespace, output, run};
use crate::view::{balance, cluster_ip, frontend, ip, node_port, reject, service, view};

pub(crate) const TESTS: &[Test] = &[
    ("invalid_packets_of_endpoints_do_not_reach_clients", invalid),
    ("large_udp_passes_in_fragments", fragments),
    ("node_ports_answer_on_loopback_addresses_if_asked_to", localhost),
    ("a_host_firewall_lets_services_pass_by_one_rule", host_firewall),
];

fn loaded(lab: &Lab, settings: Settings) -> Dataplane {
    lab.node.run(move || {
        let web = service(
            "web",
            [
                cluster_ip("10.96.0.10", 80, balance(&["10.244.0.3:8080"])),
                node_port(Family::V4, 30007, balance(&["10.244.0.3:8080"])),
            ],
        );
        let udp = |kind, endpoint| frontend(kind, Protocol::Udp, 30053, balance(&[endpoint]));
        let large = service(
            "large",
            [
                udp(FrontendKind::ClusterIp(ip("10.96.0.53")), "10.244.0.3:9000"),
                udp(FrontendKind::ClusterIp(ip("fd00:10:96::53")), "[fd00:10:244::3]:9000"),
                udp(FrontendKind::NodePort(Family::V4), "10.244.0.3:9000"),
                udp(FrontendKind::NodePort(Family::V6), "[fd00:10:244::3]:9000"),
            ],
        );
        let mut dataplane = Dataplane::open(settings).unwrap();
        dataplane.sync(&view([web, large])).unwrap();
        dataplane
    })
}

fn invalid() {
    // D39: the end-to-end test of kubernetes issue 74839.
    for drop_invalid in [true, false] {
        let lab = Lab::new();
        let _dataplane = loaded(&lab, Settings { drop_invalid, ..Settings::default() });
        let client = &lab.pods[0];
        let mut stream = client.run(|| TcpStream::connect("10.96.0.10:80").unwrap());
        assert!(matches!(greeting(&mut stream), Tried::Answered(..)));
        let port = stream.local_addr().unwrap().port();
        let before = client.run(resets);
        lab.pods[1].run(move || send_out_of_window(port));
        // What comes after it on the same way has come after it.
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        if !drop_invalid {
            // The segment takes another processor's way than the stream.
            await_resets(client, before);
        }
        let after = client.run(resets);
        assert_eq!(after > before, !drop_invalid, "resets: {before} before, {after} after");
    }
}

/// Waits until more resets have been sent; gives up after 10 s.
fn await_resets(client: &Namespace, before: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.run(resets) == before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// TCP resets that this namespace has sent (RFC 4022 tcpOutRsts).
fn resets() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "OutRsts").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

/// Acknowledgements from the endpoint, far from where the connection is. Conntrack takes those that
/// lie before the window for late repetitions; some of four all around lie beyond it.
fn send_out_of_window(port: u16) {
    (0..4).for_each(|quarter| send_acknowledgement(port, quarter << 30));
}

fn send_acknowledgement(port: u16, sequence: u32) {
    let (from, to) = (Ipv4Addr::new(10, 244, 0, 3), Ipv4Addr::new(10, 244, 0, 2));
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&8080_u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&(1_u32 << 30).to_be_bytes());
    segment[12..14].copy_from_slice(&[5 << 4, 0x10]); // header of five words; ACK
    segment[14..16].copy_from_slice(&1024_u16.to_be_bytes());
    let checksum = checksum(from, to, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    let raw = open_socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        nix::sys::socket::SockProtocol::Tcp,
    );
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    sendto(raw.unwrap().as_raw_fd(), &segment, &to, MsgFlags::empty()).unwrap();
}

/// RFC 9293 section 3.1.
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    let bytes = [&from.octets()[..], &to.octets(), &[0, 6], &length, segment].concat();
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn fragments() {
    // D43.
    const LEN: usize = 20_000;
    let lab = Lab::new();
    let _dataplane = loaded(&lab, Settings::default());
    lab.pods[1].run(|| {
        for address in ["10.244.0.3:9000", "[fd00:10:244::3]:9000"] {
            let socket = UdpSocket::bind(address).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65535];
                while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], peer);
                }
            });
        }
    });
    let echo = |place: &Namespace, from: &'static str, to: &'static str| {
        place.run(move || {
            let socket = UdpSocket::bind(from).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.connect(to).unwrap();
            socket.send(&[7; LEN]).unwrap();
            let mut buffer = vec![0; 65535];
            assert_eq!(socket.recv(&mut buffer).unwrap(), LEN, "{to}");
        });
    };
    let (any4, any6) = ("0.0.0.0:0", "[::]:0");
    for place in [&lab.client, &lab.pods[0], &lab.node] {
        echo(place, any4, "10.96.0.53:30053");
        echo(place, any6, "[fd00:10:96::53]:30053");
        echo(place, any4, "172.30.0.11:30053");
        echo(place, any6, "[fd00:30::11]:30053");
    }
}

fn localhost() {
    // D31.
    let lab = Lab::new();
    let asked = Settings { localhost_node_ports: true, ..Settings::default() };
    let udp = |to: &str| {
        lab::udp(&UdpSocket::bind("127.0.0.1:0").unwrap(), to).map(|client| client.to_string())
    };
    let dns = |kind, endpoint| frontend(kind, Protocol::Udp, 30054, balance(&[endpoint]));
    let services = move || {
        let web = [
            node_port(Family::V4, 30007, balance(&["10.244.0.3:8080"])),
            node_port(Family::V6, 30007, balance(&["[fd00:10:244::3]:8080"])),
            node_port(Family::V4, 30008, reject()),
            dns(FrontendKind::NodePort(Family::V4), "10.244.0.3:8080"),
        ];
        view([service("web", web)])
    };
    lab.node.run(move || {
        let mut dataplane = Dataplane::open(asked).unwrap();
        dataplane.sync(&services()).unwrap();
        portolan_nft::sysctl::route_localnet().unwrap();
    });
    for address in ["127.0.0.1:30007", "127.5.5.5:30007"] {
        lab.node.run(move || assert!(matches!(tcp(address), Tried::Answered(..)), "{address}"));
    }
    lab.node.run(move || {
        assert_eq!(tcp("127.0.0.1:30008"), Tried::Refused);
        assert_eq!(tcp("[::1]:30007"), Tried::Refused, "nobody listens there");
        assert_eq!(udp("127.0.0.1:30054").as_deref(), Some("10.244.0.1"));
    });
    // A neighbour that sends to or as a loopback address gets nowhere.
    lab.client.run(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        run("ip route del local 127.0.0.0/8 dev lo table local");
        run("ip route del local 127.0.0.1 dev lo table local");
        run("ip route add 127.0.0.1 via 172.30.0.11");
        assert!(silent("127.0.0.1:30007"), "reached from outside");
    });
}

fn host_firewall() {
    // D40: accepting in one table does not overrule a drop in another, so the firewall itself has
    // to let Services pass; one rule does.
    if testkit::program("nft").is_none() {
        return testkit::skip("a_host_firewall_lets_services_pass_by_one_rule", "no nft program");
    }
    let lab = Lab::new();
    let _dataplane = loaded(&lab, Settings::default());
    lab.node.run(|| {
        run("nft add table inet host");
        run(
            "nft add chain inet host forward { type filter hook forward priority 0; policy drop; }",
        );
    });
    lab.client.run(|| assert!(silent("172.30.0.11:30007"), "the firewall drops everything"));
    lab.node.run(|| {
        let opened = |chain: &str| {
            Firewall::open().unwrap().let_services_pass(&chain.parse().unwrap()).unwrap()
        };
        assert_eq!(opened("inet/host/forward"), Opened::Now);
        assert_eq!(opened("inet/host/forward"), Opened::Already);
        assert_eq!(opened("inet/host/input"), Opened::Missing);
        assert_eq!(opened("inet/absent/forward"), Opened::Missing);
    });
    let answered = |place: &Namespace, address: &'static str| {
        place.run(move || assert!(matches!(tcp(address), Tried::Answered(..)), "{address}"));
    };
    answered(&lab.client, "172.30.0.11:30007");
    answered(&lab.client, "10.96.0.10:80");
    answered(&lab.pods[0], "10.96.0.10:80");
    let direct: SocketAddr = "10.244.0.3:8080".parse().unwrap();
    lab.pods[0].run(move || {
        let tried = TcpStream::connect_timeout(&direct, Duration::from_millis(700));
        assert!(tried.is_err(), "only Services pass");
    });
    lab.node.run(|| {
        let listed = || output("nft list chain inet host forward").unwrap();
        let rule = "ct status dnat accept comment \"portolan: connections to Services\"";
        assert!(listed().contains(rule), "{}", listed());
        let chain: FirewallChain = "inet/host/forward".parse().unwrap();
        assert!(Firewall::open().unwrap().take_back(&chain).unwrap());
        assert!(!listed().contains("dnat"), "{}", listed());
    });
}
