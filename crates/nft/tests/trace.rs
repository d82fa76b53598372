//! Packets traced through the rules that views compile to, in the fake kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/view.rs"]
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Action, Affinity, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeView, Outcome,
    Packet, Protocol, ServiceView,
};
use portolan_nft::{Dataplane, Fake, Settings, Synced, Target};
use proptest::prelude::*;

use crate::view::{
    balance, cluster_ip, drop_, frontend, ip, load_balancer, node_port, reject, service, socket,
    view,
};

const POD: &str = "10.244.0.9:40000";
const POD6: &str = "[fd00:10:244::9]:40000";
const OUTSIDE: &str = "172.30.0.250:40000";
const OUTSIDE6: &str = "[fd00:30::250]:40000";
const NODE: &str = "172.30.0.11:40000";
const ENDPOINTS: [&str; 2] = ["10.244.0.2:8080", "10.244.1.3:8080"];
const ENDPOINTS6: [&str; 2] = ["[fd00:10:244::2]:8080", "[fd00:10:244:1::3]:8080"];

fn loaded(view: &NodeView) -> Dataplane<Fake> {
    let mut dataplane =
        Dataplane::new(Fake::new(view.context.node_addresses.clone()), Settings::default());
    dataplane.sync(view).unwrap();
    dataplane
}

fn packet(protocol: Protocol, source: &str, destination: &str) -> Packet {
    let source = socket(source);
    let from_node = view([]).context.node_addresses.contains(&source.ip());
    let pod = source.ip().to_string().starts_with("10.244.0.");
    Packet {
        node: "node1".into(),
        from_node,
        interface: if from_node {
            ""
        } else if pod {
            "veth9"
        } else {
            "eth0"
        }
        .to_owned(),
        protocol,
        source,
        destination: socket(destination),
    }
}

fn trace(view: &NodeView, source: &str, destination: &str) -> Outcome {
    loaded(view).netfilter().trace(&packet(Protocol::Tcp, source, destination))
}

fn delivered(to: &[&str], masqueraded: &[&str]) -> Outcome {
    let set = |texts: &[&str]| texts.iter().map(|text| socket(text)).collect::<BTreeSet<_>>();
    Outcome::Delivered { to: set(to), masqueraded: set(masqueraded) }
}

fn untouched(address: &str) -> Outcome {
    Outcome::Untouched(ip(address))
}

fn with(frontend: Frontend, change: impl FnOnce(&mut Frontend)) -> Frontend {
    let mut frontend = frontend;
    change(&mut frontend);
    frontend
}

#[test]
fn cluster_ips_reach_all_endpoints_and_masquerade_who_is_not_a_pod() {
    let view = view([service(
        "web",
        [
            cluster_ip("10.96.0.10", 80, balance(&ENDPOINTS)),
            cluster_ip("fd00:10:96::10", 80, balance(&ENDPOINTS6)),
        ],
    )]);
    assert_eq!(trace(&view, POD, "10.96.0.10:80"), delivered(&ENDPOINTS, &[]));
    assert_eq!(trace(&view, OUTSIDE, "10.96.0.10:80"), delivered(&ENDPOINTS, &ENDPOINTS));
    assert_eq!(trace(&view, NODE, "10.96.0.10:80"), delivered(&ENDPOINTS, &ENDPOINTS));
    assert_eq!(trace(&view, POD6, "[fd00:10:96::10]:80"), delivered(&ENDPOINTS6, &[]));
    assert_eq!(trace(&view, OUTSIDE6, "[fd00:10:96::10]:80"), delivered(&ENDPOINTS6, &ENDPOINTS6));
}

#[test]
fn only_the_exact_protocol_matches() {
    let dns = frontend(
        FrontendKind::LoadBalancer(ip("172.30.0.192")),
        Protocol::Udp,
        53,
        balance(&["10.244.0.2:53"]),
    );
    let dataplane = loaded(&view([service("dns", [dns])]));
    let ask = |protocol| dataplane.netfilter().trace(&packet(protocol, OUTSIDE, "172.30.0.192:53"));
    assert_eq!(ask(Protocol::Udp), delivered(&["10.244.0.2:53"], &["10.244.0.2:53"]));
    assert_eq!(ask(Protocol::Tcp), untouched("172.30.0.192"));
}

#[test]
fn hairpin_is_masqueraded_whatever_the_policy() {
    for masquerade in [Masquerade::Never, Masquerade::OffCluster, Masquerade::NodeOnly] {
        let web = with(cluster_ip("10.96.0.10", 80, balance(&ENDPOINTS)), |frontend| {
            frontend.masquerade = masquerade;
        });
        let view = view([service("web", [web])]);
        let outcome = trace(&view, "10.244.0.2:40000", "10.96.0.10:80");
        assert_eq!(outcome, delivered(&ENDPOINTS, &ENDPOINTS[..1]), "{masquerade:?}");
    }
}

#[test]
fn node_ports_answer_on_the_nodes_addresses_only() {
    let view = view([service(
        "web",
        [
            node_port(Family::V4, 30007, balance(&ENDPOINTS)),
            node_port(Family::V6, 30007, balance(&ENDPOINTS6)),
        ],
    )]);
    for source in [POD, OUTSIDE, NODE] {
        let outcome = trace(&view, source, "172.30.0.11:30007");
        assert_eq!(outcome, delivered(&ENDPOINTS, &ENDPOINTS), "{source}");
    }
    let outcome = trace(&view, OUTSIDE6, "[fd00:30::11]:30007");
    assert_eq!(outcome, delivered(&ENDPOINTS6, &ENDPOINTS6));
    assert_eq!(trace(&view, POD, "172.30.0.12:30007"), untouched("172.30.0.12"));
    assert_eq!(trace(&view, NODE, "127.0.0.1:30007"), untouched("127.0.0.1"));
}

#[test]
fn policy_local_short_circuits_for_this_nodes_pods_and_processes() {
    let local = |external: Action| {
        with(load_balancer("172.30.0.192", 80, balance(&ENDPOINTS)), |frontend| {
            frontend.masquerade = Masquerade::NodeOnly;
            frontend.external = external;
        })
    };
    let some = view([service("web", [local(balance(&ENDPOINTS[..1]))])]);
    assert_eq!(trace(&some, OUTSIDE, "172.30.0.192:80"), delivered(&ENDPOINTS[..1], &[]));
    assert_eq!(trace(&some, POD, "172.30.0.192:80"), delivered(&ENDPOINTS, &[]));
    assert_eq!(trace(&some, NODE, "172.30.0.192:80"), delivered(&ENDPOINTS, &ENDPOINTS));
    let none = view([service("web", [local(drop_())])]);
    assert_eq!(trace(&none, OUTSIDE, "172.30.0.192:80"), Outcome::Dropped);
    assert_eq!(trace(&none, POD, "172.30.0.192:80"), delivered(&ENDPOINTS, &[]));
}

#[test]
fn detectors_tell_pods_by_interface_too() {
    let mut view = view([service("web", [cluster_ip("10.96.0.10", 80, balance(&ENDPOINTS))])]);
    let odd_pod = "192.0.2.9:40000";
    for (detector, interface, masqueraded) in [
        (LocalDetector::InterfacePrefix("veth".to_owned()), "veth7", false),
        (LocalDetector::InterfacePrefix("veth".to_owned()), "eth0", true),
        (LocalDetector::BridgeInterface("cni0".to_owned()), "cni0", false),
        (LocalDetector::BridgeInterface("cni0".to_owned()), "cni01", true),
        (LocalDetector::None, "eth0", false),
    ] {
        view.context.local_detector = detector.clone();
        let mut packet = packet(Protocol::Tcp, odd_pod, "10.96.0.10:80");
        packet.interface = interface.to_owned();
        let outcome = loaded(&view).netfilter().trace(&packet);
        let seen: &[&str] = if masqueraded { &ENDPOINTS } else { &[] };
        assert_eq!(outcome, delivered(&ENDPOINTS, seen), "{detector:?} {interface}");
    }
}

#[test]
fn without_endpoints_connections_are_rejected_or_dropped() {
    let view = view([service(
        "empty",
        [
            cluster_ip("10.96.0.20", 80, reject()),
            cluster_ip("10.96.0.20", 81, drop_()),
            cluster_ip("fd00:10:96::20", 80, reject()),
            load_balancer("172.30.0.192", 80, reject()),
            node_port(Family::V4, 30020, reject()),
            node_port(Family::V4, 30021, drop_()),
        ],
    )]);
    for source in [POD, OUTSIDE, NODE] {
        for refused in ["10.96.0.20:80", "172.30.0.192:80", "172.30.0.11:30020"] {
            assert_eq!(trace(&view, source, refused), Outcome::Rejected, "{source} {refused}");
        }
        for silent in ["10.96.0.20:81", "172.30.0.11:30021"] {
            assert_eq!(trace(&view, source, silent), Outcome::Dropped, "{source} {silent}");
        }
    }
    assert_eq!(trace(&view, POD6, "[fd00:10:96::20]:80"), Outcome::Rejected);
}

#[test]
fn undeclared_ports_and_unallocated_addresses() {
    let view = view([service(
        "web",
        [
            cluster_ip("10.96.0.10", 80, balance(&ENDPOINTS)),
            load_balancer("172.30.0.192", 80, balance(&ENDPOINTS)),
            node_port(Family::V4, 30007, balance(&ENDPOINTS)),
        ],
    )]);
    assert_eq!(trace(&view, POD, "10.96.0.10:81"), Outcome::Rejected);
    assert_eq!(trace(&view, NODE, "10.96.0.10:81"), Outcome::Rejected);
    assert_eq!(trace(&view, POD, "10.96.9.9:80"), Outcome::Dropped);
    assert_eq!(trace(&view, POD6, "[fd00:10:96::99]:80"), Outcome::Dropped);
    assert_eq!(trace(&view, OUTSIDE, "172.30.0.192:81"), untouched("172.30.0.192"));
    assert_eq!(trace(&view, OUTSIDE, "172.30.0.11:30008"), untouched("172.30.0.11"));
    assert_eq!(trace(&view, POD, "192.0.2.1:80"), untouched("192.0.2.1"));
}

#[test]
fn source_ranges_protect_the_load_balancer_address_only() {
    let ranges = |ranges: &[&str]| Some(ranges.iter().map(|net| net.parse().unwrap()).collect());
    let bank = service(
        "bank",
        [
            with(load_balancer("172.30.0.194", 80, balance(&ENDPOINTS)), |frontend| {
                // Overlapping ranges are one range to the kernel.
                frontend.source_ranges = ranges(&["172.30.0.0/24", "172.30.0.240/28"]);
            }),
            with(load_balancer("172.30.0.195", 80, reject()), |frontend| {
                frontend.source_ranges = ranges(&["192.0.2.0/24"]);
            }),
            node_port(Family::V4, 30007, balance(&ENDPOINTS)),
        ],
    );
    let view = view([bank]);
    assert_eq!(trace(&view, OUTSIDE, "172.30.0.194:80"), delivered(&ENDPOINTS, &ENDPOINTS));
    assert_eq!(trace(&view, "192.0.2.1:4000", "172.30.0.194:80"), Outcome::Dropped);
    assert_eq!(trace(&view, OUTSIDE, "172.30.0.195:80"), Outcome::Dropped, "though it refuses");
    assert_eq!(trace(&view, "192.0.2.1:4000", "172.30.0.195:80"), Outcome::Rejected);
    let outcome = trace(&view, "192.0.2.1:4000", "172.30.0.11:30007");
    assert_eq!(outcome, delivered(&ENDPOINTS, &ENDPOINTS));
    // D28: a range with the node's address lets in what comes from the address itself.
    let outcome = trace(&view, "172.30.0.194:4000", "172.30.0.194:80");
    assert_eq!(outcome, delivered(&ENDPOINTS, &ENDPOINTS));
}

#[test]
fn affinity_is_shared_by_all_addresses_of_a_service_port() {
    let sticky = |frontend| {
        with(frontend, |frontend: &mut Frontend| {
            frontend.affinity = Some(Affinity { timeout_seconds: 10_800 });
        })
    };
    let with_endpoints = |endpoints: &[&str]| {
        view([service(
            "web",
            [
                sticky(cluster_ip("10.96.0.10", 80, balance(endpoints))),
                sticky(node_port(Family::V4, 30007, balance(endpoints))),
                sticky(with(cluster_ip("10.96.0.10", 81, balance(endpoints)), |frontend| {
                    frontend.port_name = "other".into();
                })),
            ],
        )])
    };
    let mut dataplane = loaded(&with_endpoints(&ENDPOINTS));
    let chosen = |dataplane: &mut Dataplane<Fake>, destination: &str, draw| {
        let packet = packet(Protocol::Tcp, POD, destination);
        match dataplane.netfilter_mut().connect(&packet, draw) {
            Outcome::Delivered { to, .. } => to.into_iter().next().unwrap().to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(chosen(&mut dataplane, "10.96.0.10:80", 1), ENDPOINTS[1]);
    assert_eq!(chosen(&mut dataplane, "10.96.0.10:80", 0), ENDPOINTS[1], "remembered");
    assert_eq!(chosen(&mut dataplane, "172.30.0.11:30007", 0), ENDPOINTS[1], "shared");
    assert_eq!(chosen(&mut dataplane, "10.96.0.10:81", 0), ENDPOINTS[0], "another port");
    dataplane.sync(&with_endpoints(&[ENDPOINTS[0], "10.244.1.7:8080"])).unwrap();
    assert_eq!(chosen(&mut dataplane, "10.96.0.10:80", 1), "10.244.1.7:8080", "forgotten");
    assert_eq!(chosen(&mut dataplane, "172.30.0.11:30007", 0), "10.244.1.7:8080");
}

#[test]
fn a_spot_claimed_twice_goes_to_the_first_and_then_to_the_second() {
    let claim =
        |name, endpoint| service(name, [load_balancer("172.30.0.192", 80, balance(&[endpoint]))]);
    let (first, second) = (claim("a", "10.244.1.1:80"), claim("b", "10.244.1.2:80"));
    let mut dataplane = loaded(&view([second.clone()]));
    let mut expect = |view: &NodeView, endpoint: &str| {
        dataplane.sync(view).unwrap();
        let packet = packet(Protocol::Tcp, OUTSIDE, "172.30.0.192:80");
        assert_eq!(dataplane.netfilter().trace(&packet), delivered(&[endpoint], &[endpoint]));
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    };
    expect(&view([first.clone(), second.clone()]), "10.244.1.1:80");
    expect(&view([second]), "10.244.1.2:80");
}

#[test]
fn udp_frontends_that_changed_are_checked_for_stale_connections() {
    let dns = |endpoints: &[&str]| {
        let kind = FrontendKind::ClusterIp(ip("10.96.0.53"));
        service("dns", [frontend(kind, Protocol::Udp, 53, balance(endpoints))])
    };
    let web = || service("web", [cluster_ip("10.96.0.10", 80, balance(&ENDPOINTS))]);
    let mut dataplane = loaded(&view([dns(&ENDPOINTS), web()]));
    let before = dataplane.netfilter().forgotten().len();
    dataplane.sync(&view([dns(&ENDPOINTS)])).unwrap();
    assert_eq!(dataplane.netfilter().forgotten().len(), before, "only TCP changed");
    dataplane.sync(&view([dns(&ENDPOINTS[..1])])).unwrap();
    dataplane.sync(&view([])).unwrap();
    let checked = &dataplane.netfilter().forgotten()[before..];
    let target =
        |at: usize| checked[at].frontends[&(Protocol::Udp, socket("10.96.0.53:53"))].clone();
    assert_eq!(target(0), Target::Endpoints([socket(ENDPOINTS[0])].into()));
    assert_eq!(target(1), Target::Nowhere);
}

#[test]
fn a_refused_transaction_is_an_error_and_the_next_sync_catches_up() {
    // D45.
    let web = |endpoints: &[&str]| {
        view([service("web", [cluster_ip("10.96.0.10", 80, balance(endpoints))])])
    };
    let mut dataplane = loaded(&web(&ENDPOINTS));
    // The incremental attempt fails; reading back and trying once more succeeds.
    dataplane.netfilter_mut().fail_nth(1);
    dataplane.sync(&web(&ENDPOINTS[..1])).unwrap();
    let packet = packet(Protocol::Tcp, POD, "10.96.0.10:80");
    assert_eq!(dataplane.netfilter().trace(&packet), delivered(&ENDPOINTS[..1], &[]));
}

/// A few Services with few addresses, so that they collide often.
fn services() -> impl Strategy<Value = Vec<ServiceView>> {
    let action = prop_oneof![
        4 => prop::collection::btree_set(1_u8..7, 1..5).prop_map(|numbers| {
            let texts: Vec<String> =
                numbers.iter().map(|number| format!("10.244.{}.{number}:80", number % 2)).collect();
            balance(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        }),
        1 => Just(reject()),
        1 => Just(drop_()),
    ];
    let kind = prop_oneof![
        (1_u8..4).prop_map(|last| FrontendKind::ClusterIp([10, 96, 0, last].into())),
        (1_u8..3).prop_map(|last| FrontendKind::LoadBalancer([172, 30, 0, last].into())),
        Just(FrontendKind::NodePort(Family::V4)),
    ];
    let frontend = (kind, 1_u16..4, action.clone(), action, any::<bool>(), any::<bool>()).prop_map(
        |(kind, port, internal, external, split, sticky)| {
            let mut frontend = frontend(kind, Protocol::Udp, port, internal);
            if split {
                frontend.external = external;
            }
            frontend.affinity = sticky.then_some(Affinity { timeout_seconds: 60 });
            frontend.source_ranges = (port == 3).then(|| vec!["10.244.0.0/16".parse().unwrap()]);
            frontend
        },
    );
    prop::collection::vec(prop::collection::vec(frontend, 0..4), 0..5).prop_map(|services| {
        let named = services.into_iter().enumerate();
        named.map(|(number, frontends)| service(&format!("s{number}"), frontends)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever came before, and whichever transactions failed: the tables mean the same as if
    /// the last view had been loaded into an empty kernel, and they hold nothing else.
    #[test]
    fn every_way_to_a_view_means_the_same(
        steps in prop::collection::vec((services(), prop::option::weighted(0.1, 1_usize..3)), 1..6),
    ) {
        let mut dataplane = Dataplane::new(Fake::new([ip("172.30.0.11")].into()), Settings::default());
        let mut last = view([]);
        for (services, failure) in steps {
            last = keep_arcs(&last, view(services));
            if let Some(nth) = failure {
                dataplane.netfilter_mut().fail_nth(nth);
            }
            if dataplane.sync(&last).is_err() {
                dataplane.sync(&last).unwrap();
            }
            prop_assert_eq!(dataplane.verify().unwrap(), Synced::default());
        }
        let fresh = loaded(&last);
        for destination in destinations() {
            for source in [POD, OUTSIDE, NODE, "10.244.1.1:4000"] {
                let packet = packet(Protocol::Udp, source, &destination);
                prop_assert_eq!(
                    dataplane.netfilter().trace(&packet),
                    fresh.netfilter().trace(&packet),
                    "{} to {}", source, destination
                );
            }
        }
    }
}

/// Unchanged Services keep their pointer, as planning does it.
fn keep_arcs(old: &NodeView, mut new: NodeView) -> NodeView {
    for (name, service) in &mut new.services {
        if let Some(same) = old.services.get(name).filter(|old| *old == service) {
            *service = Arc::clone(same);
        }
    }
    new
}

fn destinations() -> Vec<String> {
    let addresses =
        ["10.96.0.1", "10.96.0.2", "10.96.0.3", "172.30.0.1", "172.30.0.2", "172.30.0.11"];
    let ports = 1..5;
    addresses
        .iter()
        .flat_map(|address| ports.clone().map(move |port| format!("{address}:{port}")))
        .collect()
}
