//! `core/v1` Service (semantics 1).
//!
//! ```text
//! create: default ─ normalize_cluster_ips ─ init_families ─(allocate)─ prepare_create ─ validate
//! update: default ─ patch_allocated_values ─ normalize_cluster_ips ─ init_families
//!                 ─(allocate)─ prepare_update ─ validate
//! ```
//!
//! Allocation itself is the API server's; the functions around it are public for it to call.

mod allocated;
mod defaults;
mod families;
mod ports;
mod status;
mod traffic;
mod update;
mod validate;
mod warnings;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::fields::{Fields, remove, set};
use crate::kinds::Env;

pub use allocated::{drop_type_dependent, patch_allocated_values};
pub(crate) use defaults::{default, default_on_read};
pub use families::{init_families, normalize_cluster_ips};
pub(crate) use ports::validate_protocol;
pub(crate) use status::validate_status;
pub(crate) use traffic::RANGES_ANNOTATION;
pub(crate) use update::validate_update;
pub(crate) use validate::validate_create;
pub(crate) use warnings::warnings;

/// A new Service has no status.
pub(crate) fn prepare_create(service: &mut Value, _: &Env) {
    set(service, "/status", json!({ "loadBalancer": {} }));
    hide_internal_policy(service);
}

/// A changed Service keeps its status, and loses what its new type does not have (semantics 1.5).
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    super::keep_status(new, old);
    drop_type_dependent(new, old);
    let was_balanced = service_type(old) == "LoadBalancer";
    if was_balanced && service_type(new) != "LoadBalancer" {
        set(new, "/status/loadBalancer", json!({}));
    }
    hide_internal_policy(new);
}

/// A status write keeps the spec; the defaults of ingress depend on the stored type (S21).
pub(crate) fn prepare_status(new: &mut Value, old: &Value, env: &Env) {
    super::keep_all_but_status(new, old, env);
    if !new.has("/status/loadBalancer") {
        set(new, "/status/loadBalancer", json!({}));
    }
    defaults::default_ingress(new);
}

/// An ExternalName has no internal traffic; a valid policy is taken and not shown again.
fn hide_internal_policy(service: &mut Value) {
    let known = ["Cluster", "Local"].contains(&service.text("/spec/internalTrafficPolicy"));
    if known && service_type(service) == "ExternalName" {
        remove(service, "/spec/internalTrafficPolicy");
    }
}

/// Fields that field selectors may name (S23).
pub(crate) fn selectable_fields(service: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("spec.clusterIP", service.text("/spec/clusterIP").to_owned()),
        ("spec.type", service_type(service).to_owned()),
    ]
}

/// `spec.type`, empty when absent.
pub fn service_type(service: &Value) -> &str {
    service.text("/spec/type")
}

/// Whether a Service of this type gets cluster IPs (or is headless).
pub fn needs_cluster_ip(service: &Value) -> bool {
    matches!(service_type(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether every port gets a node port: NodePort, or LoadBalancer with allocation on.
pub fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.at("/spec/allocateLoadBalancerNodePorts").as_bool().unwrap_or(true)
        }
        _ => false,
    }
}

/// Whether it gets a health check node port: LoadBalancer with externalTrafficPolicy Local.
pub fn needs_health_check(service: &Value) -> bool {
    service_type(service) == "LoadBalancer"
        && service.text("/spec/externalTrafficPolicy") == "Local"
}

/// Whether it is reachable from outside: NodePort, LoadBalancer, or ClusterIP with externalIPs.
pub fn is_externally_accessible(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !service.list("/spec/externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether it is `clusterIP: None`.
pub fn is_headless(service: &Value) -> bool {
    service.texts("/spec/clusterIPs") == ["None"]
}

/// The node ports that are set.
pub fn node_ports(service: &Value) -> Vec<i64> {
    let ports = service.list("/spec/ports").iter();
    ports.map(|port| port.int("/nodePort")).filter(|port| *port != 0).collect()
}
