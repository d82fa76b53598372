//! Which node a pod runs on.
//!
//! ```text
//!  cordoned? ─ taints ─ ready? ─ node affinity ─ ports ─ resources ─ spread ─ pod affinity
//!                                                     └─ of the nodes left, the emptiest
//! ```
//!
//! What it is not: nobody is evicted to make room, and preferences other than of taints
//! (`preferredDuringScheduling...`, `ScheduleAnyway`) are not weighed.

mod load;
mod neighbours;
mod taint;

use std::collections::BTreeMap;

use model::{Cluster, Node, NodeCondition, NodeName, Pod, Reason, Write};

use self::load::Load;
use self::neighbours::Neighbours;
use crate::Reconciled;
use crate::events::Reporter;

const REPORTER: Reporter =
    Reporter { api_version: "v1", kind: "Pod", component: "default-scheduler" };

/// Binds every pod that has no node and can run somewhere; says of the others why they cannot.
///
/// Among the allowed nodes the one with the fewest pods of the same owner wins, then the one with the
/// fewest pods, then the first by name. Nodes that would rather not (`PreferNoSchedule`) come last.
pub fn schedule(cluster: &Cluster) -> Reconciled {
    let mut result = Reconciled::default();
    let mut waiting = cluster.pods.values().filter(|pod| is_waiting(pod)).peekable();
    if waiting.peek().is_none() {
        return result;
    }
    let mut load = Load::of(cluster);
    for pod in waiting {
        match choose(cluster, pod, &load) {
            Ok(node) => {
                load.add(pod, &node);
                let text = format!("Successfully assigned {} to {node}", pod.name());
                result.writes.push(Write::BindPod(pod.name(), pod.meta.uid.clone(), node));
                result.writes.push(REPORTER.normal(&pod.meta, "Scheduled", text));
            }
            Err(message) => {
                result.report.push(Reason::Other(format!("pod {}: {message}", pod.name())));
                if pod.unschedulable.as_ref() == Some(&message) {
                    continue;
                }
                let uid = pod.meta.uid.clone();
                let text = message.clone();
                result.writes.push(Write::PodUnschedulable(pod.name(), uid, message));
                result.writes.push(REPORTER.warning(&pod.meta, "FailedScheduling", text));
            }
        }
    }
    result
}

fn is_waiting(pod: &Pod) -> bool {
    pod.node.is_none() && pod.meta.deleting.is_none() && !pod.phase.is_finished()
}

fn choose(cluster: &Cluster, pod: &Pod, load: &Load<'_>) -> Result<NodeName, String> {
    let neighbours = Neighbours::of(cluster, pod, load);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut allowed = Vec::new();
    for node in cluster.nodes.values() {
        let reasons = refusals(node, pod, load, &neighbours);
        if reasons.is_empty() {
            allowed.push(&**node);
        }
        for reason in reasons {
            *refused.entry(reason).or_insert(0) += 1;
        }
    }
    let best = allowed.into_iter().min_by_key(|node| {
        (taint::avoided(node, pod), load.rank(pod, &node.meta.name), node.meta.name.clone())
    });
    best.map(Node::name).ok_or_else(|| message(cluster.nodes.len(), &refused))
}

/// Why a node does not take a pod, in the scheduler's words: the first reason, or all resources
/// that do not suffice.
fn refusals(node: &Node, pod: &Pod, load: &Load<'_>, neighbours: &Neighbours<'_>) -> Vec<String> {
    let one = |reason: &str| vec![reason.to_owned()];
    if node.unschedulable && !taint::tolerates_unschedulable(pod) {
        return one("node(s) were unschedulable");
    }
    if let Some(taint) = taint::untolerated(node, pod) {
        return vec![format!("node(s) had untolerated taint {taint}")];
    }
    if node.ready != NodeCondition::Ready {
        return one("node(s) were not ready");
    }
    if !is_selected(node, pod) {
        return one("node(s) didn't match Pod's node affinity/selector");
    }
    if !load.has_ports(pod, &node.meta.name) {
        return one("node(s) didn't have free ports for the requested pod ports");
    }
    let lacks = load.lacks(pod, node);
    if !lacks.is_empty() {
        return lacks;
    }
    neighbours.refusal(node).map(one).unwrap_or_default()
}

/// Whether the pod's node selector and required node affinity name the node.
fn is_selected(node: &Node, pod: &Pod) -> bool {
    let (name, labels) = (&node.meta.name, &node.meta.labels);
    let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    let terms = pod.placement.node_affinity.as_ref();
    pod.placement.node_selector.iter().all(has)
        && terms.is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
}

fn message(nodes: usize, refusals: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut reasons: Vec<String> =
        refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}
