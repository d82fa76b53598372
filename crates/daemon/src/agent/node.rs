//! What this node knows and has to do: changes in, a view out. Without I/O.

use std::collections::BTreeSet;
use std::time::Instant;

use cluster::Batch;
use model::{Change, Cluster, Kind, NodeName, NodeView, Object, ServiceName, Timestamp};
use plan::{AgentSettings, Planner};

/// The kinds that a node needs. Nothing is planned before each was listed once (D6).
pub(crate) const KINDS: [Kind; 4] =
    [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];
/// When a change of pods or of the Service made a slice change; RFC 3339.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The cluster as this node sees it.
#[derive(Debug)]
pub(crate) struct Node {
    name: NodeName,
    settings: AgentSettings,
    cluster: Cluster,
    planner: Option<Planner>,
    waiting: Waiting,
}

/// Changes that the kernel does not have.
#[derive(Debug, Default)]
struct Waiting {
    dirty: BTreeSet<ServiceName>,
    /// When the oldest of them was received.
    received: Option<Instant>,
    /// When their causes happened.
    triggers: Vec<Timestamp>,
    services: u64,
    slices: u64,
}

/// What was planned from which changes.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Whether every Service was planned.
    pub(crate) full: bool,
    /// When the oldest change was received; `None` when there was none.
    pub(crate) received: Option<Instant>,
    /// When the causes of slice changes happened.
    pub(crate) triggers: Vec<Timestamp>,
    /// Changes of Services and of EndpointSlices.
    pub(crate) changes: (u64, u64),
}

impl Node {
    pub(crate) fn new(name: NodeName, settings: AgentSettings) -> Self {
        Self {
            name,
            settings,
            cluster: Cluster::default(),
            planner: None,
            waiting: Waiting::default(),
        }
    }

    /// Takes changes in.
    pub(crate) fn take(&mut self, batch: Batch) {
        let waiting = &mut self.waiting;
        waiting.received = waiting.received.or(Some(batch.received));
        for change in batch.changes {
            waiting.dirty.extend(plan::affected(&self.cluster, &change));
            match &change {
                Change::Apply(Object::Service(_)) | Change::Delete(Kind::Service, ..) => {
                    waiting.services += 1;
                }
                Change::Apply(Object::EndpointSlice(slice)) => {
                    waiting.slices += 1;
                    let trigger = slice.meta.annotations.get(TRIGGER_TIME);
                    waiting.triggers.extend(trigger.and_then(|text| timestamp(text)));
                }
                Change::Delete(Kind::EndpointSlice, ..) => waiting.slices += 1,
                _ => {}
            }
            self.cluster.apply(change);
        }
    }

    /// Other settings from now on.
    pub(crate) fn configure(&mut self, settings: AgentSettings) {
        self.settings = settings;
    }

    /// Brings the view up to date.
    ///
    /// `None` while not every source is complete, or while this Node or the part of it that is
    /// needed is missing: then the kernel keeps what it has.
    pub(crate) fn plan(&mut self) -> Option<Planned> {
        if !self.cluster.is_complete(&KINDS) {
            return None;
        }
        let context = plan::context(&self.cluster, &self.name, &self.settings)?;
        let full = self.planner.as_ref().is_none_or(|planner| planner.view().context != context);
        let planner = self.planner.get_or_insert_with(|| Planner::new(context.clone()));
        let waiting = std::mem::take(&mut self.waiting);
        planner.update(&self.cluster, &context, &waiting.dirty);
        Some(Planned {
            full,
            received: waiting.received,
            // The first sync takes in old causes: they say nothing about our speed.
            triggers: if full { Vec::new() } else { waiting.triggers },
            changes: (waiting.services, waiting.slices),
        })
    }

    /// The latest view; `None` before the first [`Self::plan`] that succeeded.
    pub(crate) fn view(&self) -> Option<&NodeView> {
        self.planner.as_ref().map(Planner::view)
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

fn timestamp(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(time.as_microsecond()))
}
