//! Defaults of Services (`pkg/apis/core/v1/defaults.go`) and of stored ones (semantics 1.3).

use serde_json::{Value, json};

use super::{is_externally_accessible, needs_cluster_ip, normalize_cluster_ips, service_type};
use crate::kinds::Env;
use crate::rules::fields::{self, Fields, items, remove, set};
use crate::rules::ip;

/// Fills defaults of a Service as a client sent it (S1).
pub(crate) fn default(service: &mut Value, _: &Env) {
    if !service.has("/spec") {
        set(service, "/spec", json!({}));
    }
    fields::default(service, "/spec/sessionAffinity", "None");
    default_affinity(service);
    fields::default(service, "/spec/type", "ClusterIP");
    for port in items(service, "/spec/ports") {
        default_port(port);
    }
    if is_externally_accessible(service) {
        fields::default(service, "/spec/externalTrafficPolicy", "Cluster");
    }
    if needs_cluster_ip(service) && !service.has("/spec/internalTrafficPolicy") {
        set(service, "/spec/internalTrafficPolicy", "Cluster");
    }
    if service_type(service) == "LoadBalancer" {
        fields::default(service, "/spec/allocateLoadBalancerNodePorts", true);
    }
    if !service.has("/status/loadBalancer") {
        set(service, "/status/loadBalancer", json!({}));
    }
    default_ingress(service);
}

/// Fills what a stored Service of another server may lack (S24).
pub(crate) fn default_on_read(service: &mut Value, env: &Env) {
    normalize_cluster_ips(service, None);
    default_families(service, env);
    if service_type(service) == "ExternalName" {
        remove(service, "/spec/internalTrafficPolicy");
    }
}

/// Ingress addresses of a LoadBalancer are of mode VIP unless they say otherwise.
pub(super) fn default_ingress(service: &mut Value) {
    if service_type(service) != "LoadBalancer" {
        return;
    }
    for ingress in items(service, "/status/loadBalancer/ingress") {
        if !ingress.text("/ip").is_empty() && !ingress.has("/ipMode") {
            set(ingress, "/ipMode", "VIP");
        }
    }
}

fn default_affinity(service: &mut Value) {
    let timeout = "/spec/sessionAffinityConfig/clientIP/timeoutSeconds";
    match service.text("/spec/sessionAffinity") {
        "None" => drop(remove(service, "/spec/sessionAffinityConfig")),
        "ClientIP" if !service.has(timeout) => {
            let config = json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS } });
            set(service, "/spec/sessionAffinityConfig", config);
        }
        _ => {}
    }
}

fn default_port(port: &mut Value) {
    if !port.is_object() {
        return;
    }
    fields::default(port, "/protocol", "TCP");
    let target = port.at("/targetPort");
    if target.is_null() || target.as_str() == Some("") || target.as_i64() == Some(0) {
        let number = port.int("/port");
        set(port, "/targetPort", number);
    }
}

fn default_families(service: &mut Value, env: &Env) {
    if !needs_cluster_ip(service) || !service.list("/spec/ipFamilies").is_empty() {
        return;
    }
    let primary = env.families().first().map_or("IPv4", |family| family.as_str());
    let headless = service.text("/spec/clusterIP") == "None";
    let selects = service.map("/spec/selector").next().is_some();
    let families: Vec<&str> = match (headless, selects) {
        (true, true) => vec![primary],
        (true, false) => vec![primary, other(primary)],
        (false, _) => service
            .texts("/spec/clusterIPs")
            .into_iter()
            .map(|address| family_of(address).unwrap_or(primary))
            .collect(),
    };
    if families.is_empty() {
        return;
    }
    let policy = if families.len() == 2 { "RequireDualStack" } else { "SingleStack" };
    let families = json!(families);
    set(service, "/spec/ipFamilies", families);
    set(service, "/spec/ipFamilyPolicy", policy);
}

/// The family of an address as clients write it.
pub(super) fn family_of(address: &str) -> Option<&'static str> {
    let address = ip::unmapped(ip::parse_sloppy(address)?);
    Some(model::Family::of(address).as_str())
}

/// The other of the two families.
pub(super) fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// Three hours.
const AFFINITY_SECONDS: u32 = 10_800;
