//! Random lists of changes, as an agent may be told them: in any order, in bursts, twice, and with
//! the agent killed in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Change, Cluster, EndpointSlice, NodeContext, Object, ServiceName};
use plan::Planner;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::arbitrary;

/// What an agent is told at once.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) changes: Vec<Change>,
    /// Each change is told twice.
    pub(crate) doubled: bool,
    /// The agent is killed before it is told. What starts in its place knows the objects, and has the
    /// kernel as it is.
    pub(crate) killed: bool,
}

/// Steps that make, change and delete Services, slices and ServiceCIDRs.
pub(crate) fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let burst = prop_oneof![4 => 1..2_usize, 1 => 2..5_usize];
    let changes = burst.prop_flat_map(|size| vec(change(), size));
    let often = proptest::bool::weighted;
    let step = (changes, often(0.2), often(0.15));
    let step = step.prop_map(|(changes, doubled, killed)| Step { changes, doubled, killed });
    vec(step, count)
}

fn change() -> impl Strategy<Value = Change> {
    let deletes = proptest::bool::weighted(0.2);
    (arbitrary::objects(), any::<Index>(), deletes).prop_filter_map(
        "some object",
        |(objects, index, deletes)| {
            let object = (!objects.is_empty()).then(|| index.get(&objects).clone())?;
            Some(if deletes { delete(&object) } else { Change::Apply(object) })
        },
    )
}

fn delete(object: &Object) -> Change {
    let meta = object.meta();
    Change::Delete(object.kind(), meta.namespace.clone(), meta.name.clone())
}

/// The part of an agent that changes go to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) cluster: Cluster,
    planner: Planner,
    /// Services whose view may differ from that of the last sync.
    changed: BTreeSet<ServiceName>,
}

impl Told {
    /// An agent that has just learned of everything.
    pub(crate) fn new(cluster: Cluster, context: &NodeContext) -> Self {
        let mut planner = Planner::new(context.clone());
        let changed = planner.update(&cluster, context, &BTreeSet::new());
        Self { cluster, planner, changed }
    }

    /// `context` tells what the node is when everything has been told (D49).
    pub(crate) fn take(&mut self, step: &Step, context: impl FnOnce(&Cluster) -> NodeContext) {
        let mut dirty = BTreeSet::new();
        for change in &step.changes {
            let change = without_contradictions(&self.cluster, change);
            for _ in 0..=usize::from(step.doubled) {
                dirty.extend(plan::affected(&self.cluster, &change));
                self.cluster.apply(change.clone());
            }
        }
        let context = context(&self.cluster);
        if step.killed {
            self.planner = Planner::new(context.clone());
        }
        self.changed = self.planner.update(&self.cluster, &context, &dirty);
    }

    pub(crate) fn view(&self) -> &model::NodeView {
        self.planner.view()
    }

    pub(crate) fn changed(&self) -> &BTreeSet<ServiceName> {
        &self.changed
    }
}

/// As in [`arbitrary::objects`]: where another slice of the Service has the same endpoint, both say
/// the same about it.
fn without_contradictions(cluster: &Cluster, change: &Change) -> Change {
    let Change::Apply(Object::EndpointSlice(slice)) = change else { return change.clone() };
    let mut slice = EndpointSlice::clone(slice);
    let Some(service) = slice.service.clone() else { return change.clone() };
    let name = slice.name();
    let others = cluster.slices_of(&service).filter(|other| other.name() != name);
    let known: Vec<_> = others.flat_map(|other| &other.endpoints).collect();
    for endpoint in &mut slice.endpoints {
        let same = known.iter().find(|other| {
            other.addresses == endpoint.addresses
                && other.conditions.terminating == endpoint.conditions.terminating
        });
        if let Some(other) = same {
            endpoint.clone_from(other);
        }
    }
    Change::Apply(Object::EndpointSlice(Arc::new(slice)))
}
