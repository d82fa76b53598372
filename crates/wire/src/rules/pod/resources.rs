//! Resource requests and limits.

use serde_json::Value;

use crate::rules::error::{each, invalid, required};
use crate::rules::fields::Fields;
use crate::rules::{quantity, text};
use crate::status::FieldError;

/// `status.qosClass`: how much of what the pod may use is promised to it.
pub(super) fn quality_of_service(pod: &Value) -> &'static str {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers: Vec<&Value> = lists.iter().flat_map(|list| pod.list(list)).collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        let text = container.at(&format!("/resources/{kind}/{name}"));
        quantity_text(text).and_then(|text| quantity::millis(&text)).filter(|amount| *amount > 0)
    };
    let names = ["cpu", "memory"];
    let stated = |container: &&Value| {
        names.iter().any(|name| {
            amount(container, "requests", name).is_some()
                || amount(container, "limits", name).is_some()
        })
    };
    let fixed = |container: &&Value| {
        names.iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && amount(container, "requests", name).is_none_or(|r| Some(r) == limit)
        })
    };
    if !containers.iter().any(stated) {
        "BestEffort"
    } else if containers.iter().all(fixed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Errors of a container's `resources`.
pub(super) fn validate_resources(container: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for kind in ["limits", "requests"] {
        for (name, value) in container.map(&format!("/resources/{kind}")) {
            let field = format!("{field}.resources.{kind}[{name}]");
            errors.extend(each(field.as_str(), name, text::qualified_name(name)));
            if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
                let text = "must be a standard resource for containers";
                errors.push(invalid(field.as_str(), name, text));
            }
            let shown = quantity_text(value).unwrap_or_default();
            match quantity::millis(&shown) {
                None => errors.push(required(field, "must be a quantity")),
                Some(amount) if amount < 0 => {
                    errors.push(invalid(field, shown, "must be greater than or equal to 0"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request) in container.map("/resources/requests") {
        let limit = container.at("/resources/limits").get(name);
        let amount = |value: &Value| quantity::millis(&quantity_text(value)?);
        let (Some(request_amount), Some(limit_amount)) = (amount(request), limit.and_then(amount))
        else {
            continue;
        };
        if request_amount > limit_amount {
            let shown = limit.and_then(quantity_text).unwrap_or_default();
            let text = format!("must be less than or equal to {name} limit of {shown}");
            let request = quantity_text(request).unwrap_or_default();
            errors.push(invalid(format!("{field}.resources.requests"), request, text));
        }
    }
    errors
}

/// Quantities may also be written as numbers.
fn quantity_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
