//! TCP connections to endpoints that are gone (D35).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use model::{Action, Family, Frontend, NodeView};
use portolan_nft::{Dataplane, Settings};
use socket2::{Domain, Socket, Type};

use crate::Test;
use crate::lab::{Lab, Tried, greeting};
use crate::namespace::{Namespace, run};
use crate::view::{balance, cluster_ip, load_balancer, node_port, reject, service, socket, view};

pub(crate) const TESTS: &[Test] = &[
    ("connections_to_endpoints_that_are_gone_are_reset_if_asked", resets),
    ("connections_are_reset_when_the_last_endpoint_goes", last_endpoint),
    ("connections_that_have_lost_their_endpoint_are_kept_unless_asked", kept),
    ("connections_to_endpoints_that_terminate_are_not_reset", terminating),
    ("connections_are_not_reset_when_their_service_goes", service_gone),
    ("a_client_port_is_free_again_after_a_reset", same_port),
    ("resets_survive_a_restart_and_a_change_that_was_missed", restart),
];

const V4: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];
const V6: [&str; 2] = ["[fd00:10:244::2]:8080", "[fd00:10:244::3]:8080"];
const NODE_PORTS: [&str; 2] = ["172.30.0.11:30007", "[fd00:30::11]:30007"];
const CLUSTER_IPS: [&str; 2] = ["10.96.0.10:80", "[fd00:10:96::10]:80"];
const LOAD_BALANCERS: [&str; 2] = ["172.30.0.192:80", "[fd00:30::c000]:80"];

fn resetting(mut frontend: Frontend, existing: &[&str]) -> Frontend {
    frontend.resets = true;
    frontend.lasting = existing.iter().map(|text| socket(text)).collect();
    frontend
}

/// A Service that asks for resets, `web`, and one that does not, `other`, with the same endpoints:
/// numbers of pods that get new connections, and of those that exist.
fn views(chosen: &[usize], existing: &[usize]) -> NodeView {
    let of = |all: [&'static str; 2], which: &[usize]| -> Vec<&str> {
        which.iter().map(|number| all[*number]).collect()
    };
    let action = |all| {
        let chosen = of(all, chosen);
        if chosen.is_empty() { reject() } else { balance(&chosen) }
    };
    let frontends = [
        cluster_ip("10.96.0.10", 80, action(V4)),
        load_balancer("172.30.0.192", 80, action(V4)),
        node_port(Family::V4, 30007, action(V4)),
        cluster_ip("fd00:10:96::10", 80, action(V6)),
        load_balancer("fd00:30::c000", 80, action(V6)),
        node_port(Family::V6, 30007, action(V6)),
    ];
    let existing = [of(V4, existing), of(V6, existing)];
    let web = frontends
        .into_iter()
        .enumerate()
        .map(|(number, frontend)| resetting(frontend, &existing[number / 3]));
    let plain = |address, action: Action| cluster_ip(address, 80, action);
    let other = [plain("10.96.0.11", action(V4)), plain("fd00:10:96::11", action(V6))];
    view([service("web", web), service("other", other)])
}

fn lab(view: NodeView) -> (Lab, Dataplane) {
    let lab = Lab::new();
    let dataplane = lab.node.run(move || {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        dataplane.sync(&view).unwrap();
        dataplane
    });
    (lab, dataplane)
}

/// Connections from somewhere, which echo.
fn connect(place: &Namespace, addresses: &[&'static str]) -> Vec<(&'static str, TcpStream)> {
    let addresses = addresses.to_vec();
    place.run(move || {
        let connected = addresses.into_iter().map(|address| {
            let mut stream = TcpStream::connect(address).unwrap();
            assert!(matches!(greeting(&mut stream), Tried::Answered(..)), "{address}");
            (address, stream)
        });
        connected.collect()
    })
}

/// What the next byte brings, within the time that only a reset or an echo keeps to.
fn next(stream: &mut TcpStream) -> Result<u8, ErrorKind> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut byte = [0];
    let sent = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte));
    sent.map(|()| byte[0]).map_err(|error| error.kind())
}

fn all_reset(streams: &mut [(&str, TcpStream)]) {
    for (address, stream) in streams {
        assert_eq!(next(stream), Err(ErrorKind::ConnectionReset), "{address}");
    }
}

fn all_echo(streams: &mut [(&str, TcpStream)]) {
    for (address, stream) in streams {
        assert_eq!(next(stream), Ok(b'x'), "{address}");
    }
}

fn resets() {
    let (lab, mut dataplane) = lab(views(&[0], &[0]));
    let frontends = [CLUSTER_IPS, LOAD_BALANCERS, NODE_PORTS].concat();
    let places = [&lab.client, &lab.node, &lab.pods[0], &lab.pods[1]];
    // The announcer is not here: the client needs a route to the load balancer address.
    lab.client.run(|| {
        run("ip route add 172.30.0.192 via 172.30.0.11");
        run("ip route add fd00:30::c000 via fd00:30::11");
    });
    let mut cut: Vec<_> = places.into_iter().flat_map(|place| connect(place, &frontends)).collect();
    // Those past the Service, and those of another with the same endpoint.
    let bystanders = [V4[0], V6[0], "10.96.0.11:80", "[fd00:10:96::11]:80"];
    let mut spared = connect(&lab.pods[1], &bystanders);
    all_echo(&mut cut);
    all_echo(&mut spared);

    dataplane.sync(&views(&[0, 1], &[0, 1])).unwrap();
    all_echo(&mut cut);
    dataplane.sync(&views(&[1], &[1])).unwrap();
    all_reset(&mut cut);
    all_echo(&mut spared);
    let mut new = connect(&lab.client, &frontends);
    all_echo(&mut new);
}

fn last_endpoint() {
    let (lab, mut dataplane) = lab(views(&[0], &[0]));
    let mut streams = connect(&lab.client, &NODE_PORTS);
    dataplane.sync(&views(&[], &[])).unwrap();
    all_reset(&mut streams);
}

fn kept() {
    let without = |chosen: &[usize]| {
        let mut view = views(chosen, &[]);
        for service in view.services.values_mut() {
            for frontend in &mut std::sync::Arc::make_mut(service).frontends {
                frontend.resets = false;
            }
        }
        view
    };
    let (lab, mut dataplane) = lab(without(&[0]));
    let mut streams = connect(&lab.client, &[CLUSTER_IPS, NODE_PORTS].concat());
    dataplane.sync(&without(&[1])).unwrap();
    all_echo(&mut streams);
    // Whoever asks later asks for these connections too.
    dataplane.sync(&views(&[1], &[1])).unwrap();
    all_reset(&mut streams);
}

fn terminating() {
    let (lab, mut dataplane) = lab(views(&[0], &[0, 1]));
    let mut streams = connect(&lab.client, &[CLUSTER_IPS, NODE_PORTS].concat());
    dataplane.sync(&views(&[1], &[0, 1])).unwrap();
    all_echo(&mut streams);
}

fn service_gone() {
    let (lab, mut dataplane) = lab(views(&[0], &[0]));
    let mut streams = connect(&lab.client, &[CLUSTER_IPS, NODE_PORTS].concat());
    dataplane.sync(&view([])).unwrap();
    all_echo(&mut streams);
}

fn restart() {
    let (lab, dataplane) = lab(views(&[0], &[0]));
    let mut streams = connect(&lab.client, &[CLUSTER_IPS, NODE_PORTS].concat());
    drop(dataplane);
    lab.node.run(|| {
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        assert!(dataplane.sync(&views(&[1], &[1])).unwrap().repaired);
        assert!(!dataplane.verify().unwrap().repaired, "what was written is what is read back");
    });
    all_reset(&mut streams);
}

/// Conntrack would hold on to the connection, and refuse the next from the same port as well.
fn same_port() {
    for address in [CLUSTER_IPS, NODE_PORTS].concat() {
        let (lab, mut dataplane) = lab(views(&[0], &[0]));
        let connect = move |port| lab.client.run(move || connect_from(port, address));
        let mut first = connect(0).unwrap();
        assert!(matches!(greeting(&mut first), Tried::Answered(..)), "{address}");
        let port = first.local_addr().unwrap().port();
        dataplane.sync(&views(&[1], &[1])).unwrap();
        assert_eq!(next(&mut first), Err(ErrorKind::ConnectionReset), "{address}");
        drop(first);
        let start = std::time::Instant::now();
        let mut second = connect(port).unwrap_or_else(|error| panic!("{address}: {error}"));
        println!("connected again after {:?}", start.elapsed());
        assert!(matches!(greeting(&mut second), Tried::Answered(..)), "{address}");
        assert_eq!(next(&mut second), Ok(b'x'), "{address}");
    }
}

/// A connection from that port of the client, 0 for any.
fn connect_from(port: u16, address: &str) -> std::io::Result<TcpStream> {
    let to = socket(address);
    let domain = Domain::for_address(to);
    let stream = Socket::new(domain, Type::STREAM, None)?;
    stream.set_reuse_address(true)?;
    let any: std::net::IpAddr = if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    stream.bind(&std::net::SocketAddr::new(any, port).into())?;
    stream.connect(&to.into())?;
    Ok(stream.into())
}
