//! The node of random clusters, and who sends to it.

use std::net::IpAddr;

use model::{Change, Cluster, Object, Packet};

use crate::in_model::World;
use crate::story::{Expected, Origin};

/// Its addresses (`arbitrary::NODE`).
const NODE: [&str; 2] = ["172.30.0.11", "fd00:30::11"];

/// The objects, and the node.
pub(crate) fn world(objects: &[Object]) -> World {
    let mut cluster = Cluster::default();
    for object in objects.iter().cloned().chain([node("zone-a", &NODE)]) {
        cluster.apply(Change::Apply(object));
    }
    World::of(cluster)
}

/// The node in a zone, with some of its addresses.
pub(crate) fn node(zone: &str, addresses: &[&str]) -> Object {
    let addresses = addresses
        .iter()
        .map(|address| serde_json::json!({"type": "InternalIP", "address": address}));
    let node = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {"addresses": addresses.collect::<Vec<_>>()},
    });
    wire::to_model::object(&node).unwrap()
}

/// Who sends a random packet.
pub(crate) fn origin(world: &World, packet: &Packet) -> Origin {
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

/// Whether it may come back to where it was sent, with its sender's own address. That pod's node would
/// have to see to it; here it is not the node under test.
pub(crate) fn may_return(from: &Origin, expected: &Expected) -> bool {
    let Expected::Delivered { to, masqueraded } = expected else { return false };
    let is_sender = |address: IpAddr| matches!(from, Origin::RemotePod(own) if *own == address);
    to.difference(masqueraded).any(|endpoint| is_sender(endpoint.ip()))
}
