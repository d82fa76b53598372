//! Depth 2: the plan as nft's tables in a fake kernel that refuses every tenth transaction.

use std::collections::BTreeSet;

use nft::{Dataplane, Error, Fake, Netfilter, Op, Ruleset, Sent, Settings, Stale};

use crate::in_model::{World, simplify};
use crate::story::{Action, Story};

/// Runs a story with refusals drawn from a seed; one line for each thing that is not as told.
/// Counts the transactions that were refused.
pub(crate) fn run(story: &Story, seed: u64, refused: &mut usize) -> Vec<String> {
    let mut world = World::new(story);
    let mut dataplane = dataplane(&world, seed);
    let mut failures = Vec::new();
    for step in &story.steps {
        if let Action::Node(_) = &step.action {
            world.take(story, &step.action);
            *refused += dataplane.netfilter().refused;
            dataplane = self::dataplane(&world, seed);
        } else if world.take(story, &step.action) {
            sync(&mut dataplane, &world);
        }
        let Action::Packet { from, to, protocol, expected } = &step.action else { continue };
        let packet = world.packet(&world.context(), from, *to, *protocol);
        let traced = simplify(&dataplane.netfilter().fake.trace(&packet));
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

/// A fake kernel that refuses about every tenth transaction.
#[derive(Clone, Debug)]
pub(crate) struct Flaky {
    pub(crate) fake: Fake,
    /// How many it has refused.
    pub(crate) refused: usize,
    draws: u64,
}

impl Flaky {
    pub(crate) fn new(fake: Fake, seed: u64) -> Self {
        Self { fake, refused: 0, draws: seed }
    }

    /// One draw of a linear congruential generator (Knuth's MMIX constants).
    fn refuses(&mut self) -> bool {
        self.draws = self
            .draws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 33).is_multiple_of(10)
    }
}

impl Netfilter for Flaky {
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error> {
        if self.refuses() {
            self.refused += 1;
            self.fake.fail_nth(1);
        }
        self.fake.commit(operations)
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        self.fake.read()
    }

    /// Leaves out every other set, as the kernel does those of many elements.
    fn read_for(&mut self, want: &Ruleset) -> Result<Ruleset, Error> {
        let mut have = self.fake.read_for(want)?;
        let sets = have.values_mut().flat_map(|table| &mut table.sets);
        for (_, set) in sets.filter(|(_, set)| !set.spec.dynamic).step_by(2) {
            set.elements.clear();
            set.unread = true;
        }
        Ok(have)
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.fake.forget(stale)
    }
}

fn dataplane(world: &World, seed: u64) -> Dataplane<Flaky> {
    let addresses: BTreeSet<_> = world.context().node_addresses;
    let kernel = Flaky::new(Fake::new(addresses), seed);
    let mut dataplane = Dataplane::new(kernel, Settings::default());
    sync(&mut dataplane, world);
    dataplane
}

/// As the agent does: a failed sync is repeated.
fn sync(dataplane: &mut Dataplane<Flaky>, world: &World) {
    let view = plan::node_view(&world.cluster, &world.context());
    let done = (0..20).any(|_| dataplane.sync(&view).is_ok());
    assert!(done, "twenty refusals in a row");
}
