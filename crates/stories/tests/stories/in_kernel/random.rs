//! Random clusters in the real kernel: real packets fare as `verdict` says.
//!
//! What fails shrinks and is kept in `proptest-regressions`. `PORTOLAN_KERNEL_CASES` sets how many
//! clusters a run tries, two hundred packets each.

use std::net::SocketAddr;
use std::sync::Mutex;

use model::{Change, Cluster, Family, FrontendKind, Object, Packet, Protocol};
use proptest::prelude::*;

use super::knock::Established;
use super::topology::Topology;
use super::{Stage, knock};
use crate::arbitrary;
use crate::in_model::{World, simplify};
use crate::story::{Expected, Origin};

#[test]
fn random_clusters_behave_in_the_kernel() {
    let inside = "in_kernel::random::random_clusters_behave_inside_the_namespaces";
    if let Err(reason) = super::enter(inside) {
        testkit::skip("random clusters in the kernel", &reason);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    #[ignore = "random_clusters_behave_in_the_kernel runs it as root of namespaces of its own"]
    fn random_clusters_behave_inside_the_namespaces(
        objects in arbitrary::objects(),
        later in arbitrary::objects(),
        packets in proptest::collection::vec(arbitrary::packet(), 150..250),
    ) {
        prop_assert_eq!(tell(&objects, &later, &packets), Vec::<String>::new());
    }
}

fn cases() -> u32 {
    let told = std::env::var("PORTOLAN_KERNEL_CASES").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

/// Some 2,400 packets.
const CASES: u32 = 12;
/// Packets at a time: most of them wait.
const AT_ONCE: usize = 16;

/// Everything that is not as `verdict` says: with the first objects, then with the later ones in
/// their place, by a process that takes the tables over from a first one that is gone. Connections
/// from before stay open (D35).
fn tell(objects: &[Object], later: &[Object], packets: &[Packet]) -> Vec<String> {
    let mut world = world(objects);
    let packets: Vec<(Origin, &Packet)> = packets
        .iter()
        .filter(|packet| packet.protocol != Protocol::Sctp || knock::has_sctp())
        // Whoever has the destination answers itself.
        .filter(|packet| !arbitrary::VIPS.contains(&packet.source.ip().to_string().as_str()))
        .map(|packet| (origin(&world, packet), packet))
        .collect();
    let all = objects.iter().chain(later).cloned();
    let named =
        packets.iter().map(|(from, packet)| (from.clone(), packet.destination, packet.protocol));
    let topology = Topology::around(&world, all, named);
    let mut stage = Stage::on(topology, &world);
    let mut wrong = compare(&stage, &world, &packets[..packets.len() / 2]);
    let open = establish(&stage, &world, &packets);
    world = self::world(later);
    stage = Stage::on(stage.topology, &world);
    wrong.extend(open.into_iter().filter_map(|(packet, connection)| {
        let why = connection.close().err()?;
        Some(format!("{packet:?}: the connection from before the change is broken: {why}"))
    }));
    wrong.extend(compare(&stage, &world, &packets[packets.len() / 2..]));
    wrong
}

fn compare(stage: &Stage, world: &World, packets: &[(Origin, &Packet)]) -> Vec<String> {
    let (next, wrong) = (Mutex::new(packets.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((from, packet)) = { next.lock().unwrap().next() } {
                    let found = compare_one(stage, world, from, packet).err();
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

fn compare_one(stage: &Stage, world: &World, from: &Origin, packet: &Packet) -> Result<(), String> {
    let context = world.context();
    // As the kernel of the origin would send it.
    let packet = &world.packet(&context, from, packet.destination, packet.protocol);
    let judged = verdict::judge(&world.cluster, &context, packet);
    let expected: Expected = simplify(&judged.outcome);
    let (to, protocol) = (packet.destination, packet.protocol);
    let result = match &expected {
        Expected::Delivered { to: endpoints, .. } if is_sticky(world, packet) => {
            stage.ask_sticky(from, to, protocol, endpoints)
        }
        _ => stage.ask(from, to, protocol, &expected),
    };
    result.map_err(|why| format!("{packet:?}: {why}; verdict says {judged:?}"))
}

/// Whether it is to a Service with session affinity.
fn is_sticky(world: &World, packet: &Packet) -> bool {
    let view = plan::node_view(&world.cluster, &world.context());
    let frontends = view.services.values().flat_map(|service| &service.frontends);
    let mut frontends = frontends.filter(|frontend| {
        frontend.protocol == packet.protocol
            && frontend.port.get() == packet.destination.port()
            && match frontend.kind {
                FrontendKind::ClusterIp(address)
                | FrontendKind::ExternalIp(address)
                | FrontendKind::LoadBalancer(address) => address == packet.destination.ip(),
                FrontendKind::NodePort(_) => {
                    view.context.node_addresses.contains(&packet.destination.ip())
                }
            }
    });
    frontends.any(|frontend| frontend.affinity.is_some())
}

/// A TCP connection from everywhere to every Service port, if `verdict` says that it is delivered.
fn establish(
    stage: &Stage,
    world: &World,
    packets: &[(Origin, &Packet)],
) -> Vec<(Packet, Established)> {
    let context = world.context();
    let mut origins: Vec<&Origin> = packets.iter().map(|(from, _)| from).collect();
    origins.sort_unstable();
    origins.dedup();
    let pairs = tcp_destinations(world).into_iter().flat_map(|to| {
        let same_family = move |from: &&Origin| match from {
            Origin::Node => true,
            Origin::Client(address) => address.is_some_and(|own| own.is_ipv4() == to.is_ipv4()),
            Origin::Pod(own) | Origin::RemotePod(own) => own.is_ipv4() == to.is_ipv4(),
        };
        origins.clone().into_iter().filter(same_family).map(move |from| (from, to))
    });
    let mut opening = Vec::new();
    for (from, to) in pairs {
        let packet = world.packet(&context, from, to, Protocol::Tcp);
        let outcome = verdict::judge(&world.cluster, &context, &packet).outcome;
        if matches!(simplify(&outcome), Expected::Delivered { .. }) {
            let (namespace, source) = stage.topology.origin(from, to);
            let open = move || Established::open(source, to);
            opening.push((packet, namespace.run(move || std::thread::spawn(open))));
        }
    }
    let opened = opening.into_iter().map(|(packet, open)| Some((packet, open.join().unwrap()?)));
    opened.flatten().collect()
}

/// Where Services answer over TCP.
fn tcp_destinations(world: &World) -> Vec<SocketAddr> {
    let view = plan::node_view(&world.cluster, &world.context());
    let frontends = view.services.values().flat_map(|service| &service.frontends);
    let tcp = frontends.filter(|frontend| frontend.protocol == Protocol::Tcp);
    let addresses = tcp.flat_map(|frontend| {
        let addresses = match frontend.kind {
            FrontendKind::ClusterIp(address)
            | FrontendKind::ExternalIp(address)
            | FrontendKind::LoadBalancer(address) => vec![address],
            FrontendKind::NodePort(family) => {
                let own = view.context.node_addresses.iter().copied();
                own.filter(|address| Family::of(*address) == family).collect()
            }
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, frontend.port.get()))
    });
    addresses.collect()
}

fn world(objects: &[Object]) -> World {
    let node = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "172.30.0.11"},
            {"type": "InternalIP", "address": "fd00:30::11"},
        ]},
    });
    let node = wire::to_model::object(&node).unwrap();
    let mut cluster = Cluster::default();
    for object in objects.iter().cloned().chain([node]) {
        cluster.apply(Change::Apply(object));
    }
    World { cluster, node: "node1".to_owned() }
}

fn origin(world: &World, packet: &Packet) -> Origin {
    let source = packet.source.ip();
    let own = &world.cluster.nodes["node1"].pod_cidrs;
    let text = source.to_string();
    if packet.from_node {
        Origin::Node
    } else if own.iter().any(|network| network.contains(&source)) {
        Origin::Pod(source)
    } else if text.starts_with("10.244.") || text.starts_with("fd00:10:244:") {
        Origin::RemotePod(source)
    } else {
        Origin::Client(Some(source))
    }
}
