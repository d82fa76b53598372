//! The legacy Endpoints object of Services with a selector (semantics 3.7).
//!
//! It carries one family only and no terminating pods; the Service proxy of the API server and old
//! clients still read it.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Cluster, Endpoints, EndpointsAddress, EndpointsName, EndpointsSubset, Family, Labels, Meta,
    Pod, Service, ServiceName, ServiceType, SlicePort, Write,
};

use crate::Reconciled;
use crate::selected::{
    HEADLESS, has_address, has_cluster_ip, hostname_of, ports_of, selected, target_of,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in an Endpoints object.
const MAX_ADDRESSES: usize = 1000;

/// Brings the Endpoints object of a Service in line with its pods.
///
/// When the Service is gone its object goes, too, but only if this controller made it: Endpoints may
/// be written by hand before their Service (C18).
pub fn endpoints(cluster: &Cluster, name: &ServiceName) -> Reconciled {
    let mut result = Reconciled::default();
    let key = EndpointsName::new(name.namespace.clone(), name.name.clone());
    let existing = cluster.endpoints.get(&key);
    let Some(service) = cluster.services.get(name) else {
        if existing.is_some_and(|object| is_ours(&object.meta)) {
            result.writes.push(Write::DeleteEndpoints(key));
        }
        return result;
    };
    if matches!(service.kind, ServiceType::ExternalName(_)) || service.selector.is_empty() {
        return result;
    }
    let wanted = wanted(cluster, service, existing.map(|object| &object.meta));
    if existing.is_none_or(|object| object.meta != wanted.meta || named(object) != wanted.subsets) {
        result.writes.push(Write::PutEndpoints(Box::new(wanted)));
    }
    result
}

/// The subsets, with the empty name on ports without one: this API cannot tell the two apart.
fn named(object: &Endpoints) -> Vec<EndpointsSubset> {
    let mut subsets = object.subsets.clone();
    for port in subsets.iter_mut().flat_map(|subset| &mut subset.ports) {
        port.name.get_or_insert_with(|| "".into());
    }
    subsets
}

fn is_ours(meta: &Meta) -> bool {
    meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == CONTROLLER)
}

fn wanted(cluster: &Cluster, service: &Service, existing: Option<&Meta>) -> Endpoints {
    let mut subsets = Subsets::default();
    let family = primary_family(service);
    for pod in selected(cluster, &service.meta.namespace, &service.selector) {
        let is_shown = pod.meta.deleting.is_none() || service.publish_not_ready_addresses;
        if !is_shown || !has_address(pod) {
            continue;
        }
        let Some(address) = address(pod, service, family) else { continue };
        let ready = service.publish_not_ready_addresses || pod.ready;
        if service.ports.is_empty() && !has_cluster_ip(service) {
            subsets.add(None, address, ready);
        } else {
            for port in ports_of(pod, service) {
                subsets.add(Some(port), address.clone(), ready);
            }
        }
    }
    let mut subsets = subsets.repack();
    let truncated = truncate(&mut subsets);
    let mut meta = existing
        .cloned()
        .unwrap_or_else(|| Meta::new(service.meta.namespace.clone(), service.meta.name.clone()));
    meta.labels = labels(service);
    if truncated {
        meta.annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        meta.annotations.remove(OVER_CAPACITY);
    }
    Endpoints { meta, subsets }
}

/// The first family, also where the API has not said any.
fn primary_family(service: &Service) -> Option<Family> {
    let of_ip = service.cluster_ips.addresses().first().map(|address| Family::of(*address));
    service.families.first().copied().or(of_ip)
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.meta.labels.clone();
    labels.remove(HEADLESS);
    if !has_cluster_ip(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

fn address(pod: &Pod, service: &Service, family: Option<Family>) -> Option<EndpointsAddress> {
    let is_wanted = |address: &&_| family.is_none_or(|family| Family::of(**address) == family);
    Some(EndpointsAddress {
        ip: *pod.ips.iter().find(is_wanted)?,
        hostname: hostname_of(pod, service),
        node: pod.node.clone(),
        target: Some(target_of(pod)),
    })
}

/// An address and whether it is ready.
type Entry = (EndpointsAddress, bool);

/// Which addresses have which port; `None` stands for "no port at all".
#[derive(Default)]
struct Subsets {
    by_port: BTreeMap<Option<SlicePort>, BTreeSet<Entry>>,
}

impl Subsets {
    fn add(&mut self, port: Option<SlicePort>, address: EndpointsAddress, ready: bool) {
        self.by_port.entry(port).or_default().insert((address, ready));
    }

    /// Ports that lead to exactly the same addresses share a subset.
    fn repack(self) -> Vec<EndpointsSubset> {
        let mut by_addresses: BTreeMap<BTreeSet<Entry>, Vec<SlicePort>> = BTreeMap::new();
        for (port, entries) in self.by_port {
            by_addresses.entry(entries).or_default().extend(port);
        }
        let subset = |(entries, ports): (BTreeSet<Entry>, Vec<SlicePort>)| {
            let (ready, not_ready): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|(_, ready)| *ready);
            EndpointsSubset {
                addresses: ready.into_iter().map(|(address, _)| address).collect(),
                not_ready_addresses: not_ready.into_iter().map(|(address, _)| address).collect(),
                ports,
            }
        };
        let mut subsets: Vec<EndpointsSubset> = by_addresses.into_iter().map(subset).collect();
        subsets.sort_by(|one, other| one.ports.cmp(&other.ports));
        subsets
    }
}

/// Cuts down to the maximum, ready addresses first; says whether anything was cut (C19).
fn truncate(subsets: &mut Vec<EndpointsSubset>) -> bool {
    let mut room = MAX_ADDRESSES;
    let mut cut = false;
    let mut keep = |addresses: &mut Vec<EndpointsAddress>| {
        cut |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    subsets.retain(|one| !one.addresses.is_empty() || !one.not_ready_addresses.is_empty());
    cut
}
