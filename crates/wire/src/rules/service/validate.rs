//! Validation of a whole Service, in upstream's order (`ValidateService`).

use serde_json::Value;

use super::families::validate_cluster_ips;
use super::ports::{validate_pairs, validate_ports};
use super::traffic::{
    validate_affinity, validate_balancer, validate_external_ips, validate_policies,
    validate_source_ranges,
};
use super::{is_headless, service_type};
use crate::kinds::Env;
use crate::rules::error::{each, forbidden, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::meta::{self, validate_labels};
use crate::rules::text;
use crate::status::FieldError;

/// All errors of a new Service.
pub(crate) fn validate_create(service: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = validate_meta(service);
    errors.extend(validate_spec(service, None));
    errors
}

/// Errors of metadata.
pub(super) fn validate_meta(service: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate(service, true, text::dns_label);
    let annotations = service.at("/metadata/annotations");
    let (hints, mode) = (annotations.get(HINTS), annotations.get(MODE));
    if let (Some(hints), Some(mode)) = (hints, mode)
        && hints != mode
    {
        let text = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(invalid(format!("metadata.annotations[{MODE}]"), mode.clone(), text));
    }
    errors
}

/// Errors of the spec; `old` is the stored Service on update (S4).
pub(super) fn validate_spec(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let portless = is_headless(service) || service_type(service) == "ExternalName";
    if service.list("/spec/ports").is_empty() && !portless {
        errors.push(required("spec.ports", ""));
    }
    errors.extend(validate_type_needs(service));
    errors.extend(validate_ports(service));
    errors.extend(validate_labels(service, "/spec/selector", "spec.selector"));
    errors.extend(validate_affinity(service));
    errors.extend(validate_cluster_ips(service, old));
    errors.extend(validate_external_ips(service, old));
    match service_type(service) {
        "" => errors.push(required("spec.type", "")),
        kind if !TYPES.contains(&kind) => errors.push(not_supported("spec.type", kind, &TYPES)),
        _ => {}
    }
    errors.extend(validate_pairs(service));
    errors.extend(validate_source_ranges(service, old));
    errors.extend(validate_balancer(service));
    errors.extend(validate_policies(service));
    errors
}

fn validate_type_needs(service: &Value) -> Vec<FieldError> {
    let kind = service_type(service);
    let mut errors = Vec::new();
    if kind == "LoadBalancer" {
        for (index, port) in service.list("/spec/ports").iter().enumerate() {
            if port.int("/port") == KUBELET_PORT {
                let text = format!(
                    "may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                );
                errors.push(invalid(format!("spec.ports[{index}]"), KUBELET_PORT, text));
            }
        }
    }
    if matches!(kind, "LoadBalancer" | "NodePort") && is_headless(service) {
        let text = format!("may not be set to 'None' for {kind} services");
        errors.push(invalid("spec.clusterIPs[0]", "None", text));
    }
    if kind == "ExternalName" {
        errors.extend(validate_external_name(service));
    }
    errors
}

fn validate_external_name(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let refused = "may not be set for ExternalName services";
    let lists = [("/spec/clusterIPs", "spec.clusterIPs"), ("/spec/ipFamilies", "spec.ipFamilies")];
    for (pointer, field) in lists {
        if !service.list(pointer).is_empty() {
            errors.push(forbidden(field, refused));
        }
    }
    if service.has("/spec/ipFamilyPolicy") {
        errors.push(forbidden("spec.ipFamilyPolicy", refused));
    }
    let name = service.text("/spec/externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(required("spec.externalName", ""));
    } else {
        errors.extend(each("spec.externalName", name, text::dns_subdomain(name)));
    }
    errors
}

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const KUBELET_PORT: i64 = 10_250;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
