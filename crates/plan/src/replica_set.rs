//! Pods of ReplicaSets.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::{
    Cluster, Name, NodeName, Owner, Pod, PodPhase, ReplicaSet, ReplicaSetName, ReplicaSetStatus,
    Timestamp, Write,
};

use crate::Reconciled;
use crate::events::{self, Reporter};
use crate::selected::in_namespace;
use crate::time::after;

const REPORTER: Reporter =
    Reporter { api_version: "apps/v1", kind: "ReplicaSet", component: "replicaset-controller" };
/// Most pods that one step creates or deletes.
const BURST: usize = 500;
/// Pods with a lower cost go first (KEP-2255).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Own writes that the [`Cluster`] does not show yet.
///
/// While any is open no pod is created or deleted: else a slow watch would make pods without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expectations {
    /// Pods created and not seen yet.
    pub creations: u32,
    /// Pods deleted and still seen as not being deleted.
    pub deletions: u32,
}

impl Expectations {
    /// Whether every own write has been seen.
    pub fn are_met(&self) -> bool {
        *self == Self::default()
    }
}

/// Creates and deletes pods until there are as many as wanted, adopts and releases pods by the
/// selector, and writes the status.
///
/// Creating a pod is reported by whoever carries it out (event `SuccessfulCreate`), who knows the
/// name that the API server gave.
pub fn replica_set(
    cluster: &Cluster,
    name: &ReplicaSetName,
    expectations: Expectations,
    now: Timestamp,
) -> Reconciled {
    let mut result = Reconciled::default();
    let Some(set) = cluster.replica_sets.get(name) else { return result };
    let pods = claim(cluster, set, &mut result.writes);
    if expectations.are_met() && set.meta.deleting.is_none() {
        match pods.len().cmp(&usize::try_from(set.replicas).unwrap_or(usize::MAX)) {
            std::cmp::Ordering::Less => create(set, pods.len(), &mut result.writes),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => delete(cluster, set, &pods, &mut result.writes),
        }
    }
    let status = status(set, &pods, now, &mut result);
    if status != set.status {
        result.writes.push(Write::ReplicaSetStatus(name.clone(), status));
    }
    result
}

/// The pods that count: owned (or adopted now), matching, neither ended nor being deleted.
fn claim<'a>(cluster: &'a Cluster, set: &'a ReplicaSet, writes: &mut Vec<Write>) -> Vec<&'a Pod> {
    let mut pods = Vec::new();
    for pod in in_namespace(cluster, &set.meta.namespace) {
        if pod.phase.is_finished() || pod.meta.deleting.is_some() {
            continue;
        }
        let matches = set.selector.matches(&pod.meta.labels);
        match pod.meta.controller() {
            Some(owner) if owner.uid == set.meta.uid && matches => pods.push(pod),
            Some(owner) if owner.uid == set.meta.uid && set.meta.deleting.is_none() => {
                writes.push(Write::RemoveOwner {
                    resource: events::pods(),
                    meta: Box::new(pod.meta.clone()),
                    owner: set.meta.uid.clone(),
                });
            }
            None if matches && set.meta.deleting.is_none() => {
                writes.push(Write::AddOwner {
                    resource: events::pods(),
                    meta: Box::new(pod.meta.clone()),
                    owner: owner(set),
                });
                pods.push(pod);
            }
            _ => {}
        }
    }
    pods
}

fn create(set: &ReplicaSet, existing: usize, writes: &mut Vec<Write>) {
    let missing = usize::try_from(set.replicas).unwrap_or(usize::MAX).saturating_sub(existing);
    for _ in 0..missing.min(BURST) {
        writes.push(Write::CreatePod {
            namespace: set.meta.namespace.clone(),
            generate_name: format!("{}-", set.meta.name),
            owner: owner(set),
            template: set.template.clone(),
        });
    }
}

fn delete(cluster: &Cluster, set: &ReplicaSet, pods: &[&Pod], writes: &mut Vec<Write>) {
    let keep = usize::try_from(set.replicas).unwrap_or(usize::MAX);
    let on_node = related_per_node(cluster, set);
    let mut order = pods.to_vec();
    order.sort_by_cached_key(|pod| deletion_rank(pod, &on_node));
    for pod in order.iter().take(pods.len().saturating_sub(keep).min(BURST)) {
        writes.push(Write::DeletePod(pod.name(), pod.meta.uid.clone()));
        let text = format!("Deleted pod: {}", pod.meta.name);
        writes.push(REPORTER.normal(&set.meta, "SuccessfulDelete", text));
    }
}

/// What decides which pod goes first: the lowest.
type DeletionRank =
    (bool, u8, bool, i32, Reverse<usize>, Reverse<Timestamp>, Reverse<Timestamp>, Name);

/// Without a node before with one; pending before running; not ready before ready; cheaper before
/// dearer; from nodes with many pods of the same Deployment before others; shorter ready, and
/// younger, before longer.
fn deletion_rank(pod: &Pod, on_node: &BTreeMap<NodeName, usize>) -> DeletionRank {
    let phase = match pod.phase {
        PodPhase::Pending => 0,
        PodPhase::Unknown => 1,
        PodPhase::Running | PodPhase::Succeeded | PodPhase::Failed => 2,
    };
    let cost = pod.meta.annotations.get(DELETION_COST).and_then(|cost| cost.parse().ok());
    let neighbours = pod.node.as_ref().and_then(|node| on_node.get(node)).copied();
    (
        pod.node.is_some(),
        phase,
        pod.ready,
        cost.unwrap_or(0),
        Reverse(neighbours.unwrap_or(0)),
        Reverse(if pod.ready { pod.ready_since } else { Timestamp::default() }),
        Reverse(pod.meta.created),
        pod.meta.name.clone(),
    )
}

/// How many live pods of the ReplicaSets with the same controller each node has.
fn related_per_node(cluster: &Cluster, set: &ReplicaSet) -> BTreeMap<NodeName, usize> {
    let controller = set.meta.controller().map(|owner| &owner.uid);
    let is_related = |other: &ReplicaSet| {
        other.meta.uid == set.meta.uid
            || (controller.is_some()
                && other.meta.controller().map(|owner| &owner.uid) == controller)
    };
    let related: Vec<&Name> = cluster
        .replica_sets
        .values()
        .filter(|other| other.meta.namespace == set.meta.namespace && is_related(other))
        .map(|other| &other.meta.uid)
        .collect();
    let mut count = BTreeMap::new();
    for pod in in_namespace(cluster, &set.meta.namespace) {
        let is_live = !pod.phase.is_finished() && pod.meta.deleting.is_none();
        let owned = pod.meta.controller().is_some_and(|owner| related.contains(&&owner.uid));
        if let (Some(node), true) = (&pod.node, is_live && owned) {
            *count.entry(node.clone()).or_insert(0) += 1;
        }
    }
    count
}

fn status(
    set: &ReplicaSet,
    pods: &[&Pod],
    now: Timestamp,
    result: &mut Reconciled,
) -> ReplicaSetStatus {
    let labels = &set.template.labels;
    let is_labeled =
        |pod: &Pod| labels.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value));
    let mut status = ReplicaSetStatus {
        observed_generation: set.meta.generation,
        replicas: count(pods.len()),
        fully_labeled: count(pods.iter().filter(|pod| is_labeled(pod)).count()),
        ready: 0,
        available: 0,
    };
    for pod in pods.iter().filter(|pod| pod.ready) {
        status.ready += 1;
        let at = after(pod.ready_since, set.min_ready_seconds);
        if set.min_ready_seconds == 0 || at < now {
            status.available += 1;
        } else {
            result.look_again(Timestamp(at.0.saturating_add(1)));
        }
    }
    status
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn owner(set: &ReplicaSet) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: set.meta.name.clone(),
        uid: set.meta.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    }
}
