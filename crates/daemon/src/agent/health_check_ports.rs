//! `healthCheckNodePort`: external load balancers ask whether this node has local
//! endpoints of a Service (semantics 4.10).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;
use model::{Event, EventKind, Meta, NodeView, Port, ServiceName};
use serde_json::json;

use super::health::Health;
use crate::http::{Answer, Server};

/// One server per Service and node address.
#[derive(Debug)]
pub(crate) struct HealthCheckPorts {
    health: Arc<Health>,
    servers: BTreeMap<(ServiceName, Port), Checked>,
}

#[derive(Debug)]
struct Checked {
    local_endpoints: Arc<AtomicUsize>,
    servers: BTreeMap<IpAddr, Server>,
    /// Whether the failure to listen has been told.
    told: bool,
}

impl HealthCheckPorts {
    pub(crate) fn new(health: Arc<Health>) -> Self {
        Self { health, servers: BTreeMap::new() }
    }

    /// Opens, closes and updates servers as the view says. Returns an event for each Service
    /// whose port cannot be opened, once; opening is tried again with every update.
    pub(crate) fn update(&mut self, view: &NodeView) -> Vec<Event> {
        let wanted: BTreeMap<(ServiceName, Port), usize> = view
            .services
            .values()
            .filter_map(|service| {
                let (port, local) = service.health_check?;
                Some(((service.name.clone(), port), local))
            })
            .collect();
        self.servers.retain(|key, _| wanted.contains_key(key));
        let mut events = Vec::new();
        for ((service, port), local) in wanted {
            let checked = self.servers.entry((service.clone(), port)).or_insert_with(|| Checked {
                local_endpoints: Arc::new(AtomicUsize::new(0)),
                servers: BTreeMap::new(),
                told: false,
            });
            checked.local_endpoints.store(local, Ordering::Relaxed);
            let addresses = &view.context.node_addresses;
            match checked.listen(&service, port, addresses, &self.health) {
                Ok(()) => checked.told = false,
                Err(error) => {
                    let told = std::mem::replace(&mut checked.told, true);
                    events.extend((!told).then(|| failed(&service, port, &error)));
                }
            }
        }
        events
    }
}

impl Checked {
    fn listen(
        &mut self,
        service: &ServiceName,
        port: Port,
        addresses: &BTreeSet<IpAddr>,
        health: &Arc<Health>,
    ) -> std::io::Result<()> {
        self.servers.retain(|address, _| addresses.contains(address));
        for &address in addresses {
            if self.servers.contains_key(&address) {
                continue;
            }
            let (service, health) = (service.clone(), Arc::clone(health));
            let local = Arc::clone(&self.local_endpoints);
            let server = Server::start(SocketAddr::new(address, port.get()), move |_path| {
                answer(&service, local.load(Ordering::Relaxed), health.is_healthy())
            })?;
            self.servers.insert(address, server);
        }
        Ok(())
    }
}

fn answer(service: &ServiceName, local: usize, healthy: bool) -> Answer {
    let status =
        if local > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "service": { "namespace": service.namespace.as_str(), "name": service.name.as_str() },
        "localEndpoints": local,
        "serviceProxyHealthy": healthy,
    });
    let mut answer = Answer::json(status, &body);
    answer.headers = vec![
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-load-balancing-endpoint-weight", local.to_string()),
    ];
    answer
}

fn failed(service: &ServiceName, port: Port, error: &std::io::Error) -> Event {
    Event {
        api_version: "v1".into(),
        kind: "Service".into(),
        regarding: Meta::new(service.namespace.clone(), service.name.clone()),
        event_kind: EventKind::Warning,
        reason: "FailedToStartServiceHealthcheck".to_owned(),
        message: format!("could not serve health checks on node port {port}: {error}"),
        component: "portolan-agent".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_endpoints_of_a_healthy_agent_are_worth_traffic() {
        let service = ServiceName::new("default", "web");
        assert_eq!(answer(&service, 1, true).status, StatusCode::OK);
        assert_eq!(answer(&service, 0, true).status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer(&service, 1, false).status, StatusCode::SERVICE_UNAVAILABLE);
        let weight = ("x-load-balancing-endpoint-weight", "2".to_owned());
        assert!(answer(&service, 2, true).headers.contains(&weight));
    }
}
