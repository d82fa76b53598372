//! What an update may leave out because the server once allocated it (semantics 1.4), and what
//! goes when the type changes (semantics 1.5).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{needs_health_check, needs_node_ports, node_ports, service_type};
use crate::rules::fields::{Fields, copy_at, items, remove, set};

/// Fills allocated values that a client left out from the stored Service: cluster IPs, the node
/// port of the port with the same name, the health check node port (S8).
pub fn patch_allocated_values(new: &mut Value, old: &Value) {
    if is_addressed(old) && is_addressed(new) {
        if new.text("/spec/clusterIP").is_empty() {
            copy_at(new, old, "/spec/clusterIP");
        }
        if new.list("/spec/clusterIPs").is_empty() {
            copy_at(new, old, "/spec/clusterIPs");
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        patch_node_ports(new, old);
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.int("/spec/healthCheckNodePort") == 0
    {
        copy_at(new, old, "/spec/healthCheckNodePort");
    }
}

/// Wipes what the new type does not have, as far as the client left it as it was. A value that
/// the client changed stays, for validation to refuse (S9).
pub fn drop_type_dependent(new: &mut Value, old: &Value) {
    let unchanged = |new: &Value, pointer: &str| new.at(pointer) == old.at(pointer);
    if is_addressed(old) && !is_addressed(new) {
        if unchanged(new, "/spec/clusterIPs") {
            remove(new, "/spec/clusterIP");
            remove(new, "/spec/clusterIPs");
        }
        for pointer in ["/spec/ipFamilies", "/spec/ipFamilyPolicy"] {
            if unchanged(new, pointer) {
                remove(new, pointer);
            }
        }
    }
    let has_node_ports =
        |service: &Value| matches!(service_type(service), "NodePort" | "LoadBalancer");
    if has_node_ports(old) && !has_node_ports(new) {
        let known: BTreeSet<i64> = node_ports(old).into_iter().collect();
        if node_ports(new).iter().all(|port| known.contains(port)) {
            for port in items(new, "/spec/ports") {
                remove(port, "/nodePort");
            }
        }
    }
    let balanced = |service: &Value| service_type(service) == "LoadBalancer";
    let lost = [
        (needs_health_check(old) && !needs_health_check(new), "/spec/healthCheckNodePort"),
        (balanced(old) && !balanced(new), "/spec/allocateLoadBalancerNodePorts"),
        (balanced(old) && !balanced(new), "/spec/loadBalancerClass"),
        (
            super::is_externally_accessible(old) && !super::is_externally_accessible(new),
            "/spec/externalTrafficPolicy",
        ),
    ];
    for (lost, pointer) in lost {
        if lost && unchanged(new, pointer) {
            remove(new, pointer);
        }
    }
}

/// Here every type but ExternalName counts, even an unknown one: validation then has nothing to say
/// but that the type is wrong.
fn is_addressed(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

fn patch_node_ports(new: &mut Value, old: &Value) {
    let before: BTreeSet<i64> = node_ports(old).into_iter().collect();
    let mut used: BTreeSet<i64> =
        node_ports(new).into_iter().filter(|port| before.contains(port)).collect();
    let by_name: BTreeMap<&str, i64> = old
        .list("/spec/ports")
        .iter()
        .map(|port| (port.text("/name"), port.int("/nodePort")))
        .collect();
    for port in items(new, "/spec/ports") {
        if port.int("/nodePort") != 0 {
            continue;
        }
        let Some(number) = by_name.get(port.text("/name")).copied() else { continue };
        if number != 0 && used.insert(number) {
            set(port, "/nodePort", number);
        }
    }
}
