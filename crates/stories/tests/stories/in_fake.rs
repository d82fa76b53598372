//! Depth 2: the plan as nft's tables in a fake kernel that refuses every tenth transaction.

use model::Family;
use nft::ruleset::Unread;
use nft::{Affinity, Dataplane, Error, Fake, Netfilter, Op, Ruleset, Sent, Settings, Stale};

use crate::in_model::{World, simplify};
use crate::story::{Action, Story};

/// Runs a story with refusals drawn from a seed; one line for each thing that is not as told.
/// Counts the transactions that were refused.
pub(crate) fn run(story: &Story, seed: u64, refused: &mut usize) -> Vec<String> {
    let mut world = World::new(story);
    let mut dataplane = dataplane(&world, seed);
    let mut failures = Vec::new();
    for step in &story.steps {
        if let Action::Node(_) | Action::Settings(_) = &step.action {
            world.take(story, &step.action);
            *refused += dataplane.netfilter().refused;
            dataplane = self::dataplane(&world, seed);
        } else if world.take(story, &step.action) {
            sync(&mut dataplane, &world);
        }
        let Action::Packet { from, to, protocol, expected, .. } = &step.action else { continue };
        let packet = world.packet(&world.context(), from, *to, *protocol);
        let traced = simplify(&dataplane.netfilter().kernel.trace(&packet));
        if traced != *expected {
            failures.push(format!(
                "{}: the tables (seed {seed}) say {traced:?}, not {expected:?}",
                story.place(step)
            ));
        }
    }
    *refused += dataplane.netfilter().refused;
    failures
}

/// A kernel that refuses some transactions, at their last operation.
#[derive(Clone, Debug)]
pub(crate) struct Flaky<N> {
    pub(crate) kernel: N,
    /// How many it has refused.
    pub(crate) refused: usize,
    one_in: u64,
    draws: u64,
}

impl<N> Flaky<N> {
    /// Refuses about one in so many, drawn from a seed.
    pub(crate) fn new(kernel: N, one_in: u64, seed: u64) -> Self {
        Self { kernel, refused: 0, one_in, draws: seed }
    }

    /// One draw of a linear congruential generator (Knuth's MMIX constants).
    fn refuses(&mut self) -> bool {
        self.draws = self
            .draws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 33).is_multiple_of(self.one_in)
    }
}

impl<N: Netfilter> Netfilter for Flaky<N> {
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error> {
        if !self.refuses() {
            return self.kernel.commit(operations);
        }
        self.refused += 1;
        let impossible = Op::DeleteChain(Family::V4, "nobody-made-this".into());
        self.kernel.commit(&[operations, &[impossible]].concat())
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        self.kernel.read()
    }

    /// Leaves out every other set, as the kernel does those of many elements.
    fn read_for(&mut self, want: &Ruleset) -> Result<Ruleset, Error> {
        let mut have = self.kernel.read_for(want)?;
        let sets = have.values_mut().flat_map(|table| &mut table.sets);
        for (_, set) in sets.filter(|(_, set)| !set.spec.is_filled_by_packets()).step_by(2) {
            set.elements.clear();
            set.unread = Unread::Possible;
        }
        Ok(have)
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.kernel.forget(stale)
    }

    fn retime(&mut self, family: Family, affinity: &Affinity) -> Result<(), Error> {
        self.kernel.retime(family, affinity)
    }
}

fn dataplane(world: &World, seed: u64) -> Dataplane<Flaky<Fake>> {
    let kernel = Flaky::new(Fake::new(world.node_addresses()), 10, seed);
    let mut dataplane = Dataplane::new(kernel, Settings::default());
    sync(&mut dataplane, world);
    dataplane
}

/// As the agent does: a failed sync is repeated.
fn sync(dataplane: &mut Dataplane<Flaky<Fake>>, world: &World) {
    let view = plan::node_view(&world.cluster, &world.context());
    let done = (0..20).any(|_| dataplane.sync(&view).is_ok());
    assert!(done, "twenty refusals in a row");
}
