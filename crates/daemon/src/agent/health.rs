//! `/healthz` and `/livez` of the agent (semantics 4.10).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use jiff::Timestamp;
use model::{Cluster, NodeName};
use serde_json::json;

use crate::http::Answer;

/// Taint of a node that is about to be removed: it should get no new traffic.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What the health servers read and the loop writes.
#[derive(Debug)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A change that has not reached the kernel after this time makes the agent unhealthy.
    stale: Duration,
    /// When the oldest change arrived that the kernel does not have.
    pending: Option<Instant>,
    updated: Option<Timestamp>,
    node_eligible: bool,
}

impl Health {
    /// At the start the whole cluster is a change that the kernel does not have.
    ///
    /// A change may wait for twice the sync period, as upstream has it.
    pub(crate) fn new(sync_period: Duration) -> Self {
        let (pending, stale) = (Some(Instant::now()), sync_period * 2);
        let state = State { stale, pending, updated: None, node_eligible: false };
        Self { state: Mutex::new(state) }
    }

    /// A change has arrived.
    pub(crate) fn queued(&self, received: Instant) {
        self.with(|state| state.pending = state.pending.or(Some(received)));
    }

    /// The kernel has everything that has arrived.
    pub(crate) fn synced(&self) {
        self.with(|state| {
            state.pending = None;
            state.updated = Some(Timestamp::now());
        });
    }

    /// Looks at this node's Node object.
    pub(crate) fn see_node(&self, cluster: &Cluster, node: &NodeName) {
        let eligible = cluster.nodes.get(node).is_some_and(|node| {
            let tainted = |taint: &String| {
                taint.split(['=', ':']).next().is_some_and(|key| key == TO_BE_DELETED)
            };
            node.meta.deleting.is_none() && !node.taints.iter().any(tainted)
        });
        self.with(|state| state.node_eligible = eligible);
    }

    /// When the kernel was last brought up to date.
    pub(crate) fn updated(&self) -> Option<Timestamp> {
        self.with(|state| state.updated)
    }

    /// Whether changes reach the kernel.
    pub(crate) fn is_healthy(&self) -> bool {
        self.with(|state| state.is_healthy())
    }

    /// `/healthz`: may a load balancer send traffic here?
    pub(crate) fn healthz(&self) -> Answer {
        self.with(|state| state.answer(true))
    }

    /// `/livez`: does the agent do its work?
    pub(crate) fn livez(&self) -> Answer {
        self.with(|state| state.answer(false))
    }

    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_healthy(&self) -> bool {
        self.pending.is_none_or(|since| since.elapsed() < self.stale)
    }

    fn answer(&self, with_node: bool) -> Answer {
        let healthy = self.is_healthy() && (!with_node || self.node_eligible);
        let updated = self.updated.map_or_else(String::new, |time| time.to_string());
        let family = json!({ "lastUpdated": updated, "healthy": self.is_healthy() });
        let mut body = json!({
            "lastUpdated": updated,
            "currentTime": Timestamp::now().to_string(),
            "healthy": healthy,
            "status": { "IPv4": family, "IPv6": family },
        });
        if with_node {
            body["nodeEligible"] = self.node_eligible.into();
        }
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Answer::json(status, &body)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Change, Meta, Node, NodeCondition, Object};

    use super::*;

    fn node(taints: &[&str]) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.apply(Change::Apply(Object::Node(Arc::new(Node {
            meta: Meta::new("", "a"),
            internal_ips: Vec::new(),
            pod_cidrs: Vec::new(),
            unschedulable: false,
            taints: taints.iter().map(|&taint| taint.to_owned()).collect(),
            ready: NodeCondition::Ready,
            allocatable: Default::default(),
        }))));
        cluster
    }

    #[test]
    fn a_change_that_waits_too_long_is_unhealthy() {
        let health = Health::new(Duration::from_secs(30));
        assert!(health.is_healthy());
        health.synced();
        assert!(health.is_healthy());
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(60)) else {
            panic!("the machine has been up for less than a minute");
        };
        health.queued(long_ago);
        health.queued(Instant::now());
        assert!(!health.is_healthy());
        assert_eq!(health.livez().status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_node_that_is_missing_or_leaves_gets_no_traffic_but_lives() {
        let health = Health::new(Duration::from_secs(30));
        assert_eq!(health.healthz().status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.livez().status, StatusCode::OK);
        health.see_node(&node(&[]), &"a".into());
        assert_eq!(health.healthz().status, StatusCode::OK);
        health.see_node(&node(&["ToBeDeletedByClusterAutoscaler=1:NoSchedule"]), &"a".into());
        assert_eq!(health.healthz().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(health.healthz().body.contains("lastUpdated"));
    }
}
