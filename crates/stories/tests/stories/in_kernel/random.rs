//! Random clusters in the real kernel: real packets fare as `verdict` says.
//!
//! What fails shrinks and is kept in `proptest-regressions`. `PROPTEST_CASES` sets how many clusters
//! a run tries.

use model::{Change, Cluster, Object, Packet, Protocol};
use proptest::prelude::*;

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
        cases: ProptestConfig::default().cases.min(12),
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    #[ignore = "random_clusters_behave_in_the_kernel runs it as root of namespaces of its own"]
    fn random_clusters_behave_inside_the_namespaces(
        objects in arbitrary::objects(),
        later in arbitrary::objects(),
        packets in proptest::collection::vec(arbitrary::packet(), 30..60),
    ) {
        prop_assert_eq!(tell(&objects, &later, &packets), Vec::<String>::new());
    }
}

/// Everything that is not as `verdict` says: with the first objects, then with the later ones in
/// their place, by a process that takes the tables over from a first one that is gone.
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
    world = self::world(later);
    stage = Stage::on(stage.topology, &world);
    wrong.extend(compare(&stage, &world, &packets[packets.len() / 2..]));
    wrong
}

fn compare(stage: &Stage, world: &World, packets: &[(Origin, &Packet)]) -> Vec<String> {
    let context = world.context();
    let mut wrong = Vec::new();
    for (from, packet) in packets {
        // As the kernel of the origin would send it.
        let packet = &world.packet(&context, from, packet.destination, packet.protocol);
        let judged = verdict::judge(&world.cluster, &context, packet);
        let expected: Expected = simplify(&judged.outcome);
        if let Err(why) = stage.ask(from, packet.destination, packet.protocol, &expected) {
            wrong.push(format!("{packet:?}: {why}; verdict says {judged:?}"));
        }
    }
    wrong
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
