//! What Deployments and ReplicaSets have in common.

use std::collections::BTreeSet;

use model::{LabelRequirement, LabelSelector, Labels};
use serde_json::Value;

use super::error::{each, forbidden, immutable, invalid, not_supported, required};
use super::fields::{Fields, copy, set};
use super::meta::{self, validate_labels};
use super::{pod, text};
use crate::status::FieldError;

/// Fills the replicas and the template.
pub(super) fn default(workload: &mut Value) {
    if !workload.has("/spec/replicas") {
        set(workload, "/spec/replicas", 1);
    }
    pod::default_template(workload);
}

/// A new workload has no status.
pub(super) fn prepare_create(workload: &mut Value) {
    set(workload, "/status", Value::Object(serde_json::Map::new()));
    meta::start_generation(workload);
}

/// A changed workload keeps its status.
pub(super) fn prepare_update(new: &mut Value, old: &Value, changed: bool) {
    copy(new, old, "status");
    meta::carry_generation(new, old, changed);
}

/// Errors of metadata, replicas, selector and template; `name` is as in upstream's texts.
pub(super) fn validate(workload: &Value, name: &str) -> Vec<FieldError> {
    let mut errors = meta::validate(workload, true, text::dns_subdomain);
    errors.extend(validate_selector(workload, name));
    errors.extend(not_negative(workload, "/spec/replicas", "spec.replicas"));
    errors.extend(not_negative(workload, "/spec/minReadySeconds", "spec.minReadySeconds"));
    let selector = selector(workload.at("/spec/selector"));
    let labels = labels(workload.at("/spec/template/metadata/labels"));
    if workload.has("/spec/selector") && selector.is_some_and(|known| !known.matches(&labels)) {
        let labels = workload.at("/spec/template/metadata/labels").clone();
        let text = "`selector` does not match template `labels`";
        errors.push(invalid("spec.template.metadata.labels", labels, text));
    }
    errors.extend(pod::validate_template(workload));
    let policy = workload.text("/spec/template/spec/restartPolicy");
    if ["OnFailure", "Never"].contains(&policy) {
        let field = "spec.template.spec.restartPolicy";
        errors.push(not_supported(field, policy, &["Always"]));
    }
    if workload.has("/spec/template/spec/activeDeadlineSeconds") {
        let text = format!("activeDeadlineSeconds in {name} is not Supported");
        errors.push(forbidden("spec.template.spec.activeDeadlineSeconds", &text));
    }
    errors
}

/// Errors of a change: metadata, and the selector, which stays.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let (now, before) = (new.at("/spec/selector"), old.at("/spec/selector"));
    if now != before {
        errors.push(immutable("spec.selector", now.clone()));
    }
    errors
}

/// Errors of counts in a status: none negative, none above `replicas`.
pub(super) fn validate_status(new: &Value, old: &Value, counts: &[&str]) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let all = new.int("/status/replicas");
    errors.extend(not_negative(new, "/status/replicas", "status.replicas"));
    for count in counts {
        let pointer = format!("/status/{count}");
        let field = format!("status.{count}");
        errors.extend(not_negative(new, &pointer, &field));
        let value = new.int(&pointer);
        if value > all {
            errors.push(invalid(field, value, "cannot be greater than status.replicas"));
        }
    }
    errors
}

/// The error of a negative number.
pub(super) fn not_negative(object: &Value, pointer: &str, field: &str) -> Option<FieldError> {
    let value = object.int(pointer);
    (value < 0).then(|| invalid(field, value, "must be greater than or equal to 0"))
}

/// A `metav1.LabelSelector`; `None` when an operator is unknown.
pub(crate) fn selector(value: &Value) -> Option<LabelSelector> {
    let requirement = |value: &Value| {
        let key = value.text("/key").to_owned();
        let values: BTreeSet<String> =
            value.texts("/values").into_iter().map(str::to_owned).collect();
        Some(match value.text("/operator") {
            "In" => LabelRequirement::In(key, values),
            "NotIn" => LabelRequirement::NotIn(key, values),
            "Exists" => LabelRequirement::Exists(key),
            "DoesNotExist" => LabelRequirement::DoesNotExist(key),
            _ => return None,
        })
    };
    let requirements: Option<Vec<_>> =
        value.list("/matchExpressions").iter().map(requirement).collect();
    Some(LabelSelector { labels: labels(value.at("/matchLabels")), requirements: requirements? })
}

/// Labels, those whose value is a text.
pub(crate) fn labels(value: &Value) -> Labels {
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    value.as_object().into_iter().flatten().filter_map(pair).collect()
}

fn validate_selector(workload: &Value, name: &str) -> Vec<FieldError> {
    let field = "spec.selector";
    let value = workload.at("/spec/selector");
    if value.is_null() {
        return vec![required(field, "")];
    }
    let labels = format!("{field}.matchLabels");
    let mut errors = validate_labels(workload, "/spec/selector/matchLabels", &labels);
    for (index, expression) in value.list("/matchExpressions").iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let filled = !expression.list("/values").is_empty();
        match expression.text("/operator") {
            "In" | "NotIn" if !filled => {
                let text = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(required(format!("{field}.values"), text));
            }
            "Exists" | "DoesNotExist" if filled => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(forbidden(format!("{field}.values"), text));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let text = "not a valid selector operator";
                errors.push(invalid(format!("{field}.operator"), other, text));
            }
        }
        let key = expression.text("/key");
        errors.extend(each(format!("{field}.key"), key, text::qualified_name(key)));
    }
    if value.map("/matchLabels").next().is_none() && value.list("/matchExpressions").is_empty() {
        let text = format!("empty selector is invalid for {name}");
        errors.push(invalid(field, value.clone(), text));
    }
    errors
}
