//! What a write has taken and will give back.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::held::{Held, held_ports, lock};
use super::ip_address::ip_address;
use crate::meta;
use crate::resources::Resources;
use crate::store::{Key, Transaction};

/// Addresses and ports of one write. Dropped without [`Self::keep`], it gives back what it took.
#[derive(Default)]
pub(crate) struct Reservation {
    pub(super) held: Arc<Mutex<Held>>,
    dry_run: bool,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    released_addresses: Vec<(IpAddr, u64)>,
    released_ports: Vec<u16>,
}

impl Reservation {
    pub(super) fn new(held: Arc<Mutex<Held>>, dry_run: bool) -> Self {
        let mut reservation = Self::default();
        reservation.held = held;
        reservation.dry_run = dry_run;
        reservation
    }

    /// A11.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn add_address(&mut self, address: IpAddr) {
        self.addresses.push(address);
    }

    pub(super) fn add_port(&mut self, port: u16) {
        if !self.dry_run {
            self.ports.push(port);
        }
    }

    pub(super) fn release_addresses(&mut self, addresses: Vec<(IpAddr, u64)>) {
        self.released_addresses.extend(addresses);
    }

    /// Notes the ports that the changed Service no longer has.
    pub(super) fn release_ports_lost(&mut self, new: &Value, old: &Value) {
        let kept = held_ports(new);
        self.released_ports.extend(held_ports(old).difference(&kept));
    }

    /// Adds the IPAddress objects to the transaction that writes the Service (A4).
    pub(crate) fn write(
        &self,
        transaction: &mut Transaction,
        resources: &Resources,
        service: &Value,
    ) {
        let Some(row) = resources.find("networking.k8s.io", "ipaddresses") else { return };
        let (namespace, name) = (meta::text(service, "namespace"), meta::text(service, "name"));
        let key = |address: &IpAddr| -> Key { resources.key(&row, "", &address.to_string()) };
        for address in &self.addresses {
            let object = ip_address(*address, namespace, name, resources);
            transaction.create(key(address), object);
        }
        for (address, version) in &self.released_addresses {
            transaction.delete(key(address), *version, None);
        }
    }

    /// The write is stored: what it took stays taken, what it gave back is free.
    pub(crate) fn keep(mut self) {
        let mut held = lock(&self.held);
        for port in &self.released_ports {
            held.ports.remove(port);
        }
        drop(held);
        self.ports.clear();
    }
}

impl Drop for Reservation {
    /// A6.
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        // Once stored, the IPAddress object says that the address is taken.
        for address in &self.addresses {
            held.addresses.remove(address);
        }
        for port in &self.ports {
            held.ports.remove(port);
        }
    }
}
