//! Cluster IPs.

use std::net::IpAddr;
use std::time::Instant;

use model::{Family, IpNet};
use plan::allocate::{AddressRange, StaticRefusal};
use serde_json::Value;
use wire::rules::{ip, service};
use wire::status;

use super::ip_address::{is_managed, owner_of};
use super::metrics::{CidrLabel, Scope};
use super::reservation::Reservation;
use super::{Allocator, invalid_field};
use crate::meta;
use crate::refusal::{Outcome, Refusal};

/// Wider IPv6 ranges cannot be allocated from.
const WIDEST_IPV6: u8 = 64;

impl Allocator {
    /// Takes an address for every family from position `first` on: the one that the Service asks
    /// for, or any.
    pub(super) fn take_addresses(
        &self,
        service: &mut Value,
        first: usize,
        reservation: &mut Reservation,
    ) -> Outcome<()> {
        let families: Vec<Family> = texts(service, "ipFamilies")
            .iter()
            .map(|family| if family == "IPv6" { Family::V6 } else { Family::V4 })
            .collect();
        let mut addresses = texts(service, "clusterIPs");
        for (position, family) in families.into_iter().enumerate().skip(first) {
            let asked = addresses.get(position).cloned().unwrap_or_default();
            let began = Instant::now();
            let address = if asked.is_empty() {
                self.take_any(service, family, reservation)?
            } else {
                self.take_static(service, &asked, family, reservation)?
            };
            self.time(&address, family, began);
            addresses.resize(addresses.len().max(position + 1), String::new());
            addresses[position] = address;
        }
        service["spec"]["clusterIP"] = addresses.first().cloned().unwrap_or_default().into();
        service["spec"]["clusterIPs"] = addresses.into();
        Ok(())
    }

    /// What an update takes and gives back: coming from or going to ExternalName, gaining or
    /// losing the second family. Headless Services have no addresses.
    pub(super) fn update_addresses(
        &self,
        new: &mut Value,
        old: &Value,
        reservation: &mut Reservation,
    ) -> Outcome<()> {
        if service::is_headless(new) || service::is_headless(old) {
            return Ok(());
        }
        match (service::needs_cluster_ip(old), service::needs_cluster_ip(new)) {
            (false, true) => self.take_addresses(new, 0, reservation),
            (true, false) => {
                reservation.release_addresses(self.owned_addresses(old, &addresses_of(old)));
                Ok(())
            }
            (true, true) => self.change_second(new, old, reservation),
            (false, false) => Ok(()),
        }
    }

    /// A12.
    fn change_second(
        &self,
        new: &mut Value,
        old: &Value,
        reservation: &mut Reservation,
    ) -> Outcome<()> {
        let count = |service: &Value| texts(service, "ipFamilies").len();
        if count(old) == 1 && count(new) == 2 {
            return self.take_addresses(new, 1, reservation);
        }
        if count(old) == 2 && count(new) == 1 {
            let second: Vec<IpAddr> = addresses_of(old).into_iter().skip(1).collect();
            reservation.release_addresses(self.owned_addresses(old, &second));
        }
        Ok(())
    }

    /// The IPAddress objects of these addresses that belong to this Service, with their versions.
    pub(crate) fn owned_addresses(
        &self,
        service: &Value,
        addresses: &[IpAddr],
    ) -> Vec<(IpAddr, u64)> {
        let owner = (meta::text(service, "namespace"), meta::text(service, "name"));
        let mut owned = Vec::new();
        for address in addresses {
            let Some(record) = self.store.get(&self.address_key(*address)) else { continue };
            let object = record.value();
            if is_managed(&object) && owner_of(&object) == owner {
                owned.push((*address, record.version));
            }
        }
        owned
    }

    /// The addresses of a Service's spec.
    pub(crate) fn addresses(&self, service: &Value) -> Vec<IpAddr> {
        addresses_of(service)
    }

    /// The ranges of a family from which Services get addresses now, the default ones first.
    pub(crate) fn ranges(&self, family: Family) -> Vec<AddressRange> {
        let mut ranges = Vec::new();
        for (name, record) in self.store.list(self.cidrs, "").objects {
            let cidr = record.value();
            if !is_ready(&cidr) {
                continue;
            }
            let range = texts(&cidr, "cidrs")
                .iter()
                .filter_map(|cidr| cidr.parse::<IpNet>().ok())
                .map(AddressRange::new)
                .find(|range| range.family() == family && is_usable(*range));
            ranges.extend(range.map(|range| (&*name != "kubernetes", range)));
        }
        ranges.sort();
        ranges.dedup();
        ranges.into_iter().map(|(_, range)| range).collect()
    }

    /// Measures how full the ranges are (A23).
    pub(super) fn measure_ranges(&self) {
        self.metrics.forget_ranges();
        let used: Vec<IpAddr> = self
            .store
            .list(self.addresses, "")
            .objects
            .into_iter()
            .filter_map(|(name, _)| name.parse().ok())
            .collect();
        for range in [Family::V4, Family::V6].into_iter().flat_map(|family| self.ranges(family)) {
            let allocated = used.iter().filter(|address| range.is_usable(**address)).count();
            let allocated = u128::try_from(allocated).unwrap_or_default();
            let available = range.count().saturating_sub(allocated);
            self.metrics.fill(range.network().to_string(), allocated, available);
        }
    }

    fn time(&self, address: &str, family: Family, began: Instant) {
        let address = ip::parse_sloppy(address).map(ip::unmapped);
        let ranges = self.ranges(family);
        let range = ranges.iter().find(|range| address.is_some_and(|one| range.is_usable(one)));
        if let Some(range) = range {
            let label = CidrLabel { cidr: range.network().to_string() };
            let seconds = began.elapsed().as_secs_f64();
            self.metrics.address_seconds.get_or_create(&label).observe(seconds);
        }
    }

    fn take_any(
        &self,
        service: &Value,
        family: Family,
        reservation: &mut Reservation,
    ) -> Outcome<String> {
        let ranges = self.ranges(family);
        if reservation.is_dry_run() {
            // Nothing is looked at: the network address stands for "some address".
            let address = ranges.first().map(|range| range.network().network().to_string());
            return Ok(address.unwrap_or_default());
        }
        let start = u128::from_ne_bytes(meta::random());
        let mut held = self.held();
        let address = ranges.iter().find_map(|range| {
            range.pick(start, |address| {
                held.addresses.contains(&address)
                    || self.store.get(&self.address_key(address)).is_some()
            })
        });
        for range in &ranges {
            // The ranges before the one that gives are full.
            let gives = address.is_some_and(|address| range.is_usable(address));
            self.metrics.address(range.network().to_string(), Scope::Dynamic, gives);
            if gives {
                break;
            }
        }
        let Some(address) = address else {
            let name = status::quote(meta::text(service, "name"));
            let text = format!("failed to allocate a serviceIP for Service {name}: range is full");
            return Err(status::internal(&text).into());
        };
        if meta::text(service, "name").is_empty() {
            return Err(nameless(service, address));
        }
        held.addresses.insert(address);
        reservation.add_address(address);
        Ok(address.to_string())
    }

    /// A3, A5.
    fn take_static(
        &self,
        service: &Value,
        asked: &str,
        family: Family,
        reservation: &mut Reservation,
    ) -> Outcome<String> {
        let refuse = |why: &str| {
            let list = &service["spec"]["clusterIPs"];
            let text = format!("Invalid value: {list}: failed to allocate IP {asked}: {why}");
            Err(invalid_field(service, "spec.clusterIPs", text))
        };
        let Some(address) = ip::parse_sloppy(asked).map(ip::unmapped) else {
            return refuse("the provided IP address is not valid");
        };
        let ranges = self.ranges(family);
        let mut held = self.held();
        let is_dry_run = reservation.is_dry_run();
        let checked = ranges
            .iter()
            .find(|range| range.is_usable(address))
            .ok_or(StaticRefusal::NotInRange)
            .and_then(|range| {
                range.check_static(address, |address| {
                    !is_dry_run
                        && (held.addresses.contains(&address)
                            || self.store.get(&self.address_key(address)).is_some())
                })
            });
        let range = ranges.iter().find(|range| range.is_usable(address));
        if let Some(range) = range.filter(|_| !is_dry_run) {
            self.metrics.address(range.network().to_string(), Scope::Static, checked.is_ok());
        }
        match checked {
            Ok(()) if is_dry_run => Ok(asked.to_owned()),
            Ok(()) => {
                held.addresses.insert(address);
                reservation.add_address(address);
                Ok(asked.to_owned())
            }
            Err(StaticRefusal::NotInRange) => {
                refuse("the provided network does not match the current range")
            }
            Err(StaticRefusal::Allocated) => refuse("provided IP is already allocated"),
        }
    }
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let addresses = texts(service, "clusterIPs");
    addresses.iter().filter_map(|text| ip::parse_sloppy(text)).map(ip::unmapped).collect()
}

fn texts(object: &Value, field: &str) -> Vec<String> {
    let list = object["spec"][field].as_array();
    list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A ServiceCIDR without conditions counts as ready; one being deleted does not.
fn is_ready(cidr: &Value) -> bool {
    let conditions = cidr["status"]["conditions"].as_array();
    let is_refused =
        |condition: &Value| condition["type"] == "Ready" && condition["status"] != "True";
    !meta::is_deleting(cidr) && !conditions.into_iter().flatten().any(is_refused)
}

fn is_usable(range: AddressRange) -> bool {
    range.family() == Family::V4 || range.network().prefix_len() >= WIDEST_IPV6
}

/// A Service without a name fails here, because its IPAddress object would refer to nothing.
fn nameless(service: &Value, address: IpAddr) -> Refusal {
    let text = format!(
        "Invalid value: [\"\"]: failed to allocate IP: IPAddress.networking.k8s.io \"{address}\" \
         is invalid: spec.parentRef.name: Required value"
    );
    invalid_field(service, "spec.clusterIPs", text)
}
