//! IPAddress objects and the Services that they belong to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::Family;
use serde_json::Value;
use wire::rules::{ip, service};

use super::age::seconds_since;
use crate::alloc::{TypeLabel, is_managed, owner_of};
use crate::meta;
use crate::poststart::pass::{self, Look, Pass};
use crate::registry::Registry;
use crate::registry::own::Kind;
use crate::store::{Event, Transaction};

const SERVICES: Kind = ("", "services");
const ADDRESSES: Kind = ("networking.k8s.io", "ipaddresses");
const CIDRS: Kind = ("networking.k8s.io", "servicecidrs");

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
    const KINDS: &'static [Kind] = &[SERVICES, ADDRESSES, CIDRS];

    async fn run(&mut self, registry: &Registry, look: Look) -> Duration {
        let now = Timestamp::now();
        match look {
            Look::Changed(changes) if changes.iter().all(|(kind, _)| *kind != CIDRS) => {
                self.look_at(registry, &changes, now).await
            }
            _ => self.look_at_all(registry, now).await,
        }
    }
}

impl Repair {
    async fn look_at_all(&mut self, registry: &Registry, now: Timestamp) -> Duration {
        let mut again = RESYNC;
        for (position, service) in registry.all(SERVICES).into_iter().enumerate() {
            pass::pause(position).await;
            again = again.min(self.check_service(registry, &service.value(), now).await);
        }
        for (position, object) in registry.all(ADDRESSES).into_iter().enumerate() {
            pass::pause(position).await;
            again = again.min(free_leaked(registry, &object.value(), now).await);
        }
        again
    }

    /// Services that have changed, and those to which changed addresses belong.
    async fn look_at(
        &mut self,
        registry: &Registry,
        changes: &[(Kind, Arc<Event>)],
        now: Timestamp,
    ) -> Duration {
        let mut again = RESYNC;
        for (kind, event) in changes {
            let object = event.object.value();
            let is_service = *kind == SERVICES;
            let (namespace, name) = if is_service {
                (meta::text(&object, "namespace"), meta::text(&object, "name"))
            } else {
                owner_of(&object)
            };
            let service = registry.own(SERVICES, namespace, name).and_then(|own| own.get());
            if let Some(service) = service {
                again = again.min(self.check_service(registry, &service, now).await);
            }
            if !is_service && !event.deleted {
                again = again.min(free_leaked(registry, &object, now).await);
            }
        }
        again
    }

    /// All addresses of one Service (A13).
    async fn check_service(
        &mut self,
        registry: &Registry,
        service: &Value,
        now: Timestamp,
    ) -> Duration {
        if !service::needs_cluster_ip(service) || service::is_headless(service) {
            return RESYNC;
        }
        let mut again = RESYNC;
        for text in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
            let text = text.as_str().unwrap_or("");
            if !self.check(registry, service, text, now).await {
                again = SOON;
            }
        }
        again
    }

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
            let label = TypeLabel {
                r#type: match reason {
                    "ClusterIPNotValid" => "invalid",
                    "ClusterIPOutOfRange" => "outOfRange",
                    "ClusterIPAlreadyAllocated" => "duplicate",
                    _ => "repair",
                },
            };
            registry.allocator.metrics().repaired_addresses.get_or_create(&label).inc();
            registry.tell(service, COMPONENT, reason, message).await;
        }
    }
}

/// Writes the IPAddress object of a Service that still exists as it was read; replaces one of
/// this version. When something has changed meanwhile, the next pass decides anew.
async fn reserve(registry: &Registry, service: &Value, address: IpAddr, replace: Option<u64>) {
    let (namespace, name) = (meta::text(service, "namespace"), meta::text(service, "name"));
    let Some(own) = registry.own(SERVICES, namespace, name) else { return };
    let Ok(version) = meta::text(service, "resourceVersion").parse() else { return };
    let object = registry.allocator.address_object(address, namespace, name, &registry.resources);
    let key = registry.allocator.address_key(address);
    let mut transaction = Transaction::default();
    transaction.require(registry.resources.key(&own.row, namespace, name), version);
    match replace {
        Some(version) => transaction.replace(key, version, object),
        None => transaction.create(key, object),
    }
    if let Err(error) = registry.store.commit(transaction).await {
        tracing::debug!(%address, %error, "address not repaired");
    }
}

/// Frees an address of the allocator that no Service uses, and says when to look again (A14).
/// Those that people have made are theirs (A15).
pub(super) async fn free_leaked(registry: &Registry, object: &Value, now: Timestamp) -> Duration {
    let Ok(address) = meta::text(object, "name").parse::<IpAddr>() else { return RESYNC };
    if !is_managed(object) || uses(registry, owner_of(object), address) {
        return RESYNC;
    }
    let age = seconds_since(object, "creationTimestamp", now);
    if let Ok(wait @ 1..) = u64::try_from(LEAK_GRACE - age) {
        return Duration::from_secs(wait);
    }
    let Ok(version) = meta::text(object, "resourceVersion").parse() else { return RESYNC };
    let mut transaction = Transaction::default();
    transaction.delete(registry.allocator.address_key(address), version, None);
    if registry.store.commit(transaction).await.is_ok() {
        let family = Family::of(address);
        let message =
            format!("IPAddress: {address} for Service is not allocated [{family}]; cleaning up");
        registry.tell(object, COMPONENT, "IPAddressNotAllocated", &message).await;
    }
    RESYNC
}

/// Whether this Service exists and has this address.
fn uses(registry: &Registry, (namespace, name): (&str, &str), address: IpAddr) -> bool {
    let own = registry.own(SERVICES, namespace, name);
    let service = own.filter(|own| !own.name.is_empty()).and_then(|own| own.get());
    service.is_some_and(|service| registry.allocator.addresses(&service).contains(&address))
}
