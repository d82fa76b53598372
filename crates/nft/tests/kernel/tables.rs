//! What the kernel holds, and what happens when it changes.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;

use model::{Family, FrontendKind, Protocol, ServiceView};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portolan_nft::ruleset::{Data, Key, Op, Unread};
use portolan_nft::{Dataplane, Kernel, Netfilter, Settings, Synced, diff};

use crate::Test;
use crate::lab::{Lab, Tried, greeting, tcp, udp};
use crate::namespace::{Namespace, output, run};
use crate::view::{
    balance, cluster_ip, drop_, frontend, ip, load_balancer, node_port, reject, service, view,
};

pub(crate) const TESTS: &[Test] = &[
    ("one_endpoint_is_one_small_transaction", one_endpoint),
    ("established_connections_survive_changes", established),
    ("a_restart_changes_nothing", restart),
    ("what_an_older_process_left_is_corrected", leftovers),
    ("a_change_after_a_foreign_flush_repairs_everything", change_after_flush),
    ("sets_that_have_not_been_read_are_replaced_at_one_stroke", unread),
    ("own_changes_wake_nobody", own_events),
    ("cleanup_leaves_nothing", cleanup),
    ("the_nft_program_can_read_the_tables", nft_reads),
    ("udp_clients_leave_a_gone_endpoint", stale_udp),
    ("unrelated_udp_connections_are_kept", unrelated_udp),
    ("many_services_without_privileges", many_services),
];

pub(crate) fn dns(endpoints: &[&str]) -> ServiceView {
    let action = if endpoints.is_empty() { reject() } else { balance(endpoints) };
    service(
        "dns",
        [
            frontend(FrontendKind::ClusterIp(ip("10.96.0.53")), Protocol::Udp, 53, action.clone()),
            frontend(FrontendKind::NodePort(Family::V4), Protocol::Udp, 30053, action),
        ],
    )
}

pub(crate) fn web(endpoints: &[&str]) -> ServiceView {
    service(
        "web",
        [
            cluster_ip("10.96.0.10", 80, balance(endpoints)),
            node_port(Family::V4, 30007, balance(endpoints)),
        ],
    )
}

pub(crate) fn open() -> Dataplane {
    Dataplane::open(Settings::default()).unwrap()
}

pub(crate) const BOTH: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];

fn one_endpoint() {
    // D45.
    Namespace::new().run(|| {
        let mut dataplane = open();
        let others = (0..50).map(|number| {
            service(
                &format!("other-{number}"),
                [cluster_ip(&format!("10.96.1.{number}"), 80, balance(&["10.244.0.9:80"]))],
            )
        });
        let mut view = view(others.chain([web(&["10.244.0.2:80", "10.244.0.3:80"])]));
        dataplane.sync(&view).unwrap();

        let web = web(&["10.244.0.2:80", "10.244.0.4:80"]);
        view.services.insert(web.name.clone(), web.into());
        let synced = dataplane.sync(&view).unwrap();
        // Two frontends, two hairpin pairs: each one element out and one in.
        assert_eq!((synced.added, synced.removed), (3, 3));
        assert!(synced.messages <= 6 && synced.bytes < 1000, "{synced:?}");
        assert_eq!(dataplane.sync(&view).unwrap(), Synced::default(), "nothing changed");
        assert_eq!(dataplane.verify().unwrap(), Synced::default(), "the kernel holds just that");
    });
}

fn established() {
    // D35.
    let lab = Lab::new();
    let mut dataplane = lab.node.run(|| {
        let mut dataplane = open();
        dataplane.sync(&view([web(&BOTH[..1])])).unwrap();
        dataplane
    });
    let mut stream = lab.client.run(|| TcpStream::connect("172.30.0.11:30007").unwrap());
    assert!(matches!(greeting(&mut stream), Tried::Answered(..)));
    let mut echo = move |byte: u8| {
        stream.write_all(&[byte]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    };
    // Its endpoint goes away, the Service goes away, the process is replaced.
    dataplane.sync(&view([web(&BOTH[1..])])).unwrap();
    echo(1);
    dataplane.sync(&view([])).unwrap();
    echo(2);
    dataplane = lab.node.run(open);
    dataplane.sync(&view([web(&BOTH[1..])])).unwrap();
    echo(3);
}

fn restart() {
    Namespace::new().run(|| {
        let view = view([web(&BOTH), dns(&BOTH)]);
        open().sync(&view).unwrap();
        assert_eq!(open().sync(&view).unwrap(), Synced::default());
    });
}

fn leftovers() {
    // D46.
    Namespace::new().run(|| {
        open().sync(&view([web(&BOTH), dns(&BOTH)])).unwrap();
        let mut dataplane = open();
        let synced = dataplane.sync(&view([web(&BOTH[..1])])).unwrap();
        assert!(synced.repaired && synced.added < 5, "{synced:?}");
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    });
}

fn change_after_flush() {
    Namespace::new().run(|| {
        if testkit::program("nft").is_none() {
            return testkit::skip("a_change_after_a_foreign_flush_repairs_everything", "no nft");
        }
        let mut dataplane = open();
        dataplane.sync(&view([web(&BOTH)])).unwrap();
        run("nft flush ruleset");
        let synced = dataplane.sync(&view([web(&BOTH[..1])])).unwrap();
        assert!(synced.added > 5, "{synced:?}");
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    });
}

fn unread() {
    // D45, D50. What is in the set and in its place is the same, apart from one element.
    Namespace::new().run(|| {
        open().sync(&view([web(&BOTH)])).unwrap();
        let mut kernel = Kernel::open().unwrap();
        let want = kernel.read().unwrap();
        let stranger = (Key::new(&[192, 0, 2, 1]), Data::None);
        let intrusion = Op::AddElements(Family::V4, "cluster-ips".into(), vec![stranger]);
        kernel.commit(&[intrusion]).unwrap();
        let mut have = kernel.read().unwrap();
        let sets = have.values_mut().flat_map(|table| table.sets.values_mut());
        for set in sets.filter(|set| !set.spec.is_filled_by_packets()) {
            set.elements.clear();
            set.unread = Unread::Possible;
        }
        let operations = diff(&have, &want);
        assert!(operations.iter().any(|operation| matches!(operation, Op::AddElements(..))));
        kernel.commit(&operations).unwrap();
        assert_eq!(kernel.read().unwrap(), want);
    });
}

fn own_events() {
    Namespace::new().run(|| {
        let mut dataplane = open();
        let mut watch = dataplane.events().unwrap();
        dataplane.sync(&view([web(&BOTH)])).unwrap();
        dataplane.sync(&view([web(&BOTH[..1])])).unwrap();
        dataplane.sync(&view((0..500).map(many))).unwrap();
        assert!(!woken(&watch), "woken by its own changes");
        assert!(watch.drain().unwrap().is_none());
    });
}

pub(crate) fn woken(watch: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

fn cleanup() {
    // D48.
    Namespace::new().run(|| {
        let mut dataplane = open();
        dataplane.sync(&view([web(&BOTH)])).unwrap();
        dataplane.cleanup().unwrap();
        dataplane.cleanup().unwrap();
        if testkit::program("nft").is_none() {
            return testkit::skip("cleanup_leaves_nothing", "no nft program");
        }
        assert_eq!(output("nft list tables").unwrap(), "");
    });
}

fn nft_reads() {
    if testkit::program("nft").is_none() {
        return testkit::skip("the_nft_program_can_read_the_tables", "no nft program");
    }
    Namespace::new().run(|| {
        let mut local = load_balancer("172.30.0.193", 80, balance(&BOTH));
        local.external = drop_();
        local.source_ranges = Some(vec!["172.30.0.0/24".parse().unwrap()]);
        let view = view([web(&BOTH), service("other", [local])]);
        open().sync(&view).unwrap();
        let text = output("nft list ruleset").unwrap();
        for line in [
            "elements = { 10.96.0.10 . tcp . 80 }",
            "elements = { tcp . 30007 }",
            "ip daddr . meta l4proto . th dport @pick-2 goto pick-2",
            "meta l4proto . th dport @node-ports-masquerade goto node-ports-masquerade",
            "10.96.0.10 . tcp . 80 . 0x00000001 : 10.244.0.3 . 8080",
            "ip daddr . meta l4proto . th dport @frontends-masquerade-off-cluster goto",
            "172.30.0.193 . tcp . 80 . 172.30.0.0/24",
            "numgen random mod 2 map @endpoints",
            "masquerade",
            "ip6 daddr fd00:10:96::/112 drop",
        ] {
            assert!(text.contains(line), "nft does not show {line:?}:\n{text}");
        }
    });
}

fn stale_udp() {
    // D36.
    let lab = Lab::new();
    let mut dataplane = lab.node.run(|| {
        let mut dataplane = open();
        dataplane.sync(&view([])).unwrap();
        dataplane
    });
    // The client sends before there is a Service, then keeps sending from the same port.
    let socket = lab.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let ask = |address: &str| udp(&socket, address).is_some();
    assert!(!ask("172.30.0.11:30053"), "no Service yet");
    let forgotten = |dataplane: &mut Dataplane, endpoints: &[&str]| {
        dataplane.sync(&view([dns(endpoints)])).unwrap().forgotten
    };
    assert_eq!(forgotten(&mut dataplane, &BOTH[..1]), 1, "an entry that leads nowhere");
    assert!(ask("172.30.0.11:30053"));
    assert_eq!(forgotten(&mut dataplane, &BOTH), 0, "its endpoint is still there");
    assert_eq!(forgotten(&mut dataplane, &BOTH[1..]), 1, "its endpoint is gone");
    assert!(ask("172.30.0.11:30053"));
    assert_eq!(forgotten(&mut dataplane, &[]), 1, "all endpoints are gone");
    assert_eq!(forgotten(&mut dataplane, &BOTH), 0);
    assert!(ask("172.30.0.11:30053"));
    assert_eq!(dataplane.sync(&view([])).unwrap().forgotten, 1, "the Service is gone");
}

fn unrelated_udp() {
    // D38.
    let lab = Lab::new();
    lab.client.run(|| {
        // A server outside that happens to use the number of a node port.
        let server = UdpSocket::bind("172.30.0.250:30053").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    });
    let mut dataplane = lab.node.run(|| {
        let mut dataplane = open();
        dataplane.sync(&view([dns(&BOTH)])).unwrap();
        dataplane
    });
    lab.client.run(|| run("ip route add 10.244.0.0/24 via 172.30.0.11"));
    let answer =
        lab.pods[0].run(|| udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), "172.30.0.250:30053"));
    assert!(answer.is_some());
    assert_eq!(dataplane.sync(&view([dns(&BOTH[..1])])).unwrap().forgotten, 0);
}

/// More than one datagram can carry without CAP_NET_ADMIN on the host.
fn many_services() {
    let lab = Lab::new();
    lab.node.run(|| {
        let mut dataplane = open();
        let synced = dataplane.sync(&view((0..3000).map(many).chain([web(&BOTH)]))).unwrap();
        assert!(synced.bytes > 500_000, "{synced:?}");
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    });
    lab.pods[0].run(|| assert!(matches!(tcp("10.96.0.10:80"), Tried::Answered(..))));
}

pub(crate) fn many(number: u32) -> ServiceView {
    let address = format!("10.96.{}.{}", 1 + number / 250, number % 250);
    let endpoints = ["10.244.1.2:80", "10.244.1.3:80", "10.244.1.4:80", "10.244.1.5:80"];
    service(&format!("many-{number}"), [cluster_ip(&address, 80, balance(&endpoints))])
}
