//! `Deployment.status`: counts and conditions.

use model::{
    Condition, ConditionStatus, Deployment, DeploymentStatus, Name, ReplicaSet, Timestamp, Write,
};

use crate::Reconciled;
use crate::deployment::revision;
use crate::rollout::{available, bounds};
use crate::time::after;

/// `progressDeadlineSeconds` that means "none".
const NO_DEADLINE: u32 = i32::MAX as u32;
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The ReplicaSets of a Deployment.
#[derive(Clone, Copy)]
pub(crate) struct Sets<'a> {
    /// The one with the present template.
    pub(crate) new: Option<&'a ReplicaSet>,
    /// All others.
    pub(crate) old: &'a [&'a ReplicaSet],
}

/// What the rollout just did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Step {
    /// The revision of the present template.
    pub(crate) revision: u64,
    /// The ReplicaSet that is being created.
    pub(crate) created: Option<Name>,
}

/// Writes status and revision where they differ, and says when the deadline has to be looked at.
pub(crate) fn write(
    deployment: &Deployment,
    sets: Sets<'_>,
    step: &Step,
    now: Timestamp,
    result: &mut Reconciled,
) {
    let now = whole_seconds(now);
    let mut status = counts(deployment, sets);
    status.available_condition = set(
        deployment.status.available_condition.as_ref(),
        available_condition(deployment, &status, now),
    );
    let old = deployment.status.progressing_condition.as_ref();
    let progressing = match deployment.progress_deadline_seconds {
        NO_DEADLINE => None,
        _ => progressing_condition(deployment, sets, &status, step, now),
    };
    status.progressing_condition = match progressing {
        Some(condition) => set(old, condition),
        None if deployment.progress_deadline_seconds == NO_DEADLINE => None,
        None => old.cloned(),
    };
    if let Some(deadline) = deadline(deployment, &status) {
        result.look_again(after(deadline, 1));
    }
    let revision_differs = step.revision > 0 && revision(&deployment.meta) != step.revision;
    if status != deployment.status || revision_differs {
        let revision = if step.revision > 0 { step.revision } else { revision(&deployment.meta) };
        let name = deployment.name();
        result.writes.push(Write::DeploymentStatus { name, status, revision });
    }
}

/// Whether every pod is of the present template and available.
pub(crate) fn is_complete(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
) -> bool {
    all_available(deployment, &counts(deployment, Sets { new, old }))
}

fn all_available(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.replicas;
    [status.replicas, status.updated, status.available] == [wanted; 3]
        && status.observed_generation >= deployment.meta.generation
}

fn counts(deployment: &Deployment, sets: Sets<'_>) -> DeploymentStatus {
    let all = || sets.old.iter().copied().chain(sets.new);
    DeploymentStatus {
        observed_generation: deployment.meta.generation,
        replicas: all().map(|set| set.status.replicas).sum(),
        updated: sets.new.map_or(0, |new| new.status.replicas),
        ready: all().map(|set| set.status.ready).sum(),
        available: available(all()),
        available_condition: None,
        progressing_condition: None,
    }
}

fn available_condition(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Condition {
    if status.available >= deployment.replicas - bounds(deployment).unavailable {
        let message = "Deployment has minimum availability.".to_owned();
        condition(ConditionStatus::True, "MinimumReplicasAvailable", message, now)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition(ConditionStatus::False, "MinimumReplicasUnavailable", message, now)
    }
}

/// The next Progressing condition; `None` leaves the old one.
fn progressing_condition(
    deployment: &Deployment,
    sets: Sets<'_>,
    status: &DeploymentStatus,
    step: &Step,
    now: Timestamp,
) -> Option<Condition> {
    let old = deployment.status.progressing_condition.as_ref();
    let old_reason = old.map_or("", |old| old.reason.as_str());
    let unknown = |reason, text: &str| {
        Some(condition(ConditionStatus::Unknown, reason, text.to_owned(), now))
    };
    let good = |reason, text| Some(condition(ConditionStatus::True, reason, text, now));
    if deployment.paused {
        let keeps = [PAUSED, TIMED_OUT].contains(&old_reason);
        return if keeps { None } else { unknown(PAUSED, "Deployment is paused") };
    }
    if old_reason == PAUSED {
        return unknown("DeploymentResumed", "Deployment is resumed");
    }
    if let Some(created) = &step.created {
        return good("NewReplicaSetCreated", format!("Created new replica set \"{created}\""));
    }
    if status.replicas == status.updated && old_reason == COMPLETE {
        return None;
    }
    let subject = match sets.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.meta.name),
        None => format!("Deployment \"{}\"", deployment.meta.name),
    };
    if all_available(deployment, status) {
        return good(COMPLETE, format!("{subject} has successfully progressed."));
    }
    if has_moved(&deployment.status, status) {
        return good("ReplicaSetUpdated", format!("{subject} is progressing."));
    }
    if is_late(deployment, now) {
        let text = format!("{subject} has timed out progressing.");
        return Some(condition(ConditionStatus::False, TIMED_OUT, text, now));
    }
    match (old, sets.new) {
        (None, Some(new)) => {
            good("FoundNewReplicaSet", format!("Found new replica set \"{}\"", new.meta.name))
        }
        _ => None,
    }
}

/// Whether there are more new pods, fewer old ones, or more that work.
fn has_moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |status: &DeploymentStatus| status.replicas.saturating_sub(status.updated);
    new.updated > old.updated
        || outdated(new) < outdated(old)
        || new.ready > old.ready
        || new.available > old.available
}

fn is_late(deployment: &Deployment, now: Timestamp) -> bool {
    let Some(old) = &deployment.status.progressing_condition else { return false };
    match old.reason.as_str() {
        TIMED_OUT => true,
        COMPLETE => false,
        _ => after(old.updated, deployment.progress_deadline_seconds) < now,
    }
}

/// When the rollout is late if nothing happens until then.
fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let condition = status.progressing_condition.as_ref()?;
    let waits = !deployment.paused
        && condition.reason != TIMED_OUT
        && condition.reason != COMPLETE
        && !all_available(deployment, status);
    waits.then(|| after(condition.updated, deployment.progress_deadline_seconds))
}

fn condition(status: ConditionStatus, reason: &str, message: String, now: Timestamp) -> Condition {
    Condition { status, reason: reason.to_owned(), message, updated: now, since: now }
}

/// Replaces a condition: the time of the last transition stays while the status does, and with the
/// same reason nothing changes at all, but that a rollout which moves is given new time.
fn set(old: Option<&Condition>, new: Condition) -> Option<Condition> {
    let Some(old) = old.filter(|old| old.status == new.status) else { return Some(new) };
    if old.reason == new.reason && old.reason != "ReplicaSetUpdated" {
        return Some(old.clone());
    }
    Some(Condition { since: old.since, ..new })
}

/// The API keeps condition times in whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp(time.0 - time.0.rem_euclid(1_000_000))
}
