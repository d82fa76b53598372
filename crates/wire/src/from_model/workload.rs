//! Deployments and ReplicaSets.

use model::{
    Condition, DeploymentName, DeploymentStatus, ReplicaSet, ReplicaSetName, ReplicaSetStatus, Uid,
};
use serde_json::{Map, Value, json};

use super::{Call, meta, path, pod};

/// Creates a ReplicaSet.
pub(super) fn create_replica_set(replica_set: &ReplicaSet) -> Call {
    let mut spec = json!({
        "replicas": replica_set.replicas, "selector": meta::selector(&replica_set.selector),
        "template": pod::template_body(&replica_set.template),
    });
    if replica_set.min_ready_seconds != 0 {
        spec["minReadySeconds"] = replica_set.min_ready_seconds.into();
    }
    let body = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": meta::metadata(&replica_set.meta), "spec": spec,
    });
    Call::post(path("apps", "v1", &replica_set.meta.namespace, "replicasets", ""), body)
}

/// Changes size, minReadySeconds and annotations of a ReplicaSet.
pub(super) fn scale(
    name: &ReplicaSetName,
    uid: &Uid,
    (replicas, min_ready_seconds): (u32, u32),
    annotations: &[(String, String)],
) -> Call {
    let mut metadata = json!({ "uid": uid.as_str() });
    if !annotations.is_empty() {
        let annotations: Map<String, Value> =
            annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        metadata["annotations"] = annotations.into();
    }
    let body = json!({
        "metadata": metadata,
        "spec": { "replicas": replicas, "minReadySeconds": counted(min_ready_seconds) },
    });
    Call::merge(path("apps", "v1", &name.namespace, "replicasets", &name.name), body)
}

/// Writes the status of a ReplicaSet.
pub(super) fn replica_set_status(name: &ReplicaSetName, status: &ReplicaSetStatus) -> Call {
    let body = json!({ "status": {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "fullyLabeledReplicas": counted(status.fully_labeled),
        "readyReplicas": counted(status.ready),
        "availableReplicas": counted(status.available),
    }});
    let object = path("apps", "v1", &name.namespace, "replicasets", &name.name);
    Call::strategic(format!("{object}/status"), body)
}

/// Writes the status and the revision of a Deployment. Conditions of other types stay.
pub(super) fn deployment_status(
    name: &DeploymentName,
    status: &DeploymentStatus,
    revision: u64,
) -> Call {
    let conditions: Vec<Value> = [
        ("Available", &status.available_condition),
        ("Progressing", &status.progressing_condition),
    ]
    .into_iter()
    .filter_map(|(kind, state)| state.as_ref().map(|state| condition(kind, state)))
    .collect();
    let missing = status.replicas.saturating_sub(status.available);
    let mut fields = json!({
        "observedGeneration": status.observed_generation,
        "replicas": counted(status.replicas),
        "updatedReplicas": counted(status.updated),
        "readyReplicas": counted(status.ready),
        "availableReplicas": counted(status.available),
        "unavailableReplicas": counted(missing),
    });
    if !conditions.is_empty() {
        fields["conditions"] = conditions.into();
    }
    let body = json!({
        "metadata": { "annotations": { REVISION: revision.to_string() } },
        "status": fields,
    });
    let object = path("apps", "v1", &name.namespace, "deployments", &name.name);
    Call::strategic(format!("{object}/status"), body)
}

/// A count of 0 is left out, as Go does; in a patch that means `null`.
fn counted(count: u32) -> Value {
    if count == 0 { Value::Null } else { count.into() }
}

fn condition(kind: &str, condition: &Condition) -> Value {
    json!({
        "type": kind, "status": condition.status.as_str(), "reason": condition.reason,
        "message": condition.message, "lastUpdateTime": meta::time(condition.updated),
        "lastTransitionTime": meta::time(condition.since),
    })
}

const REVISION: &str = "deployment.kubernetes.io/revision";
