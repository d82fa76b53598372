//! What the endpoint slice controller has done and would like to have, under
//! kube-controller-manager's names (C27, semantics 3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use model::{
    AddressType, Change, EndpointSlice, Kind, Name, Object, ServiceName, TrafficDistribution, Write,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Most endpoints in a slice.
const MAX_ENDPOINTS: usize = 100;

/// The metrics, and what they are measured from.
#[derive(Debug)]
pub(crate) struct SliceMetrics {
    changes: Labelled<Operation, Counter>,
    syncs: Labelled<SyncResult, Counter>,
    changed_per_sync: Histogram,
    added_per_sync: Histogram,
    removed_per_sync: Histogram,
    slices: Gauge,
    desired_slices: Gauge,
    endpoints: Gauge,
    services: Labelled<Distribution, Gauge>,
    seen: Mutex<Seen>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SyncResult {
    result: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Distribution {
    traffic_distribution: &'static str,
}

/// What the watches have shown, by namespace and name.
#[derive(Default, Debug)]
struct Seen {
    slices: BTreeMap<(Name, Name), Slice>,
    services: BTreeMap<(Name, Name), TrafficDistribution>,
}

#[derive(Debug)]
struct Slice {
    service: Option<ServiceName>,
    address_type: AddressType,
    endpoints: BTreeSet<IpAddr>,
}

impl SliceMetrics {
    /// All zero, on a page.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let histogram = || Histogram::new(exponential_buckets(2.0, 2.0, 15));
        let metrics = Self {
            changes: Labelled::default(),
            syncs: Labelled::default(),
            changed_per_sync: histogram(),
            added_per_sync: histogram(),
            removed_per_sync: histogram(),
            slices: Gauge::default(),
            desired_slices: Gauge::default(),
            endpoints: Gauge::default(),
            services: Labelled::default(),
            seen: Mutex::default(),
        };
        let page = registry.sub_registry_with_prefix("endpoint_slice_controller");
        page.register("changes", "Writes of EndpointSlices", metrics.changes.clone());
        page.register("syncs", "Services whose slices were written", metrics.syncs.clone());
        for (name, help, metric) in [
            ("endpointslices_changed_per_sync", "Slices written", &metrics.changed_per_sync),
            ("endpoints_added_per_sync", "Endpoints added", &metrics.added_per_sync),
            ("endpoints_removed_per_sync", "Endpoints removed", &metrics.removed_per_sync),
        ] {
            page.register(name, format!("{help} at a time for one Service"), metric.clone());
        }
        for (name, help, metric) in [
            ("num_endpoint_slices", "EndpointSlices of the controller", &metrics.slices),
            ("desired_endpoint_slices", "EndpointSlices if all were full", &metrics.desired_slices),
            ("endpoints_desired", "Endpoints in them", &metrics.endpoints),
        ] {
            page.register(name, help, metric.clone());
        }
        page.register(
            "services_count_by_traffic_distribution",
            "Services that ask for a traffic distribution",
            metrics.services.clone(),
        );
        metrics
    }

    /// A watch has shown this.
    pub(crate) fn observe(&self, change: &Change) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take(change);
    }

    /// The writes for one Service: each with whether it succeeded.
    pub(crate) fn synced<'a>(&self, writes: impl Iterator<Item = (&'a Write, bool)>) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut added, mut removed, mut is_whole) = (0_u32, 0, 0, true);
        for (write, is_done) in writes {
            is_whole &= is_done;
            let (operation, name, endpoints) = match write {
                Write::CreateSlice(slice) => ("create", slice.name(), addresses(slice)),
                Write::UpdateSlice(slice) => ("update", slice.name(), addresses(slice)),
                Write::DeleteSlice(name, _) => ("delete", name.clone(), BTreeSet::new()),
                _ => continue,
            };
            if !is_done {
                continue;
            }
            let before = seen.slices.get(&(name.namespace, name.name));
            let before = before.map(|slice| slice.endpoints.clone()).unwrap_or_default();
            added += endpoints.difference(&before).count();
            removed += before.difference(&endpoints).count();
            changed += 1;
            self.changes.get_or_create(&Operation { operation }).inc();
        }
        let result = if is_whole { "success" } else { "error" };
        self.syncs.get_or_create(&SyncResult { result }).inc();
        self.changed_per_sync.observe(f64::from(changed));
        self.added_per_sync.observe(as_float(added));
        self.removed_per_sync.observe(as_float(removed));
    }

    /// Measures what there is now.
    pub(crate) fn measure(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let mut sets: BTreeMap<_, usize> = BTreeMap::new();
        for slice in seen.slices.values() {
            *sets.entry((&slice.service, slice.address_type)).or_default() += slice.endpoints.len();
        }
        self.slices.set(shown(seen.slices.len()));
        self.endpoints.set(shown(sets.values().sum()));
        // Without endpoints there is one slice all the same (C8).
        let desired = sets.values().map(|count| count.div_ceil(MAX_ENDPOINTS).max(1));
        self.desired_slices.set(shown(desired.sum()));
        for (distribution, name) in [
            (TrafficDistribution::PreferClose, "PreferClose"),
            (TrafficDistribution::PreferSameZone, "PreferSameZone"),
            (TrafficDistribution::PreferSameNode, "PreferSameNode"),
        ] {
            let count = seen.services.values().filter(|other| **other == distribution).count();
            let label = Distribution { traffic_distribution: name };
            self.services.get_or_create(&label).set(shown(count));
        }
    }
}

impl Seen {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Apply(Object::EndpointSlice(slice)) => self.take_slice(slice),
            Change::Apply(Object::Service(service)) => {
                let key = (service.meta.namespace.clone(), service.meta.name.clone());
                match service.traffic_distribution {
                    Some(distribution) => drop(self.services.insert(key, distribution)),
                    None => drop(self.services.remove(&key)),
                }
            }
            Change::Delete(Kind::EndpointSlice, namespace, name) => {
                self.slices.remove(&(namespace.clone(), name.clone()));
            }
            Change::Delete(Kind::Service, namespace, name) => {
                self.services.remove(&(namespace.clone(), name.clone()));
            }
            Change::Complete(Kind::EndpointSlice, there) => {
                self.slices.retain(|key, _| there.contains(key));
            }
            Change::Complete(Kind::Service, there) => {
                self.services.retain(|key, _| there.contains(key));
            }
            _ => {}
        }
    }

    fn take_slice(&mut self, slice: &EndpointSlice) {
        let key = (slice.meta.namespace.clone(), slice.meta.name.clone());
        if slice.meta.labels.get(MANAGED_BY).is_none_or(|manager| manager != CONTROLLER) {
            self.slices.remove(&key);
            return;
        }
        let known = Slice {
            service: slice.service.clone(),
            address_type: slice.address_type,
            endpoints: addresses(slice),
        };
        self.slices.insert(key, known);
    }
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.addresses.first().copied()).collect()
}

fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Conditions, Endpoint, Family, Hints, Meta, Timestamp};

    use super::*;

    fn slice(name: &str, last_bytes: std::ops::Range<u8>) -> EndpointSlice {
        let endpoint = |last: u8| Endpoint {
            addresses: vec![IpAddr::from([10, 0, 0, last])],
            conditions: Conditions { ready: true, serving: true, terminating: false },
            node: None,
            zone: None,
            hostname: None,
            target: None,
            hints: Hints::default(),
        };
        let labels = [(MANAGED_BY.to_owned(), CONTROLLER.to_owned())];
        EndpointSlice {
            meta: Meta {
                namespace: "default".into(),
                name: name.into(),
                generate_name: "".into(),
                uid: "".into(),
                resource_version: "".into(),
                generation: 0,
                labels: labels.into(),
                annotations: BTreeMap::new(),
                owners: Vec::new(),
                finalizers: BTreeSet::new(),
                created: Timestamp(0),
                deleting: None,
            },
            service: Some(ServiceName::new("default", "web")),
            address_type: AddressType::Ip(Family::V4),
            ports: Vec::new(),
            endpoints: last_bytes.map(endpoint).collect(),
        }
    }

    #[test]
    fn writes_and_what_there_is_are_counted() {
        // C27.
        let mut registry = Registry::default();
        let metrics = SliceMetrics::new(&mut registry);
        let old = slice("a", 1..4);
        metrics.observe(&Change::Apply(Object::EndpointSlice(Arc::new(old))));
        let writes = [
            (Write::UpdateSlice(Box::new(slice("a", 3..6))), true),
            (Write::CreateSlice(Box::new(slice("b", 10..12))), true),
            (Write::CreateSlice(Box::new(slice("c", 20..30))), false),
        ];
        metrics.synced(writes.iter().map(|(write, is_done)| (write, *is_done)));
        metrics.measure();
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            "endpoint_slice_controller_changes_total{operation=\"update\"} 1",
            "endpoint_slice_controller_changes_total{operation=\"create\"} 1",
            "endpoint_slice_controller_syncs_total{result=\"error\"} 1",
            "endpoint_slice_controller_endpoints_added_per_sync_sum 4.0",
            "endpoint_slice_controller_endpoints_removed_per_sync_sum 2.0",
            "endpoint_slice_controller_endpointslices_changed_per_sync_sum 2.0",
            "endpoint_slice_controller_num_endpoint_slices 1",
            "endpoint_slice_controller_desired_endpoint_slices 1",
            "endpoint_slice_controller_endpoints_desired 3",
        ] {
            assert!(page.lines().any(|known| known == line), "{line} is not in {page}");
        }
    }
}
