//! What pods demand of each other: affinity, anti-affinity, and to be spread.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cluster, LabelSelector, Node, Pod, PodTerm, SpreadConstraint};

use super::is_selected;
use super::load::Load;

/// A label of nodes and its value: the nodes that have it.
type Place = (String, String);

/// Where the other pods let a pod run.
pub(super) struct Neighbours<'a> {
    pod: &'a Pod,
    /// Places with a pod that satisfies all terms of the affinity.
    near: BTreeSet<Place>,
    /// Nobody satisfies the affinity but the pod itself: the first of its kind may run anywhere.
    is_first: bool,
    /// Places with a pod that the anti-affinity names.
    away: BTreeSet<Place>,
    /// Places with a pod whose anti-affinity names this one.
    unwanted: BTreeSet<Place>,
    spread: Vec<Spread<'a>>,
}

/// The pods that a constraint counts, by value of its label.
struct Spread<'a> {
    constraint: &'a SpreadConstraint,
    counts: BTreeMap<&'a str, u32>,
    /// In the place that has the fewest.
    least: u32,
    /// 1 when the pod counts itself.
    own: u32,
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(cluster: &'a Cluster, pod: &'a Pod, load: &Load<'a>) -> Self {
        let (affinity, anti) = (&pod.placement.affinity, &pod.placement.anti_affinity);
        let (mut near, mut away, mut unwanted) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for node in cluster.nodes.values() {
            let place = |term: &PodTerm| place(term, node);
            for other in load.pods(&node.meta.name) {
                let names = |term: &&PodTerm| names(cluster, term, pod, other);
                if affinity.iter().all(|term| names(&term)) {
                    near.extend(affinity.iter().filter_map(place));
                }
                away.extend(anti.iter().filter(names).filter_map(place));
                let theirs = other.placement.anti_affinity.iter();
                let refusing = theirs.filter(|term| self::names(cluster, term, other, pod));
                unwanted.extend(refusing.filter_map(place));
            }
        }
        let is_first =
            near.is_empty() && affinity.iter().all(|term| names(cluster, term, pod, pod));
        let spread = pod.placement.spread.iter();
        let spread = spread.map(|constraint| Spread::of(cluster, pod, load, constraint)).collect();
        Self { pod, near, is_first, away, unwanted, spread }
    }

    /// Why a node is not where the pod may run, in the scheduler's words.
    pub(super) fn refusal(&self, node: &Node) -> Option<&'static str> {
        if let Some(refusal) = self.spread.iter().find_map(|spread| spread.refusal(node)) {
            return Some(refusal);
        }
        let is_near = |term: &PodTerm| {
            place(term, node).is_some_and(|place| self.is_first || self.near.contains(&place))
        };
        let is_in = |places: &BTreeSet<Place>| {
            places.iter().any(|(label, value)| node.meta.labels.get(label) == Some(value))
        };
        if !self.pod.placement.affinity.iter().all(is_near) {
            Some("node(s) didn't match pod affinity rules")
        } else if is_in(&self.away) {
            Some("node(s) didn't match pod anti-affinity rules")
        } else if is_in(&self.unwanted) {
            Some("node(s) didn't satisfy existing pods anti-affinity rules")
        } else {
            None
        }
    }
}

impl<'a> Spread<'a> {
    /// Counts on the nodes that the pod could choose and that have the labels of all constraints.
    fn of(
        cluster: &'a Cluster,
        pod: &Pod,
        load: &Load<'a>,
        constraint: &'a SpreadConstraint,
    ) -> Self {
        let mut counts = BTreeMap::new();
        let labelled = |node: &Node| {
            let mut all = pod.placement.spread.iter();
            all.all(|constraint| node.meta.labels.contains_key(&constraint.topology_key))
        };
        for node in cluster.nodes.values().filter(|node| labelled(node) && is_selected(node, pod)) {
            let Some(value) = node.meta.labels.get(&constraint.topology_key) else { continue };
            let same = load.pods(&node.meta.name).iter().filter(|other| {
                other.meta.namespace == pod.meta.namespace
                    && other.meta.deleting.is_none()
                    && selects(constraint.selector.as_ref(), other)
            });
            let count = u32::try_from(same.count()).unwrap_or(u32::MAX);
            let sum = counts.entry(value.as_str()).or_insert(0_u32);
            *sum = sum.saturating_add(count);
        }
        let is_enough =
            counts.len() >= usize::try_from(constraint.min_domains).unwrap_or(usize::MAX);
        let least = counts.values().copied().min().filter(|_| is_enough).unwrap_or(0);
        let own = u32::from(selects(constraint.selector.as_ref(), pod));
        Self { constraint, counts, least, own }
    }

    fn refusal(&self, node: &Node) -> Option<&'static str> {
        let Some(value) = node.meta.labels.get(&self.constraint.topology_key) else {
            return Some(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            );
        };
        let here = self.counts.get(value.as_str()).copied().unwrap_or(0).saturating_add(self.own);
        (here.saturating_sub(self.least) > self.constraint.max_skew)
            .then_some("node(s) didn't match pod topology spread constraints")
    }
}

fn place(term: &PodTerm, node: &Node) -> Option<Place> {
    let value = node.meta.labels.get(&term.topology_key)?;
    Some((term.topology_key.clone(), value.clone()))
}

/// Whether a term of one pod names another one.
fn names(cluster: &Cluster, term: &PodTerm, owner: &Pod, other: &Pod) -> bool {
    let namespace = &other.meta.namespace;
    let by_labels = |selector: &LabelSelector| {
        let known = cluster.namespaces.get(namespace);
        known.is_some_and(|namespace| selector.matches(&namespace.meta.labels))
            || *selector == LabelSelector::default()
    };
    let in_namespace = match &term.namespace_selector {
        None if term.namespaces.is_empty() => *namespace == owner.meta.namespace,
        selector => term.namespaces.contains(namespace) || selector.as_ref().is_some_and(by_labels),
    };
    in_namespace && selects(term.selector.as_ref(), other)
}

fn selects(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    selector.is_some_and(|selector| selector.matches(&pod.meta.labels))
}
