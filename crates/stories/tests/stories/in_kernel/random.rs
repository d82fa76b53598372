//! Random clusters in the real kernel: real packets fare as `verdict` says.

use std::cell::RefCell;
use std::sync::Mutex;

use model::{NodeContext, Object, Outcome, Packet, Protocol};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::node::{may_return, origin, world};
use super::topology::Topology;
use super::{Stage, knock};
use crate::arbitrary;
use crate::in_model::{World, simplify};
use crate::packets::{Shot, Tally, shot};
use crate::runs::run;
use crate::story::{Expected, Origin};

#[test]
fn random_clusters_behave_in_the_kernel() {
    let inside = "in_kernel::random::random_clusters_behave_inside_the_namespaces";
    if let Err(reason) = super::enter(inside) {
        testkit::skip("random clusters in the kernel", &reason);
    }
}

/// Two clusters each, and some 2,400 packets in all.
const CASES: u32 = 12;
/// Packets at a time: most of them wait.
const AT_ONCE: usize = 16;

/// Of a thousand packets at least. Clusters are few, so what only some of them do may be rare.
const WANTED: [(&str, usize); 7] = [
    ("delivered", 50),
    ("masqueraded", 100),
    ("refused", 40),
    ("dropped", 10),
    ("untouched", 30),
    ("from the node", 50),
    ("IPv6", 200),
];

#[test]
#[ignore = "random_clusters_behave_in_the_kernel runs it as root of namespaces of its own"]
fn random_clusters_behave_inside_the_namespaces() {
    let tally = RefCell::new(Tally::default());
    let config = Config { max_shrink_iters: 30, ..Config::default() };
    let strategy = (arbitrary::objects(), arbitrary::objects(), vec(shot(), 150..250));
    run("random_clusters_behave", CASES, config, &strategy, |(objects, later, shots)| {
        let told = tell(&objects, &later, &shots, &mut tally.borrow_mut());
        prop_assert_eq!(told, Vec::<String>::new());
        Ok(())
    });
    tally.borrow().assert_varied(&WANTED);
}

/// Everything that is not as `verdict` says: with the first objects, then with the later ones in
/// their place, by a process that takes the tables over from a first one that is gone.
fn tell(objects: &[Object], later: &[Object], shots: &[Shot], tally: &mut Tally) -> Vec<String> {
    let (first, second) = shots.split_at(shots.len() / 2);
    let worlds = [world(objects), world(later)];
    let packets = [aim(&worlds[0], first), aim(&worlds[1], second)];
    let named = packets.iter().flatten();
    let named = named.map(|(from, packet)| (from.clone(), packet.destination, packet.protocol));
    let all = objects.iter().chain(later).cloned();
    let mut topology = Topology::around(&worlds[0], all, named);
    let mut wrong = Vec::new();
    for (world, packets) in worlds.iter().zip(&packets) {
        let stage = Stage::on(topology, world);
        wrong.extend(compare(&stage.topology, world, packets, tally));
        topology = stage.topology;
    }
    wrong
}

/// The packets that this machine can send, each as the kernel of its origin would.
pub(super) fn aim(world: &World, shots: &[Shot]) -> Vec<(Origin, Packet)> {
    let context = world.context();
    let packets = shots.iter().map(|shot| {
        let packet = shot.at(&world.cluster, context.node_addresses.clone());
        let from = origin(world, &packet);
        let packet = world.packet(&context, &from, packet.destination, packet.protocol);
        (from, packet)
    });
    let mut packets: Vec<_> = packets.collect();
    packets.retain(|(from, packet)| {
        let judged = verdict::judge(&world.cluster, &context, packet);
        let can_send = packet.protocol != Protocol::Sctp || knock::has_sctp();
        let expected = simplify(&judged.outcome);
        // What nobody changes does not leave the load balancer that has the address.
        let stays = arbitrary::VIPS.map(arbitrary::ip);
        let stays = expected == Expected::Untouched
            && stays.contains(&packet.source.ip())
            && stays.contains(&packet.destination.ip());
        can_send && !stays && !may_return(from, &expected)
    });
    packets
}

/// Sends packets, a few at a time, and tells how each fared otherwise than `verdict` says.
pub(super) fn compare(
    topology: &Topology,
    world: &World,
    packets: &[(Origin, Packet)],
    tally: &mut Tally,
) -> Vec<String> {
    let context = world.context();
    for (_, packet) in packets {
        tally.add(packet, &verdict::judge(&world.cluster, &context, packet));
    }
    // Of two connections at the same instant, each may be the first that affinity remembers.
    let (sticky, others): (Vec<_>, Vec<_>) =
        packets.iter().partition(|(_, packet)| stays(world, &context, packet));
    let found = sticky
        .into_iter()
        .filter_map(|(from, packet)| compare_one(topology, world, from, packet).err());
    let (next, wrong) = (Mutex::new(others.iter()), Mutex::new(found.collect::<Vec<_>>()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((from, packet)) = { next.lock().unwrap().next() } {
                    let found = compare_one(topology, world, from, packet).err();
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

fn compare_one(
    topology: &Topology,
    world: &World,
    from: &Origin,
    packet: &Packet,
) -> Result<(), String> {
    let context = world.context();
    let judged = verdict::judge(&world.cluster, &context, packet);
    let expected: Expected = simplify(&judged.outcome);
    let (to, protocol) = (packet.destination, packet.protocol);
    let result = match &expected {
        Expected::Delivered { to: endpoints, .. } if stays(world, &context, packet) => {
            topology.ask_sticky(from, to, protocol, endpoints).map(drop)
        }
        _ => topology.ask(from, to, protocol, &expected),
    };
    result.map_err(|why| format!("{packet:?}: {why}; verdict says {judged:?}"))
}

/// Whether it reaches a Service with session affinity.
fn stays(world: &World, context: &NodeContext, packet: &Packet) -> bool {
    let service = verdict::service(&world.cluster, context, packet);
    let judged = verdict::judge(&world.cluster, context, packet);
    service.is_some_and(|service| service.session_affinity.is_some())
        && matches!(judged.outcome, Outcome::Delivered { .. })
}
