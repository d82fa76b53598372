//! Session affinity over time and changes (D16 to D19).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::{Affinity, Family, Frontend, NodeView, ServiceView};
use portolan_nft::{Dataplane, Settings};

use crate::Test;
use crate::lab::{Lab, Tried, tcp};
use crate::namespace::{output, run};
use crate::view::{balance, cluster_ip, load_balancer, node_port, service, view};

pub(crate) const TESTS: &[Test] = &[
    ("affinity_works_from_the_moment_it_is_switched_on", switch),
    ("affinity_survives_unrelated_changes_restarts_and_repairs", survives),
    ("affinity_lasts_from_the_last_new_connection", window),
    ("another_affinity_timeout_counts_for_who_is_remembered_too", another_timeout),
    ("affinity_is_remembered_for_each_client_address", each_client),
];

const BOTH: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];
const CLUSTER_IP: &str = "10.96.0.30:80";
const NODE_PORT: &str = "172.30.0.11:30030";

/// Of that many seconds; 0 is none.
fn sticky(seconds: u32) -> ServiceView {
    let with = |mut frontend: Frontend| {
        frontend.affinity = (seconds > 0).then_some(Affinity { timeout_seconds: seconds });
        frontend
    };
    let cluster_ip = with(cluster_ip("10.96.0.30", 80, balance(&BOTH)));
    service("sticky", [cluster_ip, with(node_port(Family::V4, 30030, balance(&BOTH)))])
}

fn lab(view: &NodeView) -> (Lab, Dataplane) {
    let (lab, view) = (Lab::new(), view.clone());
    let dataplane = lab.node.run(move || {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view).unwrap();
        dataplane
    });
    (lab, dataplane)
}

fn server(address: &str) -> IpAddr {
    match tcp(address) {
        Tried::Answered(server, _) => server,
        other => panic!("{address}: {other:?}"),
    }
}

/// Who answers the client in thirty connections to the cluster IP and the node port.
fn servers(lab: &Lab) -> BTreeSet<IpAddr> {
    lab.client.run(|| {
        let addresses = [CLUSTER_IP, NODE_PORT].into_iter().cycle();
        addresses.take(30).map(server).collect()
    })
}

fn switch() {
    // D18. A connection that exists is neither moved nor remembered.
    let (lab, mut dataplane) = lab(&view([sticky(0)]));
    assert_eq!(servers(&lab).len(), 2);
    for (seconds, distinct) in [(100, 1), (0, 2), (100, 1), (10_800, 1), (0, 2)] {
        dataplane.sync(&view([sticky(seconds)])).unwrap();
        assert_eq!(servers(&lab).len(), distinct, "timeout {seconds}");
    }
}

fn survives() {
    let (lab, mut dataplane) = lab(&view([sticky(100)]));
    let first = servers(&lab);
    assert_eq!(first.len(), 1);
    let other = || service("other", [cluster_ip("10.96.0.31", 80, balance(&BOTH))]);
    dataplane.sync(&view([sticky(100), other()])).unwrap();
    assert_eq!(servers(&lab), first, "another Service came");

    // An address that sorts before the cluster IP comes and goes.
    let mut exposed = sticky(100);
    let mut address = load_balancer("9.9.9.9", 80, balance(&BOTH));
    address.affinity = Some(Affinity { timeout_seconds: 100 });
    exposed.frontends.push(address);
    for changed in [exposed, sticky(100)] {
        dataplane.sync(&view([changed])).unwrap();
        assert_eq!(servers(&lab), first, "another address of the Service");
    }

    let mut moved = view([sticky(100)]);
    moved.context.node_addresses.insert("172.30.0.12".parse().unwrap());
    dataplane.sync(&moved).unwrap();
    assert_eq!(servers(&lab), first, "the node changed");

    dataplane = lab.node.run(|| Dataplane::open(Settings::default()).unwrap());
    assert_eq!(dataplane.sync(&moved).unwrap().added, 0);
    assert_eq!(servers(&lab), first, "a restart");

    if testkit::program("nft").is_none() {
        return testkit::skip("affinity_survives_… repairs", "no nft program");
    }
    let (mut dataplane, mut watch) = lab.node.run(move || {
        let watch = dataplane.events().unwrap();
        (dataplane, watch)
    });
    for change in [
        "flush chain ip portolan services",
        "flush map ip portolan endpoints-with-affinity",
        "flush set ip portolan usable",
        "delete element ip portolan cluster-ips { 10.96.0.30 }",
    ] {
        lab.node.run(move || run(&format!("nft {change}")));
        assert!(dataplane.repair(&watch.drain().unwrap()).unwrap().repaired);
        assert_eq!(servers(&lab), first, "{change}");
    }
}

fn window() {
    // D16.
    if testkit::program("nft").is_none() {
        return testkit::skip("affinity_lasts_from_the_last_new_connection", "no nft program");
    }
    const WINDOW: Duration = Duration::from_secs(3);
    let (lab, _dataplane) = lab(&view([sticky(3)]));
    let connect = || lab.client.run(|| server(CLUSTER_IP));
    let start = Instant::now();
    let first = connect();
    let mut last = Instant::now();
    while start.elapsed() < WINDOW * 2 {
        last = Instant::now();
        assert_eq!(connect(), first, "every connection begins the window again");
    }
    let is_remembered = || {
        let list = lab.node.run(|| output("nft list map ip portolan affinity").unwrap());
        list.contains("172.30.0.250")
    };
    while is_remembered() {
        assert!(last.elapsed() < WINDOW * 3, "remembered for too long");
        std::thread::yield_now();
    }
    // The kernel counts in ticks.
    let tick = Duration::from_millis(10);
    assert!(last.elapsed() >= WINDOW - tick, "forgotten after {:?}", last.elapsed());
}

fn another_timeout() {
    // D18.
    if testkit::program("nft").is_none() {
        return testkit::skip("another_affinity_timeout_counts…", "no nft program");
    }
    let (lab, mut dataplane) = lab(&view([sticky(10_800)]));
    let start = Instant::now();
    let first = lab.client.run(|| server(CLUSTER_IP));
    let list = || lab.node.run(|| output("nft list map ip portolan affinity").unwrap());
    dataplane.sync(&view([sticky(60)])).unwrap();
    assert!(list().contains("timeout 1m expires"), "{}", list());
    assert_eq!(lab.client.run(|| server(NODE_PORT)), first);
    dataplane.sync(&view([sticky(86_400)])).unwrap();
    assert!(list().contains("timeout 1d expires 23h59m"), "{}", list());
    assert_eq!(lab.client.run(|| server(NODE_PORT)), first);
    let last = Instant::now();
    while last.elapsed() < Duration::from_millis(1500) {
        std::thread::yield_now();
    }
    // Its last connection lies further back than that.
    dataplane.sync(&view([sticky(1)])).unwrap();
    assert!(!list().contains("172.30.0.250"), "{}", list());
    assert!(start.elapsed() < Duration::from_secs(60), "a machine too slow for this test");
}

fn each_client() {
    // D15, D19: the address counts that the node sees, so behind a load balancer that translates
    // it is the load balancer's.
    let (lab, _dataplane) = lab(&view([sticky(100)]));
    let first = servers(&lab);
    let seen = (101..=120).map(|number| {
        lab.client.run(move || {
            run(&format!("ip addr add 172.30.0.{number}/32 dev eth0"));
            run(&format!("ip route replace 172.30.0.11 dev eth0 src 172.30.0.{number}"));
            let own: BTreeSet<IpAddr> = (0..5).map(|_| server(NODE_PORT)).collect();
            assert_eq!(own.len(), 1, "client {number} went to {own:?}");
            own
        })
    });
    let seen: BTreeSet<IpAddr> = seen.flatten().collect();
    assert_eq!(seen.len(), 2, "twenty clients, and all at {seen:?}");
    lab.client.run(|| run("ip route replace 172.30.0.11 dev eth0 src 172.30.0.250"));
    assert_eq!(servers(&lab), first);
}
