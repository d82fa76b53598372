//! Deployments and ReplicaSets.

use serde_json::Value;

use super::{created, labels, name};
use crate::rules::fields::Fields;

pub(in crate::kinds) fn deployment(deployment: &Value, now: i64) -> Vec<Value> {
    let ready = deployment.int("/status/readyReplicas");
    let wanted = deployment.int("/spec/replicas");
    let mut cells = vec![
        name(deployment),
        format!("{ready}/{wanted}").into(),
        deployment.int("/status/updatedReplicas").into(),
        deployment.int("/status/availableReplicas").into(),
        created(deployment, now),
    ];
    cells.extend(template(deployment));
    cells
}

pub(in crate::kinds) fn replica_set(replica_set: &Value, now: i64) -> Vec<Value> {
    let mut cells = vec![
        name(replica_set),
        replica_set.int("/spec/replicas").into(),
        replica_set.int("/status/replicas").into(),
        replica_set.int("/status/readyReplicas").into(),
        created(replica_set, now),
    ];
    cells.extend(template(replica_set));
    cells
}

/// Containers, images and selector.
fn template(workload: &Value) -> [Value; 3] {
    let containers = workload.list("/spec/template/spec/containers");
    let joined = |field: &str| -> Value {
        let texts: Vec<&str> = containers.iter().map(|container| container.text(field)).collect();
        texts.join(",").into()
    };
    [joined("/name"), joined("/image"), selector(workload).into()]
}

fn selector(workload: &Value) -> String {
    let expressions = workload.list("/spec/selector/matchExpressions");
    let equal = labels(workload, "/spec/selector/matchLabels");
    if expressions.is_empty() {
        return equal;
    }
    let shown = |expression: &Value| {
        let (key, values) = (expression.text("/key"), expression.texts("/values").join(","));
        match expression.text("/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    };
    let equal = (workload.map("/spec/selector/matchLabels").next().is_some()).then_some(equal);
    equal.into_iter().chain(expressions.iter().map(shown)).collect::<Vec<_>>().join(",")
}
