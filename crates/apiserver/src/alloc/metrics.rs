//! What allocation and its repair count, under kube-apiserver's names (A23, semantics 2.6).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters that the allocator and the metrics page share.
#[derive(Clone)]
pub(crate) struct Metrics {
    addresses: Family<AddressLabels, Counter>,
    address_errors: Family<AddressLabels, Counter>,
    pub(super) address_seconds: Family<CidrLabel, Histogram>,
    ports: Family<ScopeLabel, Counter>,
    port_errors: Family<ScopeLabel, Counter>,
    /// What repair has found wrong with addresses, by kind.
    pub(crate) repaired_addresses: Family<TypeLabel, Counter>,
    /// What repair has found wrong with node ports, by kind.
    pub(crate) repaired_ports: Family<TypeLabel, Counter>,
    allocated_addresses: Family<CidrLabel, Gauge>,
    available_addresses: Family<CidrLabel, Gauge>,
    allocated_ports: Gauge,
    available_ports: Gauge,
}

/// Who chose a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// The client.
    Static,
    /// The allocator.
    Dynamic,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AddressLabels {
    cidr: String,
    scope: &'static str,
}

/// A range.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct CidrLabel {
    pub(super) cidr: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ScopeLabel {
    scope: &'static str,
}

/// A kind of finding.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct TypeLabel {
    /// As kube-apiserver calls it, such as `repair`.
    pub(crate) r#type: &'static str,
}

impl Metrics {
    /// All zero.
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 10));
        Self {
            addresses: Family::default(),
            address_errors: Family::default(),
            address_seconds: Family::new_with_constructor(histogram),
            ports: Family::default(),
            port_errors: Family::default(),
            repaired_addresses: Family::default(),
            repaired_ports: Family::default(),
            allocated_addresses: Family::default(),
            available_addresses: Family::default(),
            allocated_ports: Gauge::default(),
            available_ports: Gauge::default(),
        }
    }

    /// An address was taken from a range, or could not be.
    pub(super) fn address(&self, cidr: String, scope: Scope, is_taken: bool) {
        let family = if is_taken { &self.addresses } else { &self.address_errors };
        family.get_or_create(&AddressLabels { cidr, scope: scope.as_str() }).inc();
    }

    /// A node port was taken, or could not be.
    pub(super) fn port(&self, scope: Scope, is_taken: bool) {
        let family = if is_taken { &self.ports } else { &self.port_errors };
        family.get_or_create(&ScopeLabel { scope: scope.as_str() }).inc();
    }

    /// How full a range is.
    pub(super) fn fill(&self, cidr: String, allocated: u128, available: u128) {
        let label = CidrLabel { cidr };
        let shown = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
        self.allocated_addresses.get_or_create(&label).set(shown(allocated));
        self.available_addresses.get_or_create(&label).set(shown(available));
    }

    /// Forgets how full ranges were.
    pub(super) fn forget_ranges(&self) {
        self.allocated_addresses.clear();
        self.available_addresses.clear();
    }

    /// How full the pool of node ports is.
    pub(super) fn fill_ports(&self, allocated: usize, available: usize) {
        let shown = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.allocated_ports.set(shown(allocated));
        self.available_ports.set(shown(available));
    }

    /// Puts everything on the page.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let addresses = registry.sub_registry_with_prefix("kube_apiserver_clusterip_allocator");
        addresses.register("allocation", "Cluster IPs allocated", self.addresses.clone());
        addresses.register(
            "allocation_errors",
            "Cluster IPs that could not be allocated",
            self.address_errors.clone(),
        );
        addresses.register(
            "allocation_duration_seconds",
            "Time that allocating a cluster IP took",
            self.address_seconds.clone(),
        );
        addresses.register("allocated_ips", "Cluster IPs in use", self.allocated_addresses.clone());
        addresses.register("available_ips", "Cluster IPs left", self.available_addresses.clone());
        let ports = registry.sub_registry_with_prefix("kube_apiserver_nodeport_allocator");
        ports.register("allocation", "Node ports allocated", self.ports.clone());
        ports.register(
            "allocation_errors",
            "Node ports that could not be allocated",
            self.port_errors.clone(),
        );
        ports.register("allocated_ports", "Node ports in use", self.allocated_ports.clone());
        ports.register("available_ports", "Node ports left", self.available_ports.clone());
        registry.register(
            "apiserver_clusterip_repair_ip_errors",
            "Errors of cluster IPs that repair has found",
            self.repaired_addresses.clone(),
        );
        registry.register(
            "apiserver_nodeport_repair_port_errors",
            "Errors of node ports that repair has found",
            self.repaired_ports.clone(),
        );
    }
}
