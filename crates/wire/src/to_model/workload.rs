//! Deployments and ReplicaSets.

use model::{
    Condition, ConditionStatus, Deployment, DeploymentStatus, IntOrPercent, LabelSelector,
    PodTemplate, ReplicaSet, ReplicaSetStatus, RolloutStrategy,
};
use serde_json::Value;

use super::{Rejected, meta, parse, rejected};
use crate::rules::fields::Fields;
use crate::rules::workload::{labels, selector};

/// A defaulted Deployment.
pub(super) fn deployment(value: &Value) -> Result<Deployment, Rejected> {
    Ok(Deployment {
        meta: meta(value)?,
        replicas: count(value, "/spec/replicas"),
        selector: understood(value)?,
        template: template(value),
        strategy: strategy(value),
        min_ready_seconds: count(value, "/spec/minReadySeconds"),
        revision_history_limit: count(value, "/spec/revisionHistoryLimit"),
        progress_deadline_seconds: count(value, "/spec/progressDeadlineSeconds"),
        paused: value.flag("/spec/paused"),
        status: DeploymentStatus {
            observed_generation: value.int("/status/observedGeneration"),
            replicas: count(value, "/status/replicas"),
            updated: count(value, "/status/updatedReplicas"),
            ready: count(value, "/status/readyReplicas"),
            available: count(value, "/status/availableReplicas"),
            available_condition: condition(value, "Available"),
            progressing_condition: condition(value, "Progressing"),
        },
    })
}

/// A defaulted ReplicaSet.
pub(super) fn replica_set(value: &Value) -> Result<ReplicaSet, Rejected> {
    Ok(ReplicaSet {
        meta: meta(value)?,
        replicas: count(value, "/spec/replicas"),
        selector: understood(value)?,
        template: template(value),
        min_ready_seconds: count(value, "/spec/minReadySeconds"),
        status: ReplicaSetStatus {
            observed_generation: value.int("/status/observedGeneration"),
            replicas: count(value, "/status/replicas"),
            fully_labeled: count(value, "/status/fullyLabeledReplicas"),
            ready: count(value, "/status/readyReplicas"),
            available: count(value, "/status/availableReplicas"),
        },
    })
}

/// A selector that is misread could match pods of others: it is refused instead.
fn understood(value: &Value) -> Result<LabelSelector, Rejected> {
    let selector = selector(value.at("/spec/selector"))
        .ok_or_else(|| rejected(value, "spec.selector has an unknown operator"))?;
    if selector == LabelSelector::default() {
        return Err(rejected(value, "spec.selector is empty and would match every pod"));
    }
    Ok(selector)
}

fn template(value: &Value) -> PodTemplate {
    let template = value.at("/spec/template");
    PodTemplate {
        labels: labels(template.at("/metadata/labels")),
        body: sorted(template).to_string().into(),
    }
}

/// The same value with the keys of every object in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            pairs.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        value => value.clone(),
    }
}

fn strategy(value: &Value) -> RolloutStrategy {
    if value.text("/spec/strategy/type") == "Recreate" {
        return RolloutStrategy::Recreate;
    }
    let bound = |field: &str| {
        let value = value.at(&format!("/spec/strategy/rollingUpdate/{field}"));
        int_or_percent(value).unwrap_or(IntOrPercent::Percent(25))
    };
    RolloutStrategy::RollingUpdate {
        max_unavailable: bound("maxUnavailable"),
        max_surge: bound("maxSurge"),
    }
}

fn int_or_percent(value: &Value) -> Option<IntOrPercent> {
    match value {
        Value::String(text) => text.strip_suffix('%')?.parse().ok().map(IntOrPercent::Percent),
        number => u32::try_from(number.as_i64()?).ok().map(IntOrPercent::Count),
    }
}

fn condition(value: &Value, kind: &str) -> Option<Condition> {
    let condition = parse::condition(value, kind)?;
    Some(Condition {
        status: match condition.text("/status") {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        },
        reason: condition.text("/reason").to_owned(),
        message: condition.text("/message").to_owned(),
        updated: parse::time(condition.text("/lastUpdateTime")).unwrap_or_default(),
        since: parse::time(condition.text("/lastTransitionTime")).unwrap_or_default(),
    })
}

/// A count; negative and absent are 0.
fn count(value: &Value, pointer: &str) -> u32 {
    u32::try_from(value.int(pointer)).unwrap_or(0)
}
