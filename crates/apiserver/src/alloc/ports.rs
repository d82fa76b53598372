//! Node ports and health check node ports. One pool serves both, whatever the protocol.

use std::collections::{BTreeMap, BTreeSet};

use model::NodePort;
use plan::allocate::{PortRange, StaticRefusal};
use serde_json::Value;
use wire::kinds::Env;
use wire::rules::service;
use wire::status;

use super::held::{has_node_ports, held_node_ports, lock};
use super::invalid_field;
use super::metrics::{Metrics, Scope};
use super::reservation::Reservation;
use crate::meta;
use crate::refusal::Outcome;

/// The port numbers that one request takes.
pub(super) struct PortRequest<'a> {
    range: Option<PortRange>,
    limits: (u16, u16),
    metrics: &'a Metrics,
    reservation: &'a mut Reservation,
    /// What this request has taken so far.
    taken: BTreeSet<u16>,
}

/// A dry run's first made-up number (portallocator `operation.go`).
const DRY_RUN_BELOW: u16 = 32768;

impl<'a> PortRequest<'a> {
    pub(super) fn new(env: &Env, metrics: &'a Metrics, reservation: &'a mut Reservation) -> Self {
        let (first, last) = env.node_ports;
        let range = NodePort::new(first).zip(NodePort::new(last));
        Self {
            range: range.map(|(first, last)| PortRange::new(first..=last)),
            limits: env.node_ports,
            metrics,
            reservation,
            taken: BTreeSet::new(),
        }
    }

    /// Node ports of a new Service: ports with equal numbers share one (A8).
    pub(super) fn for_new(&mut self, service: &mut Value) -> Outcome<()> {
        if !has_node_ports(service) {
            return Ok(());
        }
        let allocate = service::needs_node_ports(service);
        let mut ports = ports_of(service);
        let mut by_port: BTreeMap<i64, u16> = BTreeMap::new();
        for index in 0..ports.len() {
            let Port { port, node_port, .. } = ports[index];
            if node_port == 0 && !allocate {
                continue;
            }
            let Some(shared) = by_port.get(&port).copied() else {
                // Somebody behind may ask for a number for the same port.
                let asked = ports.iter().filter(|other| other.port == port && other.node_port != 0);
                let taken = match asked.map(|other| other.node_port).next() {
                    Some(asked) => self.take_static(service, index, asked)?,
                    None => self.take_any()?,
                };
                by_port.insert(port, taken);
                ports[index].node_port = taken.into();
                continue;
            };
            if node_port == 0 {
                ports[index].node_port = shared.into();
            } else if node_port != i64::from(shared) {
                self.take_static(service, index, node_port)?;
            }
        }
        set_node_ports(service, &ports);
        Ok(())
    }

    /// Node ports of a changed Service: a number may serve several protocols, and every port
    /// without one gets its own.
    pub(super) fn for_changed(&mut self, new: &mut Value, old: &Value) -> Outcome<()> {
        if !has_node_ports(new) {
            return Ok(());
        }
        let allocate = service::needs_node_ports(new);
        let known = held_node_ports(old);
        let mut seen: Vec<(String, i64)> = Vec::new();
        let mut ports = ports_of(new);
        for (index, port) in ports.iter_mut().enumerate() {
            let node_port = port.node_port;
            if node_port == 0 {
                if !allocate {
                    continue;
                }
                port.node_port = self.take_any()?.into();
            } else {
                let is_known = u16::try_from(node_port)
                    .is_ok_and(|port| known.contains(&port) || self.taken.contains(&port));
                if !is_known {
                    self.take_static(new, index, node_port)?;
                }
            }
            let pair = (port.protocol.clone(), port.node_port);
            if seen.contains(&pair) {
                let text = format!("duplicate nodePort: {{{} {}}}", pair.0, pair.1);
                return Err(status::untyped(text).into());
            }
            seen.push(pair);
        }
        set_node_ports(new, &ports);
        Ok(())
    }

    /// The health check node port: the one asked for, or any (A7).
    pub(super) fn for_health_check(&mut self, service: &mut Value) -> Outcome<()> {
        let asked = service["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0);
        let port = if asked == 0 {
            self.take_any().map_err(|_full| {
                status::internal("failed to allocate a HealthCheck NodePort 0: range is full")
            })?
        } else {
            self.try_static(asked).map_err(|why| {
                status::internal(&format!(
                    "failed to allocate requested HealthCheck NodePort {asked}: {why}"
                ))
            })?
        };
        service["spec"]["healthCheckNodePort"] = port.into();
        Ok(())
    }

    fn take_static(&mut self, service: &Value, index: usize, asked: i64) -> Outcome<u16> {
        self.try_static(asked).map_err(|why| {
            let field = format!("spec.ports[{index}].nodePort");
            invalid_field(service, &field, format!("Invalid value: {asked}: {why}"))
        })
    }

    /// A9.
    fn try_static(&mut self, asked: i64) -> Result<u16, String> {
        let taken = self.find_static(asked);
        if !self.reservation.is_dry_run() {
            self.metrics.port(Scope::Static, taken.is_ok());
        }
        taken
    }

    fn find_static(&mut self, asked: i64) -> Result<u16, String> {
        let (first, last) = self.limits;
        let outside = || {
            format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )
        };
        let port = u16::try_from(asked).ok().and_then(NodePort::new).ok_or_else(outside)?;
        let range = self.range.ok_or_else(outside)?;
        let mut held = lock(&self.reservation.held);
        let is_used =
            |port: NodePort| held.ports.contains(&port.get()) || self.taken.contains(&port.get());
        match range.check_static(port, is_used) {
            Ok(()) => {}
            Err(StaticRefusal::NotInRange) => return Err(outside()),
            Err(StaticRefusal::Allocated) => {
                return Err("provided port is already allocated".to_owned());
            }
        }
        if !self.reservation.is_dry_run() {
            held.ports.insert(port.get());
        }
        drop(held);
        self.remember(port.get());
        Ok(port.get())
    }

    /// A10.
    fn take_any(&mut self) -> Outcome<u16> {
        if self.reservation.is_dry_run() {
            let highest = self.taken.last().copied().unwrap_or(DRY_RUN_BELOW);
            let made_up = highest.saturating_add(1);
            self.remember(made_up);
            return Ok(made_up);
        }
        let start = u128::from_ne_bytes(meta::random());
        let mut held = lock(&self.reservation.held);
        let port =
            self.range.and_then(|range| range.pick(start, |port| held.ports.contains(&port.get())));
        self.metrics.port(Scope::Dynamic, port.is_some());
        let Some(port) = port.map(NodePort::get) else {
            return Err(status::internal("failed to allocate a nodePort: range is full").into());
        };
        held.ports.insert(port);
        drop(held);
        self.remember(port);
        Ok(port)
    }

    fn remember(&mut self, port: u16) {
        self.taken.insert(port);
        self.reservation.add_port(port);
    }
}

struct Port {
    port: i64,
    protocol: String,
    node_port: i64,
}

fn ports_of(service: &Value) -> Vec<Port> {
    let number = |port: &Value, field: &str| port[field].as_i64().unwrap_or(0);
    let parse = |port: &Value| Port {
        port: number(port, "port"),
        protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
        node_port: number(port, "nodePort"),
    };
    service["spec"]["ports"].as_array().into_iter().flatten().map(parse).collect()
}

fn set_node_ports(service: &mut Value, ports: &[Port]) {
    let Some(objects) = service["spec"]["ports"].as_array_mut() else { return };
    for (object, port) in objects.iter_mut().zip(ports) {
        if port.node_port != 0 && object.is_object() {
            object["nodePort"] = port.node_port.into();
        }
    }
}
