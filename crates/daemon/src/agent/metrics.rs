//! The agent's metrics, under kube-proxy's names where it has one (semantics 4.12).
//!
//! Both address families are one transaction here, so the label `ip_family` has no place.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Every metric of the agent.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    sync: Histogram,
    full_sync: Histogram,
    partial_sync: Histogram,
    network_programming: Histogram,
    watch_to_kernel: Histogram,
    last_queued: Gauge,
    last_synced: Gauge,
    service_changes: Counter,
    endpoint_changes: Counter,
    sync_failures: Counter,
    repairs: Counter,
    conntrack_deleted: Counter,
    services: Gauge,
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
}

/// HTTP status of a probe's answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// Which sync is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// Everything was planned.
    Full,
    /// Only changed Services were planned.
    Partial,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let syncs = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let mut metrics = Self {
            registry: Registry::with_prefix("kubeproxy"),
            sync: syncs(),
            full_sync: syncs(),
            partial_sync: syncs(),
            network_programming: Histogram::new(programming_buckets()),
            watch_to_kernel: Histogram::new(exponential_buckets(0.000_125, 2.0, 15)),
            last_queued: Gauge::default(),
            last_synced: Gauge::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            sync_failures: Counter::default(),
            repairs: Counter::default(),
            conntrack_deleted: Counter::default(),
            services: Gauge::default(),
            healthz: Family::default(),
            livez: Family::default(),
        };
        metrics.register_durations();
        metrics.register_counts();
        metrics
    }

    fn register_durations(&mut self) {
        let registry = &mut self.registry;
        let mut histogram = |name: &str, help: &str, metric: &Histogram| {
            registry.register(name, help, metric.clone());
        };
        histogram("sync_proxy_rules_duration_seconds", "Duration of a sync", &self.sync);
        histogram(
            "sync_full_proxy_rules_duration_seconds",
            "Duration of a sync that planned everything",
            &self.full_sync,
        );
        histogram(
            "sync_partial_proxy_rules_duration_seconds",
            "Duration of a sync that planned changed Services only",
            &self.partial_sync,
        );
        histogram(
            "network_programming_duration_seconds",
            "From the change of a pod or Service to rules in the kernel",
            &self.network_programming,
        );
        histogram(
            "watch_to_kernel_duration_seconds",
            "From the receipt of a watch event to rules in the kernel",
            &self.watch_to_kernel,
        );
    }

    fn register_counts(&mut self) {
        let registry = &mut self.registry;
        let mut counter = |name: &str, help: &str, metric: &Counter| {
            registry.register(name, help, metric.clone());
        };
        counter("sync_proxy_rules_service_changes", "Service changes", &self.service_changes);
        counter(
            "sync_proxy_rules_endpoint_changes",
            "EndpointSlice changes",
            &self.endpoint_changes,
        );
        counter(
            "sync_proxy_rules_nftables_sync_failures",
            "Syncs that the kernel refused",
            &self.sync_failures,
        );
        counter(
            "sync_proxy_rules_nftables_repairs",
            "Times that the kernel's tables differed from what was written",
            &self.repairs,
        );
        counter(
            "conntrack_reconciler_deleted_entries",
            "Stale UDP connections that were forgotten",
            &self.conntrack_deleted,
        );
        let mut gauge = |name: &str, help: &str, metric: &Gauge| {
            registry.register(name, help, metric.clone());
        };
        gauge(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When the last change arrived",
            &self.last_queued,
        );
        gauge(
            "sync_proxy_rules_last_timestamp_seconds",
            "When the last sync succeeded",
            &self.last_synced,
        );
        gauge("sync_proxy_rules_services", "Services in the kernel", &self.services);
        let mut probes = |name: &str, help: &str, metric: &Family<Code, Counter>| {
            registry.register(name, help, metric.clone());
        };
        probes("proxy_healthz", "Answers of /healthz", &self.healthz);
        probes("proxy_livez", "Answers of /livez", &self.livez);
    }

    /// Changes have arrived: of Services and of EndpointSlices.
    pub(crate) fn queued(&self, services: u64, slices: u64, now_seconds: i64) {
        self.service_changes.inc_by(services);
        self.endpoint_changes.inc_by(slices);
        self.last_queued.set(now_seconds);
    }

    /// A sync has succeeded.
    pub(crate) fn synced(&self, kind: Sync, took: Duration, now_seconds: i64) {
        self.sync.observe(took.as_secs_f64());
        let of_kind = match kind {
            Sync::Full => &self.full_sync,
            Sync::Partial => &self.partial_sync,
        };
        of_kind.observe(took.as_secs_f64());
        self.last_synced.set(now_seconds);
    }

    /// What a sync did.
    pub(crate) fn did(&self, synced: nft::Synced, services: usize) {
        self.conntrack_deleted.inc_by(synced.forgotten as u64);
        self.services.set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    /// The kernel had other tables than were written.
    pub(crate) fn repaired(&self) {
        self.repairs.inc();
    }

    /// The kernel has refused a sync.
    pub(crate) fn failed(&self) {
        self.sync_failures.inc();
    }

    /// A watch event has reached the kernel.
    pub(crate) fn reached_kernel(&self, after: Duration) {
        self.watch_to_kernel.observe(after.as_secs_f64());
    }

    /// A change of a pod or Service has reached the kernel.
    pub(crate) fn programmed(&self, after: Duration) {
        self.network_programming.observe(after.as_secs_f64());
    }

    /// `/healthz` has been answered.
    pub(crate) fn healthz(&self, status: StatusCode) {
        self.healthz.get_or_create(&Code { code: status.as_u16() }).inc();
    }

    /// `/livez` has been answered.
    pub(crate) fn livez(&self, status: StatusCode) {
        self.livez.get_or_create(&Code { code: status.as_u16() }).inc();
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// kube-proxy's: 0.25 s, 0.5 s, every second up to a minute, every 5 s to 2 min, then minutes.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).map(f64::from);
    let five_seconds = (12..24).map(|step| f64::from(step) * 5.0);
    let minutes = (2..=5).map(|step| f64::from(step) * 60.0);
    [0.25, 0.5].into_iter().chain(seconds).chain(five_seconds).chain(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kube_proxy() {
        let metrics = Metrics::new();
        metrics.synced(Sync::Full, Duration::from_millis(3), 1);
        metrics.queued(1, 2, 1);
        metrics.programmed(Duration::from_millis(300));
        metrics.healthz(StatusCode::OK);
        let text = metrics.encode();
        for name in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket",
            "kubeproxy_network_programming_duration_seconds_count 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1",
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }
}
