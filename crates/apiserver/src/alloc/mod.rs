//! Addresses and node ports of Services (semantics 2).
//!
//! What it is: the allocator phase of creating and changing a Service. IPAddress objects are the
//! truth about addresses; those of a new Service are written in one transaction with it. Node
//! ports are the truth of the Services themselves and are remembered in memory.
//!
//! What it is not: it does not choose (see `plan::allocate`) and checks no Service (see `wire`).
//!
//! ```text
//!  Service ─▶ families (wire) ─▶ addresses, ports (plan) ─▶ Reservation ─▶ one transaction
//!                                                            │ dropped: everything is given back
//! ```

mod addresses;
mod held;
mod ip_address;
mod metrics;
mod ports;
mod reservation;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use wire::kinds::{Env, find};
use wire::rules::service;
use wire::status::{self, CauseReason, FieldError};

use crate::meta;
use crate::refusal::{Outcome, Refusal};
use crate::resources::Resources;
use crate::store::{Key, Store};

pub(crate) use held::held_ports;
pub(crate) use ip_address::{is_managed, owner_of};
pub(crate) use metrics::{Metrics, TypeLabel};
pub(crate) use reservation::Reservation;

use held::{Held, lock};
use ports::PortRequest;

/// The allocator of one server.
pub(crate) struct Allocator {
    store: Arc<Store>,
    env: Env,
    /// The store's number of `ipaddresses`.
    addresses: usize,
    /// The store's number of `servicecidrs`.
    cidrs: usize,
    held: Arc<Mutex<Held>>,
    metrics: Metrics,
}

impl Allocator {
    /// Over the objects of an open store.
    pub(crate) fn new(store: Arc<Store>, resources: &Resources, env: Env) -> Self {
        let number =
            |group, plural| find(group, "v1", plural).map(|row| resources.number(&row.into()));
        let services = number("", "services").unwrap_or_default();
        let mut held = Held::default();
        for (_, record) in store.list(services, "").objects {
            held.ports.extend(held_ports(&record.value()));
        }
        Self {
            addresses: number("networking.k8s.io", "ipaddresses").unwrap_or_default(),
            cidrs: number("networking.k8s.io", "servicecidrs").unwrap_or_default(),
            store,
            env,
            held: Arc::new(Mutex::new(held)),
            metrics: Metrics::new(),
        }
    }

    /// The allocator phase of a new Service. Errors are reported alone (semantics 1.2; S11).
    pub(crate) fn create(&self, new: &mut Value, dry_run: bool) -> Outcome<Reservation> {
        service::normalize_cluster_ips(new, None);
        service::init_families(new, None, &self.env).map_err(|errors| invalid(new, &errors))?;
        let mut reservation = Reservation::new(self.held.clone(), dry_run);
        if service::needs_cluster_ip(new) && !service::is_headless(new) {
            self.take_addresses(new, 0, &mut reservation)?;
        }
        let mut ports = PortRequest::new(&self.env, &self.metrics, &mut reservation);
        ports.for_new(new)?;
        if service::needs_health_check(new) {
            ports.for_health_check(new)?;
        }
        Ok(reservation)
    }

    /// The allocator phase of a changed Service.
    pub(crate) fn update(
        &self,
        new: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Outcome<Reservation> {
        service::patch_allocated_values(new, old);
        service::normalize_cluster_ips(new, Some(old));
        service::init_families(new, Some(old), &self.env)
            .map_err(|errors| invalid(new, &errors))?;
        let mut reservation = Reservation::new(self.held.clone(), dry_run);
        self.update_addresses(new, old, &mut reservation)?;
        let mut ports = PortRequest::new(&self.env, &self.metrics, &mut reservation);
        ports.for_changed(new, old)?;
        let (needed, needs) = (service::needs_health_check(old), service::needs_health_check(new));
        if needs && !needed {
            ports.for_health_check(new)?;
        }
        reservation.release_ports_lost(new, old);
        Ok(reservation)
    }

    /// Gives back the node ports of a Service that is gone.
    pub(crate) fn release_ports(&self, service: &Value) {
        let mut held = self.held();
        for port in held_ports(service) {
            held.ports.remove(&port);
        }
    }

    /// Node ports that are taken.
    pub(crate) fn taken_ports(&self) -> BTreeSet<u16> {
        self.held().ports.clone()
    }

    /// Corrects the node ports that are taken: what repair found.
    pub(crate) fn correct_ports(&self, missing: &[u16], leaked: &[u16]) {
        let mut held = self.held();
        held.ports.extend(missing);
        for port in leaked {
            held.ports.remove(port);
        }
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Measures how full the pools are now.
    pub(crate) fn measure(&self) {
        self.measure_ranges();
        let (first, last) = self.env.node_ports;
        let taken = self.taken_ports();
        let inside = taken.range(first..=last).count();
        let size = usize::from(last.saturating_sub(first)) + 1;
        self.metrics.fill_ports(taken.len(), size - inside);
    }

    /// The IPAddress object of an address.
    pub(crate) fn address_key(&self, address: IpAddr) -> Key {
        Key::new(self.addresses, "", &address.to_string())
    }

    /// The IPAddress object that reserves an address for a Service.
    pub(crate) fn address_object(
        &self,
        address: IpAddr,
        namespace: &str,
        name: &str,
        resources: &Resources,
    ) -> Value {
        ip_address::ip_address(address, namespace, name, resources)
    }

    /// Whether a write under way has the address (A21).
    pub(crate) fn is_pending(&self, address: IpAddr) -> bool {
        self.held().addresses.contains(&address)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

/// 422 about the Service.
fn invalid(service: &Value, errors: &[FieldError]) -> Refusal {
    status::invalid("", "Service", meta::text(service, "name"), errors).into()
}

/// 422 about one field.
fn invalid_field(service: &Value, field: &str, message: String) -> Refusal {
    let field = field.to_owned();
    invalid(service, &[FieldError { field, reason: CauseReason::Invalid, message }])
}
