//! What is taken: by writes under way, and the node ports of stored Services.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use wire::rules::service;

/// What is taken beyond the stored objects.
#[derive(Default)]
pub(crate) struct Held {
    /// Addresses of writes under way.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Node ports of all Services, and of writes under way.
    pub(super) ports: BTreeSet<u16>,
}

pub(super) fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every number that a stored Service has from the pool.
pub(crate) fn held_ports(service: &Value) -> BTreeSet<u16> {
    let mut held = held_node_ports(service);
    let health = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    if service::needs_health_check(service) && health != 0 {
        held.extend(u16::try_from(health).ok());
    }
    held
}

pub(super) fn held_node_ports(service: &Value) -> BTreeSet<u16> {
    if !has_node_ports(service) {
        return BTreeSet::new();
    }
    service::node_ports(service).into_iter().filter_map(|port| u16::try_from(port).ok()).collect()
}

/// ExternalName and ClusterIP Services have none, even if a number is written in one.
pub(super) fn has_node_ports(service: &Value) -> bool {
    matches!(service::service_type(service), "NodePort" | "LoadBalancer")
}
