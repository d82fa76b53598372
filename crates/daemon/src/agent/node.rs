//! What this node knows and has to do: changes in, a view out. Without I/O.

use std::collections::BTreeSet;
use std::time::Instant;

use cluster::Batch;
use model::{Change, Cluster, Kind, NodeName, NodeView, Object, ServiceName, Timestamp};
use plan::Planner;

use super::lean::Lean;
use super::no_local::NoLocal;
use super::settings::Basis;

/// The kinds that a node needs. Nothing is planned before each was listed once (D6).
pub(crate) const KINDS: [Kind; 4] =
    [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];
/// When a change of pods or of the Service made a slice change; RFC 3339.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The cluster as this node sees it.
#[derive(Debug)]
pub(crate) struct Node {
    name: NodeName,
    basis: Basis,
    cluster: Cluster,
    lean: Lean,
    planner: Option<Planner>,
    waiting: Waiting,
    /// Services whose view has changed since the kernel last followed.
    changed: BTreeSet<ServiceName>,
    no_local: NoLocal,
}

/// Changes that the kernel does not have.
#[derive(Debug, Default)]
struct Waiting {
    dirty: BTreeSet<ServiceName>,
    /// When the oldest of them was received.
    received: Option<Instant>,
    /// When their causes happened.
    triggers: Vec<Timestamp>,
    /// Whether a list is among them.
    listed: bool,
}

/// Changes of Services and of EndpointSlices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) services: u64,
    pub(crate) slices: u64,
}

/// What was planned from which changes.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Whether every Service was planned.
    pub(crate) full: bool,
    /// Whether the changes ended a list.
    pub(crate) listed: bool,
    /// When the oldest change was received; `None` when there was none.
    pub(crate) received: Option<Instant>,
    /// When the causes of slice changes happened.
    pub(crate) triggers: Vec<Timestamp>,
}

impl Node {
    pub(crate) fn new(name: NodeName, basis: Basis) -> Self {
        Self {
            name,
            basis,
            cluster: Cluster::default(),
            lean: Lean::default(),
            planner: None,
            waiting: Waiting::default(),
            changed: BTreeSet::new(),
            no_local: NoLocal::default(),
        }
    }

    /// Takes changes in and counts them.
    pub(crate) fn take(&mut self, batch: Batch) -> Counted {
        let mut counted = Counted::default();
        let waiting = &mut self.waiting;
        waiting.received = waiting.received.or(Some(batch.received));
        for change in batch.changes {
            waiting.dirty.extend(plan::affected(&self.cluster, &change));
            match &change {
                Change::Apply(Object::Service(_)) | Change::Delete(Kind::Service, ..) => {
                    counted.services += 1;
                }
                Change::Apply(Object::EndpointSlice(slice)) => {
                    counted.slices += 1;
                    let trigger = slice.meta.annotations.get(TRIGGER_TIME);
                    waiting.triggers.extend(trigger.and_then(|text| timestamp(text)));
                }
                Change::Delete(Kind::EndpointSlice, ..) => counted.slices += 1,
                Change::Complete(..) => waiting.listed = true,
                _ => {}
            }
            self.cluster.apply(self.lean.change(change));
        }
        counted
    }

    /// Other settings from now on.
    pub(crate) fn configure(&mut self, basis: Basis) {
        self.basis = basis;
    }

    /// Brings the view up to date.
    ///
    /// `None` while not every source is complete, or while this Node or the part of it that is
    /// needed is missing: then the kernel keeps what it has.
    pub(crate) fn plan(&mut self) -> Option<Planned> {
        if !self.cluster.is_complete(&KINDS) {
            return None;
        }
        let node = self.cluster.nodes.get(&self.name);
        let settings = self.basis.settings(node.map(|node| &**node));
        let context = plan::context(&self.cluster, &self.name, &settings)?;
        let full = self.planner.as_ref().is_none_or(|planner| planner.view().context != context);
        let planner = self.planner.get_or_insert_with(|| Planner::new(context.clone()));
        let waiting = std::mem::take(&mut self.waiting);
        let changed = planner.update(&self.cluster, &context, &waiting.dirty);
        self.no_local.update(&changed, planner.view());
        self.changed.extend(changed);
        Some(Planned {
            full,
            listed: waiting.listed,
            received: waiting.received,
            // The first sync takes in old causes: they say nothing about our speed.
            triggers: if full { Vec::new() } else { waiting.triggers },
        })
    }

    /// What has to come before anything can be planned, for people; empty when nothing is missing.
    pub(crate) fn missing(&self) -> Vec<String> {
        let unlisted = KINDS.iter().filter(|kind| !self.cluster.complete.contains(*kind));
        let mut missing: Vec<String> =
            unlisted.map(|kind| format!("the API server's list of {}s", name(*kind))).collect();
        if missing.is_empty() {
            match self.cluster.nodes.get(&self.name) {
                None => missing.push(format!("Node {} in the API", self.name)),
                Some(_) if self.planner.is_none() => {
                    missing.push(format!("spec.podCIDRs of Node {}", self.name));
                }
                Some(_) => {}
            }
        }
        missing
    }

    /// The latest view; `None` before the first [`Self::plan`] that succeeded.
    pub(crate) fn view(&self) -> Option<&NodeView> {
        self.planner.as_ref().map(Planner::view)
    }

    /// Services whose view has changed since the kernel last followed.
    pub(crate) fn changed(&self) -> &BTreeSet<ServiceName> {
        &self.changed
    }

    /// The kernel has followed.
    pub(crate) fn followed(&mut self) {
        self.changed.clear();
    }

    /// Services that ignore connections for want of a local endpoint.
    pub(crate) fn no_local(&self) -> &NoLocal {
        &self.no_local
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Name of this node.
    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }
}

/// As the API spells it.
fn name(kind: Kind) -> String {
    cluster::resource_of(kind).kind.to_string()
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(time.as_microsecond()))
}
