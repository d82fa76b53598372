//! How traffic may reach a Service: affinity, external IPs, source ranges, policies.

use serde_json::Value;

use super::{is_externally_accessible, needs_cluster_ip, needs_health_check, service_type};
use crate::rules::error::{each, forbidden, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::{ip, text};
use crate::status::FieldError;

/// Errors of `sessionAffinity` and its config.
pub(super) fn validate_affinity(service: &Value) -> Vec<FieldError> {
    let field = "spec.sessionAffinity";
    let config = "spec.sessionAffinityConfig";
    match service.text("/spec/sessionAffinity") {
        "" => vec![required(field, "")],
        "None" if service.has("/spec/sessionAffinityConfig") => {
            vec![forbidden(config, "must not be set when session affinity is None")]
        }
        "None" => Vec::new(),
        "ClientIP" => {
            let pointer = "/spec/sessionAffinityConfig/clientIP/timeoutSeconds";
            let field = format!("{config}.clientIP.timeoutSeconds");
            if !service.has(pointer) {
                return vec![required(field, "when session affinity type is ClientIP")];
            }
            let seconds = service.int(pointer);
            if (1..=AFFINITY_LIMIT).contains(&seconds) {
                return Vec::new();
            }
            let text = format!("must be greater than 0 and less than {AFFINITY_LIMIT}");
            vec![invalid(field, seconds, text)]
        }
        other => vec![not_supported(field, other, &["ClientIP", "None"])],
    }
}

/// Errors of `externalIPs`; stored ones are not judged by today's stricter syntax.
pub(super) fn validate_external_ips(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let known = old.map(|old| old.texts("/spec/externalIPs")).unwrap_or_default();
    let mut errors = Vec::new();
    for (index, address) in service.texts("/spec/externalIPs").into_iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        let why = if known.contains(&address) { Vec::new() } else { ip::address(address) };
        if why.is_empty() {
            errors.extend(ip::not_special(&field, address));
        } else {
            errors.extend(each(field, address, why));
        }
    }
    errors
}

/// Errors of `loadBalancerSourceRanges`, or of the annotation where the field is empty.
pub(super) fn validate_source_ranges(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let ranges = service.texts(RANGES);
    let known: Vec<&str> = old.map(|old| old.texts(RANGES)).unwrap_or_default();
    let known: Vec<&str> = known.into_iter().map(str::trim).collect();
    let mut errors = Vec::new();
    let refused = service_type(service) != "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    if !ranges.is_empty() {
        let field = "spec.LoadBalancerSourceRanges";
        if refused {
            errors.push(forbidden(field, only));
        }
        for (index, range) in ranges.into_iter().map(str::trim).enumerate() {
            if !known.contains(&range) {
                errors.extend(each(format!("{field}[{index}]"), range, ip::cidr(range)));
            }
        }
        return errors;
    }
    let Some(value) = annotation(service) else { return errors };
    let field = format!("metadata.annotations[{RANGES_ANNOTATION}]");
    if refused {
        errors.push(forbidden(field.as_str(), only));
    }
    let unchanged = old.and_then(annotation) == Some(value);
    if !value.trim().is_empty() && !unchanged {
        for range in value.trim().split(',').map(str::trim) {
            errors.extend(each(field.as_str(), range, ip::cidr(range)));
        }
    }
    errors
}

/// Errors of fields that only a LoadBalancer has.
pub(super) fn validate_balancer(service: &Value) -> Vec<FieldError> {
    let balanced = service_type(service) == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let mut errors = Vec::new();
    match (balanced, service.has("/spec/allocateLoadBalancerNodePorts")) {
        (false, true) => errors.push(forbidden("spec.allocateLoadBalancerNodePorts", only)),
        (true, false) => errors.push(required("allocateLoadBalancerNodePorts", "")),
        _ => {}
    }
    errors.extend(validate_class(service, None));
    errors
}

/// Errors of `loadBalancerClass`, which does not change while the type stays LoadBalancer.
pub(super) fn validate_class(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let field = "spec.loadBalancerClass";
    let class = service.at("/spec/loadBalancerClass");
    let balanced = service_type(service) == "LoadBalancer";
    let mut errors = Vec::new();
    if let Some(old) = old
        && balanced
        && service_type(old) == "LoadBalancer"
        && class != old.at("/spec/loadBalancerClass")
    {
        errors.push(invalid(field, class.clone(), "may not change once set"));
    }
    match class.as_str() {
        Some(name) if balanced => errors.extend(each(field, name, text::qualified_name(name))),
        Some(_) => {
            errors.push(forbidden(field, "may only be used when `type` is 'LoadBalancer'"));
        }
        None => {}
    }
    errors
}

/// Errors of the traffic policies, the health check node port and the distribution (S5).
pub(super) fn validate_policies(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policies = ["Cluster", "Local"];
    let field = "spec.externalTrafficPolicy";
    let policy = service.text("/spec/externalTrafficPolicy");
    match (is_externally_accessible(service), policy) {
        (true, "") => errors.push(required(field, "")),
        (true, policy) if !policies.contains(&policy) => {
            errors.push(not_supported(field, policy, &policies));
        }
        (false, policy) if !policy.is_empty() => {
            let text = "may only be set for externally-accessible services";
            errors.push(invalid(field, policy, text));
        }
        _ => {}
    }
    errors.extend(validate_health_check(service));
    let field = "spec.internalTrafficPolicy";
    match service.at("/spec/internalTrafficPolicy").as_str() {
        None if needs_cluster_ip(service) => errors.push(required(field, "")),
        Some(policy) if !policies.contains(&policy) => {
            errors.push(not_supported(field, policy, &policies));
        }
        _ => {}
    }
    if let Some(distribution) = service.at("/spec/trafficDistribution").as_str() {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        if !known.contains(&distribution) {
            errors.push(not_supported("spec.trafficDistribution", distribution, &known));
        }
    }
    errors
}

fn validate_health_check(service: &Value) -> Vec<FieldError> {
    let field = "spec.healthCheckNodePort";
    let port = service.int("/spec/healthCheckNodePort");
    if needs_health_check(service) {
        return each(field, port, text::port_number(port));
    }
    if port == 0 {
        return Vec::new();
    }
    let text =
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    vec![invalid(field, port, text)]
}

fn annotation(service: &Value) -> Option<&str> {
    service.at("/metadata/annotations").get(RANGES_ANNOTATION)?.as_str()
}

/// The predecessor of `loadBalancerSourceRanges`.
pub(crate) const RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const RANGES: &str = "/spec/loadBalancerSourceRanges";
/// Seconds; the limit itself is allowed, whatever the text says.
const AFFINITY_LIMIT: i64 = 86_400;
