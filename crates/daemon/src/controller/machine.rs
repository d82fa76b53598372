//! The controller without I/O: events and the time go in, writes come out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{MetadataEvent, Written};
use model::{Change, Cluster, Kind, Meta, NodeName, Resource, Timestamp, Write};
use plan::{AddressPool, ClusterCidrs, Reconciled, Touched};

use super::inventory::{Concerns, Inventory};
use super::key::Key;
use super::pending::Pending;
use super::queue::Queue;
use super::selection::Selection;
use crate::clock::Now;

/// Writes that belong together, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    /// What they reconcile.
    pub(crate) key: Key,
    /// What to write.
    pub(crate) writes: Vec<Write>,
}

/// What became of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Carried out.
    Written(Written),
    /// Not carried out: to be planned again, not before this time has passed.
    Failed {
        /// What the server asked for; zero when it asked for nothing.
        not_before: Duration,
    },
}

impl Outcome {
    /// Whether the write was not carried out.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Everything the controllers know and have to do.
#[derive(Debug)]
pub(crate) struct Controller {
    /// Whose work is done; nothing else gets into the queue.
    selection: Selection,
    /// What that work looks at.
    kinds: Vec<Kind>,
    cluster: Cluster,
    inventory: Inventory,
    pool: AddressPool,
    /// What nodes without pod addresses get theirs from; `None` when they must bring them.
    cidrs: Option<ClusterCidrs>,
    /// When each node's Lease was last seen to change.
    renewed: BTreeMap<NodeName, Timestamp>,
    leases_complete: bool,
    queue: Queue<Key>,
    pending: Pending,
}

impl Controller {
    pub(crate) fn new(
        selection: Selection,
        pool: AddressPool,
        cidrs: Option<ClusterCidrs>,
    ) -> Self {
        Self {
            kinds: selection.kinds(),
            selection,
            cluster: Cluster::default(),
            inventory: Inventory::default(),
            pool,
            cidrs,
            renewed: BTreeMap::new(),
            leases_complete: false,
            queue: Queue::new(),
            pending: Pending::default(),
        }
    }

    /// Whose work it does.
    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Takes in a change of an object that the controllers understand.
    pub(crate) fn change(&mut self, change: Change) {
        self.enqueue(plan::touched(&self.cluster, &change));
        if concerns_nodes(&change) {
            self.add(Key::NodeHealth);
            self.add(Key::NodeCidrs);
        }
        for key in self.pending.observe(&change) {
            self.add(key);
        }
        let (kind, event) = metadata(&change);
        self.metadata(&cluster::resource_of(kind), event);
        let was_complete = self.cluster.is_complete(&self.kinds);
        self.cluster.apply(change);
        if !was_complete && self.cluster.is_complete(&self.kinds) {
            self.enqueue(Touched::all(&self.cluster));
        }
    }

    /// Takes in a change of any other object's metadata.
    pub(crate) fn metadata(&mut self, resource: &Resource, event: MetadataEvent) {
        let concerns = self.inventory.take(resource, event);
        self.concern(concerns);
    }

    /// Names the resource types that the server has.
    pub(crate) fn resources(&mut self, resources: BTreeSet<Resource>) {
        self.inventory.expect(resources);
        let namespaces = self.inventory.terminating().clone();
        self.concern(Concerns { garbage: true, namespaces });
    }

    /// A node's Lease has been renewed.
    pub(crate) fn renewed(&mut self, node: NodeName, now: Now) {
        self.renewed.insert(node, now.wall);
        self.add(Key::NodeHealth);
    }

    /// The Leases have been listed; nodes without one are not in the set.
    pub(crate) fn leases(&mut self, nodes: &BTreeSet<NodeName>) {
        self.renewed.retain(|node, _| nodes.contains(node));
        self.leases_complete = true;
        self.add(Key::NodeHealth);
    }

    /// The next writes. The caller carries them out and calls [`Self::done`].
    pub(crate) fn next(&mut self, now: Now) -> Option<Work> {
        // Invariant 5: who does not know everything yet decides nothing.
        if !self.cluster.is_complete(&self.kinds) {
            return None;
        }
        while let Some(key) = self.queue.next(now.steady) {
            if self.pending.give_up(&key, now.steady) {
                tracing::warn!(?key, "own writes were never seen, planning without them");
            }
            let writes = if self.pending.blocks(&key) { Vec::new() } else { self.plan(&key, now) };
            self.wait_for_own_writes(&key);
            if !writes.is_empty() {
                return Some(Work { key, writes });
            }
            self.queue.done(key);
        }
        None
    }

    /// Takes in what became of writes that [`Self::next`] gave.
    pub(crate) fn done(&mut self, key: Key, outcomes: Vec<(Write, Outcome)>, now: Now) {
        let mut failed: Option<Duration> = None;
        for (write, outcome) in outcomes {
            match outcome {
                Outcome::Written(written) => {
                    self.pending.add(&key, &write, written, &self.cluster, now.steady);
                }
                Outcome::Failed { not_before } => {
                    failed = Some(failed.unwrap_or_default().max(not_before));
                }
            }
        }
        match failed {
            None => self.queue.succeeded(&key),
            Some(Duration::ZERO) => self.queue.retry(key.clone(), now.steady),
            Some(delay) => self.queue.add_at(key.clone(), now.steady + delay),
        }
        self.wait_for_own_writes(&key);
        self.queue.done(key);
    }

    /// When [`Self::next`] may have something to do without any event.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.queue.next_due()
    }

    /// How many keys wait to be planned.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The key is looked at again when its own writes are seen, or when they should have been.
    fn wait_for_own_writes(&mut self, key: &Key) {
        if let Some(due) = self.pending.due(key) {
            self.queue.add_at(key.clone(), due);
        }
    }

    fn plan(&mut self, key: &Key, now: Now) -> Vec<Write> {
        let Reconciled { writes, again, report } = self.reconcile(key, now.wall);
        for reason in &report {
            tracing::debug!(?key, %reason, "planned");
        }
        if let Some(again) = again {
            let wait = u64::try_from(again.0 - now.wall.0).unwrap_or_default();
            self.queue.add_at(key.clone(), now.steady + Duration::from_micros(wait));
        }
        writes
    }

    fn reconcile(&self, key: &Key, now: Timestamp) -> Reconciled {
        let cluster = &self.cluster;
        match key {
            Key::Slices(service) => plan::slices(cluster, service),
            Key::Endpoints(service) => plan::endpoints(cluster, service),
            Key::Mirroring(endpoints) => plan::mirroring(cluster, endpoints),
            Key::Deployment(deployment) => plan::deployment(cluster, deployment, now),
            Key::ReplicaSet(set) => {
                plan::replica_set(cluster, set, self.pending.expectations(key), now)
            }
            Key::Schedule => plan::schedule(cluster),
            Key::LoadBalancer => plan::load_balancer(cluster, &self.pool),
            Key::NodeCidrs => match &self.cidrs {
                Some(cidrs) => plan::node_cidrs(cluster, cidrs),
                None => Reconciled::default(),
            },
            Key::NodeHealth if self.leases_complete => {
                plan::node_health(cluster, &self.renewed, now)
            }
            Key::Namespace(namespace) if self.inventory.is_complete() => {
                plan::namespace(self.inventory.objects(), namespace)
            }
            Key::Garbage if self.inventory.is_complete() => plan::garbage(self.inventory.objects()),
            // Added again when the sources are complete.
            Key::NodeHealth | Key::Namespace(_) | Key::Garbage => Reconciled::default(),
        }
    }

    fn enqueue(&mut self, touched: Touched) {
        for service in touched.services {
            self.add(Key::Slices(service.clone()));
            self.add(Key::Endpoints(service));
        }
        for endpoints in touched.endpoints {
            self.add(Key::Mirroring(endpoints));
        }
        for deployment in touched.deployments {
            self.add(Key::Deployment(deployment));
        }
        for set in touched.replica_sets {
            self.add(Key::ReplicaSet(set));
        }
        if touched.schedule {
            self.add(Key::Schedule);
        }
        if touched.load_balancer {
            self.add(Key::LoadBalancer);
        }
    }

    fn add(&mut self, key: Key) {
        if self.selection.contains(key.controller()) {
            self.queue.add(key);
        }
    }

    fn concern(&mut self, concerns: Concerns) {
        if !self.inventory.is_complete() {
            return;
        }
        if concerns.garbage {
            self.add(Key::Garbage);
        }
        for namespace in concerns.namespaces {
            self.add(Key::Namespace(namespace));
        }
    }
}

fn concerns_nodes(change: &Change) -> bool {
    let kind = match change {
        Change::Apply(object) => object.kind(),
        Change::Delete(kind, ..) | Change::Complete(kind, _) => *kind,
    };
    kind == Kind::Node
}

/// The same change as seen by the inventory.
fn metadata(change: &Change) -> (Kind, MetadataEvent) {
    match change {
        Change::Apply(object) => {
            let meta: Meta = object.meta().clone();
            (object.kind(), MetadataEvent::Apply(Box::new(meta)))
        }
        Change::Delete(kind, namespace, name) => {
            (*kind, MetadataEvent::Delete(namespace.clone(), name.clone()))
        }
        Change::Complete(kind, present) => (*kind, MetadataEvent::Complete(present.clone())),
    }
}
