//! Random clusters, packets and changes: the plan and the tables always agree with `verdict`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use model::{Change, Cluster, NodeContext, NodeView, Object, Outcome, Packet};
use nft::{Dataplane, Fake, Netfilter, Ruleset, Settings};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

use crate::arbitrary;
use crate::changes::{Step, Told, steps};
use crate::in_fake::Flaky;
use crate::in_model::{planned, simplify};
use crate::packets::{Shot, Tally, shot};
use crate::runs::run;

/// Clusters.
const CASES: u32 = 512;
/// Lives of agents: each takes a tenth of a second, unoptimised.
const LIVES: u32 = 128;

/// Of a thousand packets at least, so that no run tests nothing.
const WANTED: [(&str, usize); 14] = [
    ("delivered", 80),
    ("masqueraded", 150),
    ("refused", 100),
    ("dropped", 40),
    ("untouched", 50),
    ("source range", 3),
    ("no local endpoints", 10),
    ("no endpoints", 50),
    ("undeclared port", 20),
    ("terminating", 20),
    ("hints", 30),
    ("from the node", 80),
    ("from the address itself", 10),
    ("IPv6", 300),
];

#[test]
fn plan_and_tables_agree_with_verdict() {
    let name = "plan_and_tables_agree_with_verdict";
    let tally = RefCell::new(Tally::default());
    let strategy = (arbitrary::objects(), arbitrary::context(), vec(shot(), 1..60));
    run(name, CASES, Config::default(), &strategy, |(objects, context, shots)| {
        let cluster = cluster(&objects);
        let view = plan::node_view(&cluster, &context);
        let dataplane = loaded(&view);
        for shot in shots {
            let packet = shot.at(&cluster, context.node_addresses.clone());
            tally.borrow_mut().add(&packet, &verdict::judge(&cluster, &context, &packet));
            agree(&cluster, &context, Some(&view), dataplane.netfilter(), &packet)?;
        }
        Ok(())
    });
    tally.borrow().assert_varied(&WANTED);
}

/// A life of an agent.
#[derive(Clone, Debug)]
struct Life {
    objects: Vec<Object>,
    steps: Vec<Step>,
    /// What the node is, and becomes before some step (D49).
    contexts: Vec<(NodeContext, Index)>,
    shots: Vec<Shot>,
    seed: u64,
}

#[test]
fn whatever_changes_the_tables_are_right_at_every_instant() {
    let name = "whatever_changes_the_tables_are_right_at_every_instant";
    let (refused, killed) = (RefCell::new(0), RefCell::new(0));
    let contexts = vec((arbitrary::context(), any::<Index>()), 1..4);
    let strategy = (arbitrary::objects(), steps(1..24), contexts, vec(shot(), 8..24), any::<u64>())
        .prop_map(|(objects, steps, contexts, shots, seed)| Life {
            objects,
            steps,
            contexts,
            shots,
            seed,
        });
    run(name, LIVES, Config::default(), &strategy, |life| {
        *refused.borrow_mut() += live(&life)?;
        *killed.borrow_mut() += life.steps.iter().filter(|step| step.killed).count();
        Ok(())
    });
    let (refused, killed) = (refused.into_inner(), killed.into_inner());
    eprintln!("{refused} transactions were refused, {killed} agents were killed");
    assert!(refused > 50 && killed > 50, "{refused} refused, {killed} killed");
}

/// Goes through a life and returns how many transactions were refused.
fn live(life: &Life) -> Result<usize, TestCaseError> {
    // The fake kernel's own addresses do not change, the node ports' do.
    let own: BTreeSet<_> = life.contexts[0].0.node_addresses.clone();
    let mut context = life.contexts[0].0.clone();
    let kernel = Flaky::new(Fake::new(own.clone()), 10, life.seed);
    let mut dataplane = Dataplane::new(kernel, Settings::default());
    let mut told = Told::new(cluster(&life.objects), &context);
    // What the kernel was last made to do: what a refused transaction leaves in place.
    let mut shown = None;
    for (at, step) in life.steps.iter().enumerate() {
        if step.killed {
            dataplane = Dataplane::new(dataplane.netfilter().clone(), Settings::default());
        }
        let next = life.contexts.iter().find(|(_, when)| when.index(life.steps.len()) == at);
        context = next.map_or(context, |(next, _)| next.clone());
        told.take(step, |_| context.clone());
        if dataplane.sync_services(told.view(), told.changed()).is_ok() {
            shown = Some((told.cluster.clone(), context.clone()));
        }
        let Some((cluster, context)) = &shown else { continue };
        for shot in life.shots.iter().cycle().skip(3 * at).take(3) {
            let packet = shot.at(cluster, context.node_addresses.clone());
            if context.node_addresses == own {
                agree(cluster, context, None, &dataplane.netfilter().kernel, &packet)?;
            }
        }
    }
    let done = (0..20).any(|_| dataplane.sync(told.view()).is_ok());
    prop_assert!(done, "twenty refusals in a row");
    ends_right(&told, &context, &mut dataplane)?;
    if context.node_addresses == own {
        for shot in &life.shots {
            let packet = shot.at(&told.cluster, own.clone());
            agree(
                &told.cluster,
                &context,
                Some(told.view()),
                &dataplane.netfilter().kernel,
                &packet,
            )?;
        }
    }
    Ok(dataplane.netfilter().refused)
}

/// However it came to be, the state is that of a fresh start.
fn ends_right(
    told: &Told,
    context: &NodeContext,
    dataplane: &mut Dataplane<Flaky<Fake>>,
) -> Result<(), TestCaseError> {
    let view = plan::node_view(&told.cluster, context);
    prop_assert_eq!(told.view(), &view);
    prop_assert_eq!(dataplane.sync(&view).unwrap().messages, 0, "nothing is left to do");
    same_tables(&view, dataplane.netfilter().kernel.clone())
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
    context: &NodeContext,
    view: Option<&NodeView>,
    kernel: &Fake,
    packet: &Packet,
) -> Result<(), TestCaseError> {
    if packet.from_node && !context.node_addresses.contains(&packet.source.ip()) {
        return Ok(()); // This node does not have that address.
    }
    let judged = verdict::judge(cluster, context, packet);
    let told = simplify(&judged.outcome);
    if let Some(view) = view {
        let followed = planned(view, context, packet);
        prop_assert_eq!(&followed, &told, "plan; verdict: {:?}; {:?}", judged.reason, packet);
    }
    let traced: Outcome = kernel.trace(packet);
    prop_assert_eq!(simplify(&traced), told, "tables; verdict: {:?}; {:?}", judged.reason, packet);
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
