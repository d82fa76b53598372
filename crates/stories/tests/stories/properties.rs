//! Random clusters and packets: the plan and the tables always agree with `verdict`.

use std::collections::BTreeSet;

use model::{Change, Cluster, Kind, NodeView, Object, Outcome, Packet};
use nft::{Dataplane, Fake, Netfilter, Ruleset, Settings};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::arbitrary;
use crate::in_fake::Flaky;
use crate::in_model::{planned, simplify};

proptest! {
    #[test]
    fn plan_and_tables_agree_with_verdict(
        objects in arbitrary::objects(),
        context in arbitrary::context(),
        packets in proptest::collection::vec(arbitrary::packet(), 1..60),
    ) {
        let cluster = cluster(&objects);
        let view = plan::node_view(&cluster, &context);
        let dataplane = loaded(&view);
        for packet in packets {
            agree(&cluster, &view, dataplane.netfilter(), &packet)?;
        }
    }

    #[test]
    fn changes_lead_to_the_tables_of_a_fresh_load(
        objects in arbitrary::objects(),
        later in arbitrary::objects(),
        deleted in proptest::collection::vec(any::<Index>(), 0..8),
        contexts in proptest::collection::vec(arbitrary::context(), 1..3),
        packets in proptest::collection::vec(arbitrary::packet(), 1..20),
        doubled in any::<bool>(),
        killed in proptest::collection::vec(any::<Index>(), 0..3),
        seed in any::<u64>(),
    ) {
        let mut now = Cluster::default();
        let mut planner = plan::Planner::new(contexts[0].clone());
        let kernel = Flaky::new(Fake::new(contexts[0].node_addresses.clone()), seed);
        let mut dataplane = Dataplane::new(kernel, Settings::default());
        let changes = changes(&objects, &later, &deleted);
        let killed: BTreeSet<usize> =
            killed.iter().filter(|_| !changes.is_empty()).map(|at| at.index(changes.len())).collect();
        for (at, change) in changes.into_iter().enumerate() {
            if killed.contains(&at) {
                // The process is gone with all that it knew; the kernel is not.
                planner = plan::Planner::new(contexts[0].clone());
                dataplane = Dataplane::new(dataplane.netfilter().clone(), Settings::default());
            }
            for _ in 0..=usize::from(doubled) {
                let dirty = plan::affected(&now, &change);
                now.apply(change.clone());
                let names = planner.update(&now, &contexts[0], &dirty);
                // A refused transaction is left to the sync after the next change.
                if dataplane.sync_services(planner.view(), &names).is_ok() && contexts.len() == 1 {
                    // Every instant is right, not only the last.
                    for packet in packets.iter().take(2) {
                        agree(&now, planner.view(), &dataplane.netfilter().fake, packet)?;
                    }
                }
            }
        }
        // D49: the node itself changes as well: its addresses, its zone, its detector.
        let context = contexts.last().unwrap();
        planner.update(&now, context, &BTreeSet::new());
        let done = (0..20).any(|_| dataplane.sync(planner.view()).is_ok());
        prop_assert!(done, "twenty refusals in a row");

        let view = plan::node_view(&now, context);
        prop_assert_eq!(planner.view(), &view);
        prop_assert_eq!(dataplane.sync(&view).unwrap().messages, 0, "nothing is left to do");
        let fake = dataplane.netfilter().fake.clone();
        same_tables(&view, fake.clone())?;
        if contexts.len() == 1 {
            for packet in packets {
                agree(&now, &view, &fake, &packet)?;
            }
        }
    }
}

/// The first objects one by one, then the later ones (those of the same name replace), with
/// deletions in between.
fn changes(objects: &[Object], later: &[Object], deleted: &[Index]) -> Vec<Change> {
    let apply = |object: &Object| Change::Apply(object.clone());
    let mut changes: Vec<Change> = objects.iter().map(apply).collect();
    // Addresses change hands only after a Service is gone, as the API would have it.
    let stays = |object: &Object| {
        let same = |other: &Object| {
            other.kind() == object.kind() && other.meta().name == object.meta().name
        };
        object.kind() != Kind::Service && later.iter().any(same)
    };
    changes.extend(objects.iter().filter(|object| !stays(object)).map(delete));
    changes.extend(later.iter().map(apply));
    for index in deleted.iter().filter(|_| !later.is_empty()) {
        changes.push(delete(index.get(later)));
    }
    changes
}

fn delete(object: &Object) -> Change {
    let meta = object.meta();
    Change::Delete(object.kind(), meta.namespace.clone(), meta.name.clone())
}

fn cluster(objects: &[Object]) -> Cluster {
    let mut cluster = Cluster::default();
    objects.iter().cloned().for_each(|object| cluster.apply(Change::Apply(object)));
    cluster
}

fn loaded(view: &NodeView) -> Dataplane<Fake> {
    let kernel = Fake::new(view.context.node_addresses.clone());
    let mut dataplane = Dataplane::new(kernel, Settings::default());
    dataplane.sync(view).unwrap();
    dataplane
}

fn agree(
    cluster: &Cluster,
    view: &NodeView,
    kernel: &Fake,
    packet: &Packet,
) -> Result<(), TestCaseError> {
    if packet.from_node && !view.context.node_addresses.contains(&packet.source.ip()) {
        return Ok(()); // This node does not have that address.
    }
    let judged = verdict::judge(cluster, &view.context, packet);
    let told = simplify(&judged.outcome);
    let followed = planned(view, &view.context, packet);
    prop_assert_eq!(&followed, &told, "plan; verdict says {:?}; {:?}", judged.reason, packet);
    let traced: Outcome = kernel.trace(packet);
    prop_assert_eq!(simplify(&traced), told, "tables; {:?}; {:?}", judged.reason, packet);
    Ok(())
}

/// Whether tables are those of a fresh load. They may hold chains for treatments that nobody
/// uses any more (D46) and number endpoints otherwise (both keep transactions small), so: every set
/// has as many elements as in a fresh load, and a process that takes the tables over makes them
/// equal to the last byte.
fn same_tables(view: &NodeView, mut kernel: Fake) -> Result<(), TestCaseError> {
    let fresh = loaded(view).netfilter().clone().read().unwrap();
    let counts = |ruleset: &Ruleset| -> Vec<(String, usize)> {
        let sets = ruleset.values().flat_map(|table| &table.sets);
        let sets = sets.filter(|(_, set)| !set.elements.is_empty());
        sets.map(|(name, set)| (format!("{name}"), set.elements.len())).collect()
    };
    prop_assert_eq!(counts(&kernel.read().unwrap()), counts(&fresh));
    let mut successor = Dataplane::new(kernel, Settings::default());
    successor.sync(view).unwrap();
    prop_assert_eq!(successor.netfilter_mut().read().unwrap(), fresh);
    Ok(())
}
