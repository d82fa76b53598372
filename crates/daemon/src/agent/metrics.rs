//! The agent's metrics: kube-proxy's under its names, labels and buckets (semantics 4.12), so that
//! dashboards keep working, and our own under `portolan_`.
//!
//! Both address families are one transaction here, so what kube-proxy tells by `ip_family` is told
//! of both alike.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use model::Family as IpFamily;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::api_metrics::ApiMetrics;
use super::no_local::{NoLocal, Policy};
use super::process::Process;

/// Every metric of the agent.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    sync: Family<ByFamily, Histogram>,
    full_sync: Family<ByFamily, Histogram>,
    partial_sync: Family<ByFamily, Histogram>,
    network_programming: Family<ByFamily, Histogram>,
    last_queued: Family<ByFamily, Gauge>,
    last_synced: Family<ByFamily, Gauge>,
    sync_failures: Family<ByFamily, Counter>,
    cleanup_failures: Family<ByFamily, Counter>,
    conntrack_deleted: Family<ByFamily, Counter>,
    conntrack_duration: Family<ByFamily, Histogram>,
    no_local_endpoints: Family<ByPolicy, Gauge>,
    service_changes: Counter,
    service_changes_pending: Gauge,
    endpoint_changes: Counter,
    endpoint_changes_pending: Gauge,
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
    api: ApiMetrics,
    own: Own,
}

/// Those that kube-proxy does not have.
#[derive(Debug)]
struct Own {
    watch_to_kernel: Histogram,
    repairs: Family<ByPart, Counter>,
    services: Gauge,
    netlink_messages: Counter,
    netlink_bytes: Counter,
}

/// Address family, as kube-proxy spells it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByFamily {
    ip_family: &'static str,
}

/// Address family and the policy that is Local.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByPolicy {
    ip_family: &'static str,
    traffic_policy: &'static str,
}

/// HTTP status of a probe's answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// What was repaired: `table`, `chain` or `set`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByPart {
    part: &'static str,
}

/// Which sync is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// Everything was planned.
    Full,
    /// Only changed Services were planned.
    Partial,
}

const FAMILIES: [ByFamily; 2] = [ByFamily { ip_family: "IPv4" }, ByFamily { ip_family: "IPv6" }];

impl Metrics {
    pub(crate) fn new() -> Self {
        let syncs = || Family::new_with_constructor(sync_histogram as fn() -> Histogram);
        let mut metrics = Self {
            registry: Registry::default(),
            sync: syncs(),
            full_sync: syncs(),
            partial_sync: syncs(),
            network_programming: Family::new_with_constructor(programming_histogram),
            last_queued: Family::default(),
            last_synced: Family::default(),
            sync_failures: Family::default(),
            cleanup_failures: Family::default(),
            conntrack_deleted: Family::default(),
            conntrack_duration: syncs(),
            no_local_endpoints: Family::default(),
            service_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            endpoint_changes: Counter::default(),
            endpoint_changes_pending: Gauge::default(),
            healthz: Family::default(),
            livez: Family::default(),
            api: ApiMetrics::default(),
            own: Own {
                watch_to_kernel: Histogram::new(exponential_buckets(0.000_125, 2.0, 15)),
                repairs: Family::default(),
                services: Gauge::default(),
                netlink_messages: Counter::default(),
                netlink_bytes: Counter::default(),
            },
        };
        metrics.register_durations();
        metrics.register_counts();
        metrics.register_own();
        metrics.api.register(&mut metrics.registry);
        metrics.registry.register_collector(Box::new(Process));
        metrics
    }

    /// Registers under kube-proxy's prefix.
    fn kube_proxy(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(format!("kubeproxy_{name}"), help, metric);
    }

    fn register_durations(&mut self) {
        let (full, partial) = (self.full_sync.clone(), self.partial_sync.clone());
        let (sync, programming) = (self.sync.clone(), self.network_programming.clone());
        self.kube_proxy("sync_proxy_rules_duration_seconds", "Duration of a sync", sync);
        self.kube_proxy(
            "sync_full_proxy_rules_duration_seconds",
            "Duration of a sync that planned everything",
            full,
        );
        self.kube_proxy(
            "sync_partial_proxy_rules_duration_seconds",
            "Duration of a sync that planned changed Services only",
            partial,
        );
        self.kube_proxy(
            "network_programming_duration_seconds",
            "From the change of a pod or Service to rules in the kernel",
            programming,
        );
    }

    fn register_counts(&mut self) {
        let metric = self.service_changes.clone();
        self.kube_proxy("sync_proxy_rules_service_changes", "Service changes", metric);
        let metric = self.service_changes_pending.clone();
        let help = "Service changes that the kernel does not have";
        self.kube_proxy("sync_proxy_rules_service_changes_pending", help, metric);
        let metric = self.endpoint_changes.clone();
        self.kube_proxy("sync_proxy_rules_endpoint_changes", "EndpointSlice changes", metric);
        let metric = self.endpoint_changes_pending.clone();
        let help = "EndpointSlice changes that the kernel does not have";
        self.kube_proxy("sync_proxy_rules_endpoint_changes_pending", help, metric);
        let metric = self.sync_failures.clone();
        let help = "Syncs that the kernel refused";
        self.kube_proxy("sync_proxy_rules_nftables_sync_failures", help, metric);
        let metric = self.cleanup_failures.clone();
        let help = "Separate clean-ups that the kernel refused; a sync cleans up itself";
        self.kube_proxy("sync_proxy_rules_nftables_cleanup_failures", help, metric);
        let metric = self.conntrack_deleted.clone();
        let help = "Stale connections that were forgotten";
        self.kube_proxy("conntrack_reconciler_deleted_entries", help, metric);
        let metric = self.conntrack_duration.clone();
        let help = "Duration of looking for stale connections and forgetting them";
        self.kube_proxy("conntrack_reconciler_sync_duration_seconds", help, metric);
        let metric = self.last_queued.clone();
        let help = "When the last change arrived";
        self.kube_proxy("sync_proxy_rules_last_queued_timestamp_seconds", help, metric);
        let metric = self.last_synced.clone();
        let help = "When the last sync succeeded";
        self.kube_proxy("sync_proxy_rules_last_timestamp_seconds", help, metric);
        let metric = self.no_local_endpoints.clone();
        let help = "Services with policy Local and endpoints on other nodes only";
        self.kube_proxy("sync_proxy_rules_no_local_endpoints_total", help, metric);
        let metric = self.healthz.clone();
        self.kube_proxy("proxy_healthz", "Answers of /healthz", metric);
        let metric = self.livez.clone();
        self.kube_proxy("proxy_livez", "Answers of /livez", metric);
    }

    fn register_own(&mut self) {
        let (registry, own) = (&mut self.registry, &self.own);
        for part in ["table", "chain", "set"] {
            own.repairs.get_or_create(&ByPart { part }).inc_by(0);
        }
        registry.register(
            "portolan_watch_to_kernel_duration_seconds",
            "From the receipt of a watch event to rules in the kernel",
            own.watch_to_kernel.clone(),
        );
        registry.register(
            "portolan_repairs",
            "Parts of the kernel's tables that somebody else had changed and that were put right",
            own.repairs.clone(),
        );
        registry.register(
            "portolan_services",
            "Services that the agent looks after",
            own.services.clone(),
        );
        registry.register(
            "portolan_netlink_messages",
            "Messages sent to nf_tables",
            own.netlink_messages.clone(),
        );
        registry.register("portolan_netlink_bytes", "Bytes of them", own.netlink_bytes.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("portolan_build", "The program", build);
    }

    /// Changes have arrived: of Services and of EndpointSlices.
    pub(crate) fn queued(&self, services: u64, slices: u64, now_seconds: i64) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.service_changes.inc_by(services);
        self.service_changes_pending.inc_by(number(services));
        self.endpoint_changes.inc_by(slices);
        self.endpoint_changes_pending.inc_by(number(slices));
        for family in FAMILIES {
            self.last_queued.get_or_create(&family).set(now_seconds);
        }
    }

    /// A sync has succeeded.
    pub(crate) fn synced(&self, kind: Sync, took: Duration, now_seconds: i64) {
        let of_kind = match kind {
            Sync::Full => &self.full_sync,
            Sync::Partial => &self.partial_sync,
        };
        for family in FAMILIES {
            self.sync.get_or_create(&family).observe(took.as_secs_f64());
            of_kind.get_or_create(&family).observe(took.as_secs_f64());
            self.last_synced.get_or_create(&family).set(now_seconds);
        }
        self.service_changes_pending.set(0);
        self.endpoint_changes_pending.set(0);
    }

    /// What a sync did.
    pub(crate) fn did(&self, synced: nft::Synced, services: usize, no_local: &NoLocal) {
        for family in FAMILIES {
            // So that they are there before the first failure or stale connection.
            self.conntrack_deleted.get_or_create(&family).inc_by(0);
            self.sync_failures.get_or_create(&family).inc_by(0);
            self.cleanup_failures.get_or_create(&family).inc_by(0);
        }
        self.sent(synced);
        self.own.services.set(i64::try_from(services).unwrap_or(i64::MAX));
        for (family, policy, count) in no_local.counts() {
            self.no_local_endpoints.get_or_create(&by_policy(family, policy)).set(count);
        }
    }

    /// What a sync or a repair cost.
    pub(crate) fn sent(&self, synced: nft::Synced) {
        self.own.netlink_messages.inc_by(synced.messages as u64);
        self.own.netlink_bytes.inc_by(synced.bytes as u64);
    }

    /// Stale connections were looked for.
    pub(crate) fn cleaned(&self, cleanups: &BTreeMap<IpFamily, nft::Cleanup>) {
        for (family, cleanup) in cleanups {
            let family = ByFamily { ip_family: family.as_str() };
            self.conntrack_deleted.get_or_create(&family).inc_by(cleanup.deleted as u64);
            self.conntrack_duration.get_or_create(&family).observe(cleanup.took.as_secs_f64());
        }
    }

    /// Counts requests to the API server.
    pub(crate) fn observer(&self) -> cluster::Observer {
        self.api.observer()
    }

    /// The kernel had other tables than were written.
    pub(crate) fn repaired(&self, mended: &nft::Mended) {
        for part in mended.parts.keys() {
            let part = match part {
                nft::Part::Table(_) => "table",
                nft::Part::Chain(..) => "chain",
                nft::Part::Set(..) => "set",
            };
            self.own.repairs.get_or_create(&ByPart { part }).inc();
        }
    }

    /// The kernel has refused a sync.
    pub(crate) fn failed(&self) {
        for family in FAMILIES {
            self.sync_failures.get_or_create(&family).inc();
        }
    }

    /// A watch event has reached the kernel.
    pub(crate) fn reached_kernel(&self, after: Duration) {
        self.own.watch_to_kernel.observe(after.as_secs_f64());
    }

    /// A change of a pod or Service has reached the kernel.
    pub(crate) fn programmed(&self, after: Duration) {
        for family in FAMILIES {
            self.network_programming.get_or_create(&family).observe(after.as_secs_f64());
        }
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

fn by_policy(family: IpFamily, policy: Policy) -> ByPolicy {
    let traffic_policy = match policy {
        Policy::Internal => "internal",
        Policy::External => "external",
    };
    ByPolicy { ip_family: family.as_str(), traffic_policy }
}

fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn programming_histogram() -> Histogram {
    Histogram::new(programming_buckets())
}

/// kube-proxy's: 0.25 s, 0.5 s, every second up to a minute, every 5 s to 2 min, every 30 s to 5 min.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).map(f64::from);
    let five_seconds = (12..24).map(|step| f64::from(step) * 5.0);
    let half_minutes = (4..=10).map(|step| f64::from(step) * 30.0);
    [0.0, 0.25, 0.5].into_iter().chain(seconds).chain(five_seconds).chain(half_minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_kube_proxy() {
        let metrics = Metrics::new();
        metrics.queued(1, 2, 1);
        metrics.failed();
        let pending = "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2";
        assert!(metrics.encode().contains(pending));
        metrics.synced(Sync::Full, Duration::from_millis(3), 1);
        metrics.did(nft::Synced::default(), 1, &NoLocal::default());
        metrics.programmed(Duration::from_millis(300));
        let cleanup = nft::Cleanup { deleted: 2, took: Duration::from_millis(3) };
        metrics.cleaned(&[(IpFamily::V6, cleanup)].into());
        metrics.healthz(StatusCode::OK);
        let text = metrics.encode();
        for name in [
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004",ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1"#,
            r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1"#,
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 0"#,
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 2"#,
            r#"kubeproxy_conntrack_reconciler_sync_duration_seconds_bucket{le="0.004",ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv4"} 0"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 0"#,
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
            "portolan_services 1",
            "portolan_build_info{version=\"",
            r#"portolan_repairs_total{part="chain"} 0"#,
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }

    #[test]
    fn network_programming_has_kube_proxys_81_buckets() {
        assert_eq!(programming_buckets().count(), 3 + 59 + 12 + 7);
        assert_eq!(programming_buckets().last(), Some(300.0));
    }
}
