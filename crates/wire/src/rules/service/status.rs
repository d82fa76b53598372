//! Writes of `Service.status` (`ValidateServiceStatusUpdate`).

use serde_json::Value;

use super::service_type;
use crate::kinds::Env;
use crate::rules::error::{each, forbidden, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::{ip, meta, text};
use crate::status::FieldError;

/// All errors of a status write (S6).
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let field = "status.loadBalancer.ingress";
    let ingresses = new.list(INGRESS);
    if service_type(new) != "LoadBalancer" {
        if !ingresses.is_empty() {
            errors.push(forbidden(field, "may only be used when `spec.type` is LoadBalancer"));
        }
        return errors;
    }
    let known: Vec<&str> = old.list(INGRESS).iter().map(|ingress| ingress.text("/ip")).collect();
    for (index, ingress) in ingresses.iter().enumerate() {
        errors.extend(validate_ingress(ingress, &format!("{field}[{index}]"), &known));
    }
    errors
}

fn validate_ingress(ingress: &Value, field: &str, known: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let address = ingress.text("/ip");
    if !address.is_empty() && !known.contains(&address) {
        errors.extend(each(format!("{field}.ip"), address, ip::address(address)));
    }
    let mode = format!("{field}.ipMode");
    match (ingress.at("/ipMode").as_str(), address.is_empty()) {
        (None, false) => errors.push(required(mode, "must be specified when `ip` is set")),
        (Some(_), true) => {
            errors.push(forbidden(mode, "may not be specified when `ip` is not set"));
        }
        (Some(value), false) if !["Proxy", "VIP"].contains(&value) => {
            errors.push(not_supported(mode, value, &["Proxy", "VIP"]));
        }
        _ => {}
    }
    let hostname = ingress.text("/hostname");
    if !hostname.is_empty() {
        let field = format!("{field}.hostname");
        errors.extend(each(field.as_str(), hostname, text::dns_subdomain(hostname)));
        if ip::parse_sloppy(hostname).is_some() {
            errors.push(invalid(field, hostname, "must be a DNS name, not an IP address"));
        }
    }
    errors
}

const INGRESS: &str = "/status/loadBalancer/ingress";
