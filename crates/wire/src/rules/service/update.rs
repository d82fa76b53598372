//! Validation of a change of a Service, in upstream's order (`ValidateServiceUpdate`).

use serde_json::Value;

use super::validate::{validate_meta, validate_spec};
use super::{is_headless, needs_health_check, service_type, traffic};
use crate::kinds::Env;
use crate::rules::error::{forbidden, invalid};
use crate::rules::fields::Fields;
use crate::rules::meta;
use crate::status::FieldError;

/// All errors of a changed Service (S7).
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_meta(new));
    if service_type(new) != "ExternalName" && service_type(old) != "ExternalName" {
        errors.extend(validate_addresses(new, old));
        errors.extend(validate_families(new, old));
    }
    errors.extend(traffic::validate_class(new, Some(old)));
    if needs_health_check(old)
        && needs_health_check(new)
        && old.int("/spec/healthCheckNodePort") != new.int("/spec/healthCheckNodePort")
    {
        errors.push(forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    errors.extend(validate_spec(new, Some(old)));
    errors
}

fn validate_addresses(new: &Value, old: &Value) -> Vec<FieldError> {
    if is_headless(new) && is_headless(old) {
        return Vec::new();
    }
    let (now, before) = (new.list("/spec/clusterIPs"), old.list("/spec/clusterIPs"));
    let list = new.at("/spec/clusterIPs");
    let changed = |index: usize| {
        invalid(format!("spec.clusterIPs[{index}]"), list.clone(), "may not change once set")
    };
    let mut errors = Vec::new();
    if now.is_empty() && !before.is_empty() {
        let text = "primary clusterIP can not be unset";
        errors.push(invalid("spec.clusterIPs[0]", list.clone(), text));
    }
    let kept = if now.len() == before.len() { now.len() } else { 1 };
    let pairs = now.iter().zip(before).take(kept).enumerate();
    errors
        .extend(pairs.filter(|(_, (now, before))| now != before).map(|(index, _)| changed(index)));
    if now.len() == 1 && before.len() > 1 && new.text("/spec/ipFamilyPolicy") != "SingleStack" {
        let text = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let policy = new.at("/spec/ipFamilyPolicy").clone();
        errors.push(invalid("spec.ipFamilyPolicy", policy, text));
    }
    errors
}

fn validate_families(new: &Value, old: &Value) -> Vec<FieldError> {
    if is_headless(new) || is_headless(old) {
        return Vec::new();
    }
    let (now, before) = (new.list("/spec/ipFamilies"), old.list("/spec/ipFamilies"));
    let kept = if now.len() == before.len() { now.len() } else { 1 };
    let mut errors: Vec<FieldError> = now
        .iter()
        .zip(before)
        .take(kept)
        .filter(|(now, before)| now != before)
        .map(|_| {
            let list = new.at("/spec/ipFamilies").clone();
            invalid("spec.ipFamilies[0]", list, "may not change once set")
        })
        .collect();
    if now.len() == 1 && before.len() > 1 && new.text("/spec/ipFamilyPolicy") != "SingleStack" {
        let text = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        let policy = new.at("/spec/ipFamilyPolicy").clone();
        errors.push(invalid("spec.ipFamilyPolicy", policy, text));
    }
    errors
}
