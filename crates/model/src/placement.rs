//! Where a pod may run: what it asks for, and what it demands of nodes and of other pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address::{Port, Protocol};
use crate::meta::{LabelSelector, Labels};
use crate::name::{Name, NamespaceName};

/// Amounts of resources by name (`cpu`, `memory`, `example.com/gpu`), in thousandths of their unit.
pub type Resources = BTreeMap<Name, u64>;

/// The parts of `Pod.spec` that only scheduling looks at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// `spec.nodeSelector`.
    pub node_selector: Labels,
    /// `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`: one of these
    /// terms must match. `None` demands nothing, an empty list matches no node.
    pub node_affinity: Option<Vec<NodeTerm>>,
    /// Required terms of `spec.affinity.podAffinity`.
    pub affinity: Vec<PodTerm>,
    /// Required terms of `spec.affinity.podAntiAffinity`.
    pub anti_affinity: Vec<PodTerm>,
    /// `spec.topologySpreadConstraints` that forbid (`whenUnsatisfiable: DoNotSchedule`).
    pub spread: Vec<SpreadConstraint>,
    /// What the containers request together; the largest init container counts when it asks for
    /// more (KEP-753).
    pub requests: Resources,
    /// Ports of the node that containers take.
    pub host_ports: BTreeSet<HostPort>,
}

/// A `nodeSelectorTerm`: all its requirements must hold, and one without any never matches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeTerm {
    /// `matchExpressions`, about labels.
    pub labels: Vec<NodeRequirement>,
    /// `matchFields`; the only field is `metadata.name`.
    pub fields: Vec<NodeRequirement>,
}

/// One requirement of a [`NodeTerm`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeRequirement {
    /// `In`: the label is one of the values.
    In(String, BTreeSet<String>),
    /// `NotIn`: the label is absent or none of the values.
    NotIn(String, BTreeSet<String>),
    /// `Exists`.
    Exists(String),
    /// `DoesNotExist`.
    DoesNotExist(String),
    /// `Gt`: the label is a larger integer.
    Gt(String, i64),
    /// `Lt`: the label is a smaller integer.
    Lt(String, i64),
}

/// A `podAffinityTerm`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodTerm {
    /// Which pods are meant; `None` means none.
    pub selector: Option<LabelSelector>,
    /// In which Namespaces; empty means the pod's own.
    pub namespaces: BTreeSet<NamespaceName>,
    /// `namespaceSelector`: further Namespaces by their labels. The empty selector means all.
    pub namespace_selector: Option<LabelSelector>,
    /// Nodes that agree in this label are one place.
    pub topology_key: String,
}

/// A `topologySpreadConstraint`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpreadConstraint {
    /// By how many pods places may differ.
    pub max_skew: u32,
    /// Fewer places than this count as if there were an empty one.
    pub min_domains: u32,
    /// Nodes that agree in this label are one place.
    pub topology_key: String,
    /// Which pods of the Namespace are counted; `None` means none.
    pub selector: Option<LabelSelector>,
}

/// A port of the node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPort {
    /// On this address only; `None` on all.
    pub address: Option<IpAddr>,
    /// Transport.
    pub protocol: Protocol,
    /// Number.
    pub port: Port,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same_address && (self.protocol, self.port) == (other.protocol, other.port)
    }
}

impl NodeTerm {
    /// Whether a node with this name and these labels satisfies the term.
    pub fn matches(&self, name: &Name, labels: &Labels) -> bool {
        let fields = Labels::from([("metadata.name".to_owned(), name.to_string())]);
        let is_empty = self.labels.is_empty() && self.fields.is_empty();
        !is_empty
            && self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| requirement.matches(&fields))
    }
}

impl NodeRequirement {
    fn matches(&self, labels: &Labels) -> bool {
        let number = |key: &String| labels.get(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Gt(key, bound) => number(key).is_some_and(|value| value > *bound),
            Self::Lt(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}
