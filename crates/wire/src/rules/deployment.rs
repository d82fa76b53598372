//! `apps/v1` Deployment.

use serde_json::{Value, json};

use super::error::{forbidden, invalid, not_supported, required};
use super::fields::{self, Fields, same, set};
use super::workload;
use crate::kinds::Env;
use crate::status::FieldError;

/// Fills replicas, strategy, limits and the template.
pub(crate) fn default(deployment: &mut Value, _: &Env) {
    workload::default(deployment);
    fields::default(deployment, "/spec/strategy/type", "RollingUpdate");
    if deployment.text("/spec/strategy/type") == "RollingUpdate" {
        for field in ["maxUnavailable", "maxSurge"] {
            fields::default(deployment, &format!("/spec/strategy/rollingUpdate/{field}"), "25%");
        }
    }
    for (field, value) in [("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)] {
        let pointer = format!("/spec/{field}");
        if !deployment.has(&pointer) {
            set(deployment, &pointer, value);
        }
    }
    if !deployment.has("/status") {
        set(deployment, "/status", json!({}));
    }
}

/// A new Deployment has no status.
pub(crate) fn prepare_create(deployment: &mut Value, _: &Env) {
    workload::prepare_create(deployment);
}

/// Raises the generation for changes of the spec and of annotations.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    let changed = ["/spec", "/metadata/annotations"]
        .iter()
        .any(|pointer| !same(new.at(pointer), old.at(pointer)));
    workload::prepare_update(new, old, changed);
}

/// All errors of a new Deployment.
pub(crate) fn validate_create(deployment: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = workload::validate(deployment, "deployment");
    errors.extend(validate_strategy(deployment));
    let limit = "/spec/revisionHistoryLimit";
    errors.extend(workload::not_negative(deployment, limit, "spec.revisionHistoryLimit"));
    if let Some(seconds) = deployment.at("/spec/progressDeadlineSeconds").as_i64() {
        let field = "spec.progressDeadlineSeconds";
        errors.extend(workload::not_negative(deployment, "/spec/progressDeadlineSeconds", field));
        if seconds <= deployment.int("/spec/minReadySeconds") {
            errors.push(invalid(field, seconds, "must be greater than minReadySeconds"));
        }
    }
    errors
}

/// All errors of a changed Deployment.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = workload::validate_update(new, old);
    errors.extend(validate_create(new, env));
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let counts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::validate_status(new, old, &counts)
}

fn validate_strategy(deployment: &Value) -> Vec<FieldError> {
    let field = "spec.strategy";
    let rolling = deployment.at("/spec/strategy/rollingUpdate");
    match deployment.text("/spec/strategy/type") {
        "Recreate" if !rolling.is_null() => {
            let text = "may not be specified when strategy `type` is 'Recreate'";
            vec![forbidden(format!("{field}.rollingUpdate"), text)]
        }
        "Recreate" => Vec::new(),
        "RollingUpdate" => validate_rolling(rolling, &format!("{field}.rollingUpdate")),
        "" => vec![required(format!("{field}.type"), "")],
        other => {
            let known = ["Recreate", "RollingUpdate"];
            vec![not_supported(format!("{field}.type"), other, &known)]
        }
    }
}

fn validate_rolling(rolling: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut zero = true;
    for name in ["maxUnavailable", "maxSurge"] {
        let value = rolling.at(&format!("/{name}"));
        let field = format!("{field}.{name}");
        match (value, count_or_percent(value)) {
            (_, Some(number)) => {
                zero &= number == 0;
                if number < 0 {
                    let text = "must be greater than or equal to 0";
                    errors.push(invalid(field, value.clone(), text));
                } else if name == "maxUnavailable" && value.is_string() && number > 100 {
                    errors.push(invalid(field, value.clone(), "must not be greater than 100%"));
                }
            }
            (value, None) => {
                let text = "a valid percent string must be a numeric string followed by an ending \
                            '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.push(invalid(field, value.clone(), text));
                zero = false;
            }
        }
    }
    if zero && errors.is_empty() {
        let text = "may not be 0 when `maxSurge` is 0";
        let value = rolling.at("/maxUnavailable").clone();
        errors.push(invalid(format!("{field}.maxUnavailable"), value, text));
    }
    errors
}

fn count_or_percent(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        }
        number => number.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    fn deployment() -> Value {
        let mut deployment = json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "c", "image": "example.com/web" }] },
                },
            },
        });
        default(&mut deployment, &env());
        deployment
    }

    #[test]
    fn defaults_are_upstreams() {
        let spec = deployment();
        let strategy = json!({
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
        });
        assert_eq!(spec.at("/spec/strategy"), &strategy);
        assert_eq!(spec.int("/spec/replicas"), 1);
        assert_eq!(spec.int("/spec/progressDeadlineSeconds"), 600);
        let pod = spec.at("/spec/template/spec");
        assert_eq!(pod.int("/terminationGracePeriodSeconds"), 30);
        assert_eq!(pod.text("/containers/0/imagePullPolicy"), "Always");
        assert!(!pod.has("/enableServiceLinks"), "only pods get this one");
    }

    #[test]
    fn bad_deployments_are_refused_where_upstream_says() {
        use CauseReason::{Invalid, NotSupported, Required};
        let rows = [
            ("/spec/selector", Value::Null, "spec.selector", Required),
            ("/spec/replicas", json!(-1), "spec.replicas", Invalid),
            (
                "/spec/template/metadata/labels",
                json!({ "app": "api" }),
                "spec.template.metadata.labels",
                Invalid,
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy",
                NotSupported,
            ),
            ("/spec/strategy/type", json!("Slow"), "spec.strategy.type", NotSupported),
            (
                "/spec/strategy/rollingUpdate",
                json!({ "maxSurge": 0, "maxUnavailable": "0%" }),
                "spec.strategy.rollingUpdate.maxUnavailable",
                Invalid,
            ),
            (
                "/spec/template/spec/containers",
                json!([{ "name": "c", "imagePullPolicy": "Always", "terminationMessagePolicy": "File" }]),
                "spec.template.spec.containers[0].image",
                Required,
            ),
        ];
        for (pointer, value, field, reason) in rows {
            let mut deployment = deployment();
            set(&mut deployment, pointer, value);
            let errors = validate_create(&deployment, &env());
            assert_eq!(outcome(&errors), [(field, reason)]);
        }
    }

    #[test]
    fn the_selector_stays_and_annotations_count_as_a_generation() {
        let mut old = deployment();
        prepare_create(&mut old, &env());
        let mut new = old.clone();
        set(&mut new, "/metadata/annotations", json!({ "a": "b" }));
        prepare_update(&mut new, &old, &env());
        assert_eq!(new.int("/metadata/generation"), 2);
        assert_eq!(validate_update(&new, &old, &env()), []);
        set(
            &mut new,
            "/spec/selector/matchExpressions",
            json!([{ "key": "app", "operator": "Exists" }]),
        );
        let errors = validate_update(&new, &old, &env());
        assert_eq!(outcome(&errors), [("spec.selector", CauseReason::Invalid)]);
    }
}
