//! `/metrics`: what the server has done, for Prometheus.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::alloc;

/// Counters under kube-apiserver's names.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<VerbLabel, Histogram>,
    inflight: Gauge,
    watches: Gauge,
    objects: Family<ResourceLabels, Gauge>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    resource: String,
}

/// What a finished request was.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// `GET`, `LIST`, `WATCH`, `POST`, ...
    pub(crate) verb: &'static str,
    /// API group; this and what follows is empty for paths that are no served resources.
    pub(crate) group: String,
    /// Version.
    pub(crate) version: String,
    /// Resource.
    pub(crate) resource: String,
    /// Subresource.
    pub(crate) subresource: &'static str,
    /// `resource`, `namespace` or `cluster`.
    pub(crate) scope: &'static str,
    /// HTTP status.
    pub(crate) code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

/// Counts one as long as it lives.
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All zero, with those of the allocator.
    pub(crate) fn new(allocator: &alloc::Metrics) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let (inflight, watches) = (Gauge::default(), Gauge::default());
        let mut registry = Registry::default();
        registry.register(
            "apiserver_request",
            "Requests answered, by verb, resource and HTTP status",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from the request's head to the response's head, by verb",
            durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being answered",
            inflight.clone(),
        );
        registry.register("apiserver_watches", "Watches being served", watches.clone());
        let objects = Family::default();
        registry.register("apiserver_resource_objects", "Objects stored", objects.clone());
        allocator.register(&mut registry);
        Self { registry, requests, durations, inflight, watches, objects }
    }

    /// A request is being answered.
    pub(crate) fn count_request(&self) -> Counted {
        count(&self.inflight)
    }

    /// A watch is being served.
    pub(crate) fn count_watch(&self) -> Counted {
        count(&self.watches)
    }

    /// How many watches are being served.
    pub(crate) fn watches(&self) -> i64 {
        self.watches.get()
    }

    /// A request has been answered.
    pub(crate) fn answered(&self, labels: &RequestLabels, took: Duration) {
        self.requests.get_or_create(labels).inc();
        self.durations.get_or_create(&VerbLabel { verb: labels.verb }).observe(took.as_secs_f64());
    }

    /// So many objects of a resource are stored.
    pub(crate) fn stored(&self, group: &str, resource: &str, count: usize) {
        let labels = ResourceLabels { group: group.to_owned(), resource: resource.to_owned() };
        self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The page (OpenMetrics text).
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

/// Content-Type of [`Metrics::page`].
pub(crate) const PAGE_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn count(gauge: &Gauge) -> Counted {
    gauge.inc();
    Counted(gauge.clone())
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_was_answered() {
        let metrics = Metrics::new(&alloc::Metrics::new());
        let watch = metrics.count_watch();
        let labels = RequestLabels {
            verb: "LIST",
            version: "v1".to_owned(),
            resource: "services".to_owned(),
            scope: "namespace",
            code: 200,
            ..RequestLabels::default()
        };
        metrics.answered(&labels, Duration::from_millis(2));
        let page = metrics.page();
        assert!(page.contains("apiserver_watches 1"));
        let line = "apiserver_request_total{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"services\",\
                    subresource=\"\",scope=\"namespace\",code=\"200\"} 1";
        assert!(page.contains(line), "{page}");
        drop(watch);
        assert!(metrics.page().contains("apiserver_watches 0"));
    }
}
