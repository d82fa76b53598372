//! Validation of pods and pod templates (`ValidatePodSpec`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::validate_containers;
use crate::kinds::Env;
use crate::rules::error::{duplicate, each, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::meta::{self, validate_annotations, validate_labels};
use crate::rules::{ip, text};
use crate::status::FieldError;

/// All errors of a new Pod.
pub(crate) fn validate_create(pod: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(pod, true, text::dns_subdomain);
    errors.extend(validate_spec(pod.at("/spec"), "spec"));
    errors
}

/// All errors of a workload's `spec.template`.
pub(crate) fn validate_template(workload: &Value) -> Vec<FieldError> {
    let labels = "/spec/template/metadata/labels";
    let mut errors = validate_labels(workload, labels, "spec.template.metadata.labels");
    let annotations = "/spec/template/metadata/annotations";
    let field = "spec.template.metadata.annotations";
    errors.extend(validate_annotations(workload, annotations, field));
    errors.extend(validate_spec(workload.at("/spec/template/spec"), "spec.template.spec"));
    errors
}

fn validate_spec(spec: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (volumes, names) = validate_volumes(spec, field);
    errors.extend(volumes);
    errors.extend(validate_containers(spec, field, &names));
    let choices: [(&str, &[&str]); 2] = [
        ("restartPolicy", &["Always", "OnFailure", "Never"]),
        ("dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]),
    ];
    for (name, known) in choices {
        let value = spec.text(&format!("/{name}"));
        let field = format!("{field}.{name}");
        if value.is_empty() {
            errors.push(required(field, ""));
        } else if !known.contains(&value) {
            errors.push(not_supported(field, value, known));
        }
    }
    errors.extend(validate_labels(spec, "/nodeSelector", &format!("{field}.nodeSelector")));
    let names: [(&str, meta::NameRule); 4] = [
        ("serviceAccountName", text::dns_subdomain),
        ("nodeName", text::dns_subdomain),
        ("hostname", text::dns_label),
        ("subdomain", text::dns_label),
    ];
    for (name, rule) in names {
        let value = spec.text(&format!("/{name}"));
        if !value.is_empty() {
            errors.extend(each(format!("{field}.{name}"), value, rule(value)));
        }
    }
    let deadline = spec.at("/activeDeadlineSeconds").as_i64();
    if let Some(seconds) = deadline.filter(|seconds| *seconds < 1) {
        let text = "must be between 1 and 2147483647, inclusive";
        errors.push(invalid(format!("{field}.activeDeadlineSeconds"), seconds, text));
    }
    let grace = spec.int("/terminationGracePeriodSeconds");
    if grace < 0 {
        let text = "must be greater than or equal to 0";
        errors.push(invalid(format!("{field}.terminationGracePeriodSeconds"), grace, text));
    }
    errors.extend(validate_names(spec, field));
    errors.extend(validate_tolerations(spec, field));
    for (index, gate) in spec.list("/readinessGates").iter().enumerate() {
        let kind = gate.text("/conditionType");
        let field = format!("{field}.readinessGates[{index}].conditionType");
        errors.extend(each(field, kind, text::qualified_name(kind)));
    }
    errors
}

/// How the pod finds names besides the cluster's.
fn validate_names(spec: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for alias in spec.list("/hostAliases") {
        let address = alias.text("/ip");
        errors.extend(each(format!("{field}.hostAliases.ip"), address, ip::address(address)));
        for name in alias.texts("/hostnames") {
            let field = format!("{field}.hostAliases.hostnames");
            errors.extend(each(field, name, text::dns_subdomain(name)));
        }
    }
    if spec.text("/dnsPolicy") == "None" {
        let field = format!("{field}.dnsConfig");
        if !spec.has("/dnsConfig") {
            let text = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(required(field, text));
        } else if spec.list("/dnsConfig/nameservers").is_empty() {
            let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(required(format!("{field}.nameservers"), text));
        }
    }
    errors
}

fn validate_tolerations(spec: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, toleration) in spec.list("/tolerations").iter().enumerate() {
        let field = format!("{field}.tolerations[{index}]");
        let (key, operator) = (toleration.text("/key"), toleration.text("/operator"));
        let (value, effect) = (toleration.text("/value"), toleration.text("/effect"));
        if !key.is_empty() {
            errors.extend(each(format!("{field}.key"), key, text::qualified_name(key)));
        } else if operator != "Exists" {
            let text = "operator must be Exists when `key` is empty, which means \"match all \
                        values and all keys\"";
            errors.push(invalid(format!("{field}.operator"), operator, text));
        }
        if toleration.has("/tolerationSeconds") && effect != "NoExecute" {
            let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(invalid(format!("{field}.effect"), effect, text));
        }
        match operator {
            "" | "Equal" => {
                errors.extend(each(format!("{field}.operator"), value, text::label_value(value)));
            }
            "Exists" if !value.is_empty() => {
                let text = "value must be empty when `operator` is 'Exists'";
                errors.push(invalid(format!("{field}.operator"), value, text));
            }
            "Exists" => {}
            other => {
                let known = ["Equal", "Exists"];
                errors.push(not_supported(format!("{field}.operator"), other, &known));
            }
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effect.is_empty() && !effects.contains(&effect) {
            errors.push(not_supported(format!("{field}.effect"), effect, &effects));
        }
    }
    errors
}

fn validate_volumes<'a>(spec: &'a Value, field: &str) -> (Vec<FieldError>, BTreeSet<&'a str>) {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, volume) in spec.list("/volumes").iter().enumerate() {
        let name = volume.text("/name");
        let field = format!("{field}.volumes[{index}].name");
        if name.is_empty() {
            errors.push(required(field, ""));
            continue;
        }
        let why = text::dns_label(name);
        if !why.is_empty() {
            errors.extend(each(field, name, why));
        } else if !names.insert(name) {
            errors.push(duplicate(field, name));
        }
    }
    (errors, names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::tests::outcome;
    use crate::status::CauseReason::{Invalid, NotSupported, Required};

    #[test]
    fn names_gates_and_tolerations_are_checked() {
        let rows = [
            (json!({ "hostAliases": [{ "ip": "x" }] }), "spec.hostAliases.ip", Invalid),
            (json!({ "dnsPolicy": "None" }), "spec.dnsConfig", Required),
            (
                json!({ "dnsPolicy": "None", "dnsConfig": {} }),
                "spec.dnsConfig.nameservers",
                Required,
            ),
            (
                json!({ "readinessGates": [{ "conditionType": "a b" }] }),
                "spec.readinessGates[0].conditionType",
                Invalid,
            ),
            (json!({ "tolerations": [{}] }), "spec.tolerations[0].operator", Invalid),
            (
                json!({ "tolerations": [{ "key": "k", "operator": "Near" }] }),
                "spec.tolerations[0].operator",
                NotSupported,
            ),
            (
                json!({ "tolerations": [{ "key": "k", "effect": "X" }] }),
                "spec.tolerations[0].effect",
                NotSupported,
            ),
            (
                json!({ "tolerations": [{ "operator": "Exists", "tolerationSeconds": 1 }] }),
                "spec.tolerations[0].effect",
                Invalid,
            ),
        ];
        for (fields, field, reason) in rows {
            let mut spec = json!({
                "containers": [{ "name": "c", "image": "i", "imagePullPolicy": "Always",
                    "terminationMessagePolicy": "File" }],
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            });
            assert_eq!(validate_spec(&spec, "spec"), []);
            for (key, value) in fields.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            assert_eq!(outcome(&validate_spec(&spec, "spec")), [(field, reason)], "{fields}");
        }
    }
}
