//! What an operator sees who lists the tables.

use std::net::UdpSocket;

use model::{Affinity, Family, Frontend, FrontendKind, Masquerade, Protocol, ServiceView};
use portolan_nft::{Dataplane, Settings};

use crate::Test;
use crate::lab::{Lab, Tried, tcp, udp};
use crate::namespace::{output, run};
use crate::view::{
    balance, cluster_ip, drop_, frontend, ip, load_balancer, node_port, reject, service, socket,
    view,
};

pub(crate) const TESTS: &[Test] = &[
    ("nft_lists_tables_that_use_everything", everything),
    ("nft_lists_affinity_of_every_kind", affinity),
];

const V4: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];
const V6: [&str; 2] = ["[fd00:10:244::2]:8080", "[fd00:10:244::3]:8080"];

fn sticky(mut frontend: Frontend) -> Frontend {
    frontend.affinity = Some(Affinity { timeout_seconds: 600 });
    frontend
}

/// Policy Local: others drop or go to endpoints of this node.
fn local(mut frontend: Frontend, own: &[&str]) -> Frontend {
    frontend.masquerade = Masquerade::NodeOnly;
    frontend.external = if own.is_empty() { drop_() } else { balance(own) };
    frontend
}

fn sticky_services() -> ServiceView {
    let many: Vec<String> = (1..=20).map(|number| format!("10.244.1.{number}:80")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let udp = frontend(FrontendKind::ClusterIp(ip("10.96.0.33")), Protocol::Udp, 53, balance(&V4));
    service(
        "sticky",
        [
            sticky(cluster_ip("10.96.0.30", 80, balance(&V4))),
            sticky(cluster_ip("fd00:10:96::30", 80, balance(&V6))),
            sticky(node_port(Family::V4, 30030, balance(&V4))),
            sticky(node_port(Family::V6, 30030, balance(&V6))),
            sticky(local(node_port(Family::V4, 30031, balance(&V4)), &V4[..1])),
            sticky(local(load_balancer("172.30.0.193", 80, balance(&V4)), &V4[1..])),
            sticky(cluster_ip("10.96.0.31", 80, balance(&many))),
            sticky(udp),
        ],
    )
}

fn answered(address: &str) {
    assert!(matches!(tcp(address), Tried::Answered(..)), "{address}");
}

/// Everything, as `nft` prints it in its three ways.
fn list(lab: &Lab) -> String {
    lab.node.run(|| {
        let text = output("nft list ruleset").unwrap();
        output("nft --json list ruleset").unwrap();
        output("nft --stateless --handle --numeric list ruleset").unwrap();
        text
    })
}

fn affinity() {
    // D15 to D18.
    if testkit::program("nft").is_none() {
        return testkit::skip("nft_lists_affinity_of_every_kind", "no nft program");
    }
    let lab = Lab::new();
    let _dataplane = lab.node.run(|| {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view([sticky_services()])).unwrap();
        dataplane
    });
    list(&lab);
    lab.client.run(|| {
        for address in ["10.96.0.30:80", "[fd00:10:96::30]:80", "172.30.0.11:30031"] {
            answered(address);
        }
        let own = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(udp(&own, "10.96.0.33:53").is_some());
    });
    let text = list(&lab);
    for line in [
        "172.30.0.250 . 10.96.0.30 . tcp . 80 timeout 10m expires ",
        "fd00:30::250 . fd00:10:96::30 . tcp . 80 timeout 10m expires ",
        "172.30.0.250 . 10.96.0.33 . udp . 53 timeout 10m expires ",
    ] {
        assert!(text.contains(line), "nft does not show {line:?}:\n{text}");
    }
}

fn everything() {
    if testkit::program("nft").is_none() {
        return testkit::skip("nft_lists_tables_that_use_everything", "no nft program");
    }
    let lab = Lab::new();
    let _dataplane = lab.node.run(|| {
        let settings =
            Settings { counters: true, localhost_node_ports: true, ..Settings::default() };
        let mut restricted = load_balancer("172.30.0.194", 80, balance(&V4));
        restricted.source_ranges = Some(vec!["192.0.2.0/24".parse().unwrap()]);
        let mut resetting = node_port(Family::V4, 30032, balance(&V4));
        resetting.resets = true;
        resetting.lasting = V4.map(socket).into();
        let others = [
            service("bank", [restricted]),
            service("resetting", [resetting]),
            service("refusing", [node_port(Family::V4, 30020, reject())]),
            service("dropping", [node_port(Family::V6, 30021, drop_())]),
        ];
        let mut dataplane = Dataplane::open(settings).unwrap();
        dataplane.sync(&view(others.into_iter().chain([sticky_services()]))).unwrap();
        dataplane
    });
    lab.client.run(|| {
        answered("10.96.0.30:80");
        answered("[fd00:30::11]:30030");
        answered("172.30.0.11:30032");
        assert_eq!(tcp("172.30.0.11:30020"), Tried::Refused);
        run("ip route add 172.30.0.194 via 172.30.0.11");
        assert!(crate::lab::silent("172.30.0.194:80"));
    });
    let text = list(&lab);
    for line in [
        "172.30.0.250 . 10.96.0.30 . tcp . 80 timeout 10m expires ",
        "fd00:30::250 . fd00:10:96::30 . tcp . 80 timeout 10m expires ",
        "172.30.0.11 . tcp . 30020 counter packets 1 bytes ",
        "172.30.0.194 . tcp . 80 counter packets 1 bytes ",
        "10.96.0.30 . tcp . 80 . 10.244.0.",
        "172.30.0.194 . tcp . 80 . 192.0.2.0/24",
        "elements = { tcp . 30032 }",
        "chain count-packets {",
        "ct direction original",
        "masquerade",
    ] {
        assert!(text.contains(line), "nft does not show {line:?}:\n{text}");
    }
}
