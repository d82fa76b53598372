//! Validation of pods and pod templates (`ValidatePodSpec`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::validate_containers;
use crate::kinds::Env;
use crate::rules::error::{duplicate, each, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::meta::{self, validate_annotations, validate_labels};
use crate::rules::text;
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
