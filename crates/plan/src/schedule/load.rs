//! What the pods of each node take.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cluster, HostPort, Name, Node, NodeName, Pod, Resources, Uid};

/// The pods that are bound, those of this very round included.
pub(super) struct Load<'a> {
    nodes: BTreeMap<NodeName, Here<'a>>,
    owned: BTreeMap<(Uid, NodeName), usize>,
}

/// The pods of one node.
#[derive(Default)]
struct Here<'a> {
    pods: Vec<&'a Pod>,
    requests: Resources,
    ports: BTreeSet<&'a HostPort>,
}

impl<'a> Load<'a> {
    /// A pod that has finished takes nothing any more.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut load = Self { nodes: BTreeMap::new(), owned: BTreeMap::new() };
        for pod in cluster.pods.values().filter(|pod| !pod.phase.is_finished()) {
            if let Some(node) = &pod.node {
                load.add(pod, node);
            }
        }
        load
    }

    pub(super) fn add(&mut self, pod: &'a Pod, node: &NodeName) {
        let here = self.nodes.entry(node.clone()).or_default();
        here.pods.push(pod);
        here.ports.extend(&pod.placement.host_ports);
        for (name, amount) in &pod.placement.requests {
            let sum = here.requests.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
        if let Some(owner) = pod.meta.controller() {
            *self.owned.entry((owner.uid.clone(), node.clone())).or_insert(0) += 1;
        }
    }

    /// The pods of a node.
    pub(super) fn pods(&self, node: &NodeName) -> &[&'a Pod] {
        self.nodes.get(node).map_or(&[], |here| &here.pods)
    }

    /// Pods of the same owner, and all pods: fewer are better.
    pub(super) fn rank(&self, pod: &Pod, node: &NodeName) -> (usize, usize) {
        let owned = pod
            .meta
            .controller()
            .and_then(|owner| self.owned.get(&(owner.uid.clone(), node.clone())).copied());
        (owned.unwrap_or(0), self.pods(node).len())
    }

    /// Whether the ports of the node that a pod wants are free.
    pub(super) fn has_ports(&self, pod: &Pod, node: &NodeName) -> bool {
        let taken = self.nodes.get(node).map(|here| &here.ports);
        let mut taken = taken.into_iter().flatten();
        taken.all(|taken| !pod.placement.host_ports.iter().any(|port| port.conflicts_with(taken)))
    }

    /// Which resources of a node do not suffice, in the scheduler's words.
    pub(super) fn lacks(&self, pod: &Pod, node: &Node) -> Vec<String> {
        let name = node.name();
        let mut lacks = Vec::new();
        let pods = (self.pods(&name).len() as u64 + 1).saturating_mul(1000);
        if room(node, &"pods".into()) < pods {
            lacks.push("Too many pods".to_owned());
        }
        for (resource, wanted) in pod.placement.requests.iter().filter(|(_, wanted)| **wanted > 0) {
            let taken = self.nodes.get(&name).and_then(|here| here.requests.get(resource));
            if room(node, resource) < wanted.saturating_add(taken.copied().unwrap_or(0)) {
                lacks.push(format!("Insufficient {resource}"));
            }
        }
        lacks
    }
}

/// A node that does not state how much of the usual resources it has is taken to have enough; of
/// any other resource it has none.
fn room(node: &Node, resource: &Name) -> u64 {
    let usual = ["cpu", "memory", "ephemeral-storage", "pods"].contains(&&**resource);
    node.allocatable.get(resource).copied().unwrap_or(if usual { u64::MAX } else { 0 })
}
