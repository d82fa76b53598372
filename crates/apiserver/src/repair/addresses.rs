//! IPAddress objects and the Services that they belong to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use model::Family;
use serde_json::Value;
use wire::rules::{ip, service};

use super::seconds_since;
use crate::alloc::{is_managed, owner_of};
use crate::registry::Registry;
use crate::registry::meta;
use crate::registry::own::Pass;
use crate::store::Transaction;

const COMPONENT: &str = "ipallocator-repair-controller";
/// Without changes.
const RESYNC: Duration = Duration::from_secs(180);
/// While something waits for its grace.
const SOON: Duration = Duration::from_secs(5);
/// A wrong reference this old is put right.
const REFERENCE_GRACE: i64 = 5;
/// An address that nobody uses is freed at this age.
const LEAK_GRACE: i64 = 60;

/// The loop, and what it has already told.
#[derive(Default)]
pub(super) struct Repair {
    /// Problems that only people can solve, by Service and address: told once.
    told: BTreeMap<(String, String), &'static str>,
    /// Since when a reference has been wrong.
    wrong_since: BTreeMap<IpAddr, Timestamp>,
}

impl Pass for Repair {
    const KINDS: &'static [(&'static str, &'static str)] = &[
        ("", "services"),
        ("networking.k8s.io", "ipaddresses"),
        ("networking.k8s.io", "servicecidrs"),
    ];

    async fn run(&mut self, registry: &Registry) -> Duration {
        let now = Timestamp::now();
        let mut again = RESYNC;
        for service in registry.all("", "services") {
            if !service::needs_cluster_ip(&service) || service::is_headless(&service) {
                continue;
            }
            for text in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
                let text = text.as_str().unwrap_or("");
                if !self.check(registry, &service, text, now).await {
                    again = SOON;
                }
            }
        }
        for object in registry.all("networking.k8s.io", "ipaddresses") {
            if !free_leaked(registry, &object, now).await {
                again = SOON;
            }
        }
        again
    }
}

impl Repair {
    /// One address of one Service. False when it has to be looked at again soon.
    async fn check(
        &mut self,
        registry: &Registry,
        service: &Value,
        text: &str,
        now: Timestamp,
    ) -> bool {
        let Some(address) = ip::parse_sloppy(text).map(ip::unmapped) else {
            let message = format!("Cluster IP {text} is not a valid IP; please recreate service");
            self.tell(registry, service, text, "ClusterIPNotValid", &message).await;
            return true;
        };
        let family = Family::of(address);
        let ranges = registry.allocator.ranges(family);
        if !ranges.iter().any(|range| range.is_usable(address)) {
            let message = format!(
                "Cluster IP [{family}]:{address} is not within any configured Service CIDR; please recreate service"
            );
            self.tell(registry, service, text, "ClusterIPOutOfRange", &message).await;
            return true;
        }
        let key = registry.allocator.address_key(address);
        let Some(record) = registry.store.get(&key) else {
            if !registry.allocator.is_pending(address) {
                reserve(registry, service, address, None).await;
                let message =
                    format!("Cluster IP [{family}]:{address} is not allocated; repairing");
                self.tell(registry, service, text, "ClusterIPNotAllocated", &message).await;
            }
            return true;
        };
        let object = record.value();
        if owner_of(&object) == (meta::text(service, "namespace"), meta::text(service, "name")) {
            self.wrong_since.remove(&address);
            self.told.retain(|(uid, told), _| uid != meta::text(service, "uid") || told != text);
            return true;
        }
        if uses(registry, owner_of(&object), address) {
            let message = format!(
                "Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service"
            );
            self.tell(registry, service, text, "ClusterIPAlreadyAllocated", &message).await;
            return true;
        }
        let since = *self.wrong_since.entry(address).or_insert(now);
        if now.duration_since(since).as_secs() < REFERENCE_GRACE {
            return false;
        }
        self.wrong_since.remove(&address);
        reserve(registry, service, address, Some(record.version)).await;
        let message =
            format!("Cluster IP [{family}]:{address} IPAddress has a wrong reference; repairing");
        self.tell(registry, service, text, "IPAddressWrongReference", &message).await;
        true
    }

    async fn tell(
        &mut self,
        registry: &Registry,
        service: &Value,
        text: &str,
        reason: &'static str,
        message: &str,
    ) {
        let key = (meta::text(service, "uid").to_owned(), text.to_owned());
        if self.told.insert(key, reason) != Some(reason) {
            registry.tell(service, COMPONENT, reason, message).await;
        }
    }
}

/// Writes the IPAddress object of a Service that still exists as it was read; replaces one of
/// this version. When something has changed meanwhile, the next pass decides anew.
async fn reserve(registry: &Registry, service: &Value, address: IpAddr, replace: Option<u64>) {
    let (namespace, name) = (meta::text(service, "namespace"), meta::text(service, "name"));
    let Some(own) = registry.own(("", "services"), namespace, name) else { return };
    let Ok(version) = meta::text(service, "resourceVersion").parse() else { return };
    let object = registry.allocator.address_object(address, namespace, name, &registry.resources);
    let key = registry.allocator.address_key(address);
    let mut transaction = Transaction::default();
    transaction.require(registry.resources.key(own.row, namespace, name), version);
    match replace {
        Some(version) => transaction.replace(key, version, object),
        None => transaction.create(key, object),
    }
    if let Err(error) = registry.store.commit(transaction).await {
        tracing::debug!(%address, %error, "address not repaired");
    }
}

/// Frees an address of the allocator that no Service uses. False when it has to be looked at
/// again soon.
async fn free_leaked(registry: &Registry, object: &Value, now: Timestamp) -> bool {
    let Ok(address) = meta::text(object, "name").parse::<IpAddr>() else { return true };
    if !is_managed(object) || uses(registry, owner_of(object), address) {
        return true;
    }
    if seconds_since(object, "creationTimestamp", now) < LEAK_GRACE {
        return false;
    }
    let Ok(version) = meta::text(object, "resourceVersion").parse() else { return true };
    let mut transaction = Transaction::default();
    transaction.delete(registry.allocator.address_key(address), version, None);
    if registry.store.commit(transaction).await.is_ok() {
        let family = Family::of(address);
        let message =
            format!("IPAddress: {address} for Service is not allocated [{family}]; cleaning up");
        registry.tell(object, COMPONENT, "IPAddressNotAllocated", &message).await;
    }
    true
}

/// Whether this Service exists and has this address.
fn uses(registry: &Registry, (namespace, name): (&str, &str), address: IpAddr) -> bool {
    let own = registry.own(("", "services"), namespace, name);
    let service = own.filter(|own| !own.name.is_empty()).and_then(|own| own.get());
    service.is_some_and(|service| registry.allocator.addresses(&service).contains(&address))
}
