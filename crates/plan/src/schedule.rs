//! Which node a pod runs on.
//!
//! Nodes have no capacity here: a pod may run wherever it is allowed to, and is spread.

use std::collections::BTreeMap;

use model::{Cluster, Node, NodeCondition, NodeName, Pod, Reason, Uid, Write};

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
    let mut load = Load::of(cluster);
    for pod in cluster.pods.values().filter(|pod| is_waiting(pod)) {
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

/// How many pods each node has, altogether and by owner.
struct Load {
    pods: BTreeMap<NodeName, usize>,
    owned: BTreeMap<(Uid, NodeName), usize>,
}

impl Load {
    fn of(cluster: &Cluster) -> Self {
        let mut load = Self { pods: BTreeMap::new(), owned: BTreeMap::new() };
        for pod in cluster.pods.values().filter(|pod| !pod.phase.is_finished()) {
            if let Some(node) = &pod.node {
                load.add(pod, node);
            }
        }
        load
    }

    fn add(&mut self, pod: &Pod, node: &NodeName) {
        *self.pods.entry(node.clone()).or_insert(0) += 1;
        if let Some(owner) = pod.meta.controller() {
            *self.owned.entry((owner.uid.clone(), node.clone())).or_insert(0) += 1;
        }
    }

    fn rank(&self, pod: &Pod, node: &NodeName) -> (usize, usize) {
        let owned = pod
            .meta
            .controller()
            .and_then(|owner| self.owned.get(&(owner.uid.clone(), node.clone())).copied());
        (owned.unwrap_or(0), self.pods.get(node).copied().unwrap_or(0))
    }
}

fn choose(cluster: &Cluster, pod: &Pod, load: &Load) -> Result<NodeName, String> {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut allowed = Vec::new();
    for node in cluster.nodes.values() {
        match refusal(node, pod) {
            Some(reason) => *refusals.entry(reason).or_insert(0) += 1,
            None => allowed.push(&**node),
        }
    }
    let best = allowed.into_iter().min_by_key(|node| {
        (avoided(node, pod), load.rank(pod, &node.meta.name), node.meta.name.clone())
    });
    best.map(Node::name).ok_or_else(|| message(cluster.nodes.len(), &refusals))
}

/// Why a node does not take a pod, in the scheduler's words.
fn refusal(node: &Node, pod: &Pod) -> Option<String> {
    let untolerated = node.taints.iter().map(|text| Taint::parse(text)).find(|taint| {
        taint.forbids() && !pod.tolerations.iter().any(|text| taint.is_tolerated(text))
    });
    let selects = |(key, value): (&String, &String)| node.meta.labels.get(key) == Some(value);
    if node.unschedulable && !tolerates_unschedulable(pod) {
        Some("node(s) were unschedulable".to_owned())
    } else if let Some(taint) = untolerated {
        Some(format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value))
    } else if node.ready != NodeCondition::Ready {
        Some("node(s) were not ready".to_owned())
    } else if !pod.node_selector.iter().all(selects) {
        Some("node(s) didn't match Pod's node affinity/selector".to_owned())
    } else {
        None
    }
}

fn tolerates_unschedulable(pod: &Pod) -> bool {
    let taint = Taint { key: "node.kubernetes.io/unschedulable", value: "", effect: "NoSchedule" };
    pod.tolerations.iter().any(|text| taint.is_tolerated(text))
}

/// How many untolerated taints ask to stay away.
fn avoided(node: &Node, pod: &Pod) -> usize {
    let taints = node.taints.iter().map(|text| Taint::parse(text));
    let untolerated = taints.filter(|taint| {
        taint.effect == "PreferNoSchedule"
            && !pod.tolerations.iter().any(|text| taint.is_tolerated(text))
    });
    untolerated.count()
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

/// A taint, `key=value:effect`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taint<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
}

impl<'a> Taint<'a> {
    fn parse(text: &'a str) -> Self {
        let (rest, effect) = text.rsplit_once(':').unwrap_or((text, ""));
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        Self { key, value, effect }
    }

    fn forbids(&self) -> bool {
        matches!(self.effect, "NoSchedule" | "NoExecute")
    }

    /// Whether a toleration, `key=value:effect` or `key:effect`, covers this taint.
    fn is_tolerated(&self, toleration: &str) -> bool {
        let (rest, effect) = toleration.rsplit_once(':').unwrap_or((toleration, ""));
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        (effect.is_empty() || effect == self.effect)
            && (key.is_empty() || key == self.key && value.is_none_or(|value| value == self.value))
    }
}
