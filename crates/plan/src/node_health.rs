//! Nodes that stopped reporting, and the pods on them.

use std::collections::BTreeMap;

use model::{Cluster, Kind, Node, NodeCondition, NodeName, Pod, Timestamp, Write};

use crate::Reconciled;
use crate::events::{self, Reporter};
use crate::time::after;

const NODES: Reporter = Reporter { api_version: "v1", kind: "Node", component: "node-controller" };
const PODS: Reporter = Reporter { api_version: "v1", kind: "Pod", component: "node-controller" };
/// How long a node may be silent, in seconds; upstream's default.
const GRACE: u32 = 50;
/// How long pods stay on a silent node, in seconds: the default toleration of `unreachable`.
const EVICTION: u32 = 300;
/// How old a pod must be before a missing Node counts against it, in seconds.
const ORPHAN_AGE: u32 = 60;
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Marks nodes whose Lease is too old, and their pods; `renewed` is `spec.renewTime` of the Leases in
/// Namespace `kube-node-lease`, as seen on the clock that gives `now`.
///
/// Pods of a silent node stop being endpoints at once and are deleted after five minutes, so that
/// their controllers replace them. Pods whose Node object was deleted are deleted, too.
pub fn node_health(
    cluster: &Cluster,
    renewed: &BTreeMap<NodeName, Timestamp>,
    now: Timestamp,
) -> Reconciled {
    let mut result = Reconciled::default();
    let mut pods: BTreeMap<&NodeName, Vec<&Pod>> = BTreeMap::new();
    for pod in cluster.pods.values() {
        if let Some(node) = &pod.node {
            pods.entry(node).or_default().push(pod);
        }
    }
    for node in cluster.nodes.values().filter(|node| node.meta.deleting.is_none()) {
        let last = renewed.get(&node.meta.name).copied().unwrap_or_else(|| last_report(node));
        let here = pods.remove(&node.meta.name).unwrap_or_default();
        let limit = after(last, GRACE);
        if now <= limit {
            result.look_again(Timestamp(limit.0.saturating_add(1)));
            recover(node, &mut result.writes);
        } else {
            silence(node, &here, now > after(limit, EVICTION), &mut result.writes);
            if now <= after(limit, EVICTION) {
                result.look_again(Timestamp(after(limit, EVICTION).0.saturating_add(1)));
            }
        }
    }
    if cluster.is_complete(&[Kind::Node]) {
        pods.into_values().flatten().for_each(|pod| orphan(pod, now, &mut result));
    }
    result
}

/// When a node without a Lease was last heard of.
fn last_report(node: &Node) -> Timestamp {
    match node.ready {
        NodeCondition::Unknown { since } => since.max(node.meta.created),
        NodeCondition::Ready | NodeCondition::NotReady => node.meta.created,
    }
}

/// The node reports: the taints of silence go, and with condition Ready True also the taint that
/// every new Node has.
fn recover(node: &Node, writes: &mut Vec<Write>) {
    let obsolete = |taint: &String| {
        let key = taint.split(['=', ':']).next().unwrap_or_default();
        match node.ready {
            NodeCondition::Ready => [UNREACHABLE, NOT_READY].contains(&key),
            NodeCondition::NotReady => key == UNREACHABLE,
            NodeCondition::Unknown { .. } => false,
        }
    };
    let taints: Vec<String> =
        node.taints.iter().filter(|taint| !obsolete(taint)).cloned().collect();
    if taints.len() < node.taints.len() {
        writes.push(Write::NodeTaints { meta: Box::new(node.meta.clone()), taints });
    }
}

/// Keeps new pods away from a silent node and makes its pods stop being endpoints.
fn silence(node: &Node, pods: &[&Pod], evicts: bool, writes: &mut Vec<Write>) {
    let mut taints = node.taints.clone();
    for effect in ["NoSchedule", "NoExecute"] {
        let taint = format!("{UNREACHABLE}=:{effect}");
        if !taints.contains(&taint) {
            taints.push(taint);
        }
    }
    if taints != node.taints {
        // Before the status: its precondition is the resourceVersion.
        writes.push(Write::NodeTaints { meta: Box::new(node.meta.clone()), taints });
    }
    if !matches!(node.ready, NodeCondition::Unknown { .. }) {
        writes.push(Write::NodeUnreachable(node.meta.name.clone(), node.meta.uid.clone()));
        let text = format!("Node {} status is now: NodeNotReady", node.meta.name);
        writes.push(NODES.normal(&node.meta, "NodeNotReady", text));
    }
    for pod in pods.iter().filter(|pod| !pod.phase.is_finished()) {
        if pod.ready {
            writes.push(Write::PodNotReady(pod.name(), pod.meta.uid.clone()));
            let text = "Node is not ready";
            writes.push(PODS.warning(&pod.meta, "NodeNotReady", text));
        }
        if evicts && pod.meta.deleting.is_none() {
            writes.push(Write::DeletePod(pod.name(), pod.meta.uid.clone()));
        }
    }
}

/// A pod whose Node object is gone: nobody is left who would end it.
fn orphan(pod: &Pod, now: Timestamp, result: &mut Reconciled) {
    let known_since = after(pod.meta.created, ORPHAN_AGE);
    if now <= known_since {
        result.look_again(Timestamp(known_since.0.saturating_add(1)));
        return;
    }
    result.writes.push(Write::Delete {
        resource: events::pods(),
        meta: Box::new(pod.meta.clone()),
        grace_seconds: Some(0),
    });
}
