//! Deployment and ReplicaSet, parsed as far as their controllers need.

use std::sync::Arc;

use crate::meta::{LabelSelector, Labels, Meta, Timestamp};
use crate::name::{DeploymentName, ReplicaSetName};

/// A pod template. Its body is opaque to decisions: only equality matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodTemplate {
    /// `template.metadata.labels`.
    pub labels: Labels,
    /// The whole template as canonical JSON text (keys sorted, no blanks).
    pub body: Arc<str>,
}

/// A Deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// Identity.
    pub meta: Meta,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: PodTemplate,
    /// `spec.strategy`.
    pub strategy: RolloutStrategy,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: u32,
    /// `spec.revisionHistoryLimit`.
    pub revision_history_limit: u32,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline_seconds: u32,
    /// `spec.paused`.
    pub paused: bool,
    /// `status`, as last written.
    pub status: DeploymentStatus,
}

impl Deployment {
    /// Its name.
    pub fn name(&self) -> DeploymentName {
        DeploymentName { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }
}

/// `spec.strategy`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RolloutStrategy {
    /// All old pods go before new ones come.
    Recreate,
    /// Old and new overlap within two bounds.
    RollingUpdate {
        /// How many may be missing; a percentage rounds down.
        max_unavailable: IntOrPercent,
        /// How many extra may exist; a percentage rounds up.
        max_surge: IntOrPercent,
    },
}

/// A count or a percentage of the replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntOrPercent {
    /// A count.
    Count(u32),
    /// Percent of `spec.replicas`.
    Percent(u32),
}

/// `Deployment.status`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeploymentStatus {
    /// `observedGeneration`.
    pub observed_generation: i64,
    /// `replicas`.
    pub replicas: u32,
    /// `updatedReplicas`.
    pub updated: u32,
    /// `readyReplicas`.
    pub ready: u32,
    /// `availableReplicas`.
    pub available: u32,
    /// Condition Available; `None` when absent.
    pub available_condition: Option<Condition>,
    /// Condition Progressing; `None` when absent.
    pub progressing_condition: Option<Condition>,
}

/// One `status.conditions` entry of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// `status`.
    pub status: ConditionStatus,
    /// `reason`, CamelCase.
    pub reason: String,
    /// `message`, for people.
    pub message: String,
    /// `lastUpdateTime`.
    pub updated: Timestamp,
    /// `lastTransitionTime`: when `status` last changed.
    pub since: Timestamp,
}

/// `status` of a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConditionStatus {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl ConditionStatus {
    /// The API's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A ReplicaSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaSet {
    /// Identity; the owner is its Deployment, if any.
    pub meta: Meta,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: PodTemplate,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: u32,
    /// `status`, as last written.
    pub status: ReplicaSetStatus,
}

impl ReplicaSet {
    /// Its name.
    pub fn name(&self) -> ReplicaSetName {
        ReplicaSetName { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }
}

/// `ReplicaSet.status`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicaSetStatus {
    /// `observedGeneration`.
    pub observed_generation: i64,
    /// `replicas`.
    pub replicas: u32,
    /// `fullyLabeledReplicas`.
    pub fully_labeled: u32,
    /// `readyReplicas`.
    pub ready: u32,
    /// `availableReplicas`.
    pub available: u32,
}
