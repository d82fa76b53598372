//! `/metrics`: what the server has done, for Prometheus.

use std::time::Duration;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::alloc;

/// Counters under kube-apiserver's names.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<AnsweredLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    long_running: Family<RequestLabels, Gauge>,
    inflight: Family<KindLabel, Gauge>,
    watches: Gauge,
    objects: Family<ResourceLabels, Gauge>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    resource: String,
}

/// What a request is.
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
    /// `All` for a dry run.
    pub(crate) dry_run: &'static str,
    /// Which server.
    pub(crate) component: Component,
}

/// kube-apiserver's name for what answers itself, not through an aggregated server.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the name is the label's value")]
pub(crate) enum Component {
    /// This server.
    #[default]
    apiserver,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AnsweredLabels {
    #[prometheus(flatten)]
    request: RequestLabels,
    code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    request_kind: &'static str,
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
        let (long_running, inflight) = (Family::default(), Family::default());
        let watches = Gauge::default();
        let mut registry = Registry::default();
        registry.register(
            "apiserver_request",
            "Requests answered, by verb, resource and HTTP status",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from the request's head to the response's head",
            durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches, and streams to pods, that go on",
            long_running.clone(),
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
        Self { registry, requests, durations, long_running, inflight, watches, objects }
    }

    /// A request is being answered that changes something, or not.
    pub(crate) fn count_request(&self, is_mutating: bool) -> Counted {
        let request_kind = if is_mutating { "mutating" } else { "readOnly" };
        count(&self.inflight.get_or_create(&KindLabel { request_kind }))
    }

    /// An answer goes on.
    pub(crate) fn count_long_running(&self, labels: &RequestLabels) -> Counted {
        count(&self.long_running.get_or_create(labels))
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
    pub(crate) fn answered(&self, labels: &RequestLabels, code: u16, took: Duration) {
        self.requests.get_or_create(&AnsweredLabels { request: labels.clone(), code }).inc();
        self.durations.get_or_create(labels).observe(took.as_secs_f64());
    }

    /// So many objects of a resource are stored.
    pub(crate) fn stored(&self, group: &str, resource: &str, count: usize) {
        let labels = ResourceLabels { group: group.to_owned(), resource: resource.to_owned() };
        self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The page in the format that the client asks for, and its Content-Type.
    pub(crate) fn page(&self, headers: &HeaderMap) -> (&'static str, String) {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.contains("application/openmetrics-text")) {
            return ("application/openmetrics-text; version=1.0.0; charset=utf-8", page);
        }
        ("text/plain; version=0.0.4; charset=utf-8", plain(&page))
    }
}

/// OpenMetrics text in Prometheus' older format, in which the suffix of a counter is a part of its
/// name, and which knows neither units nor an end.
fn plain(page: &str) -> String {
    let counters: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let about = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match about.and_then(|about| about.split_once(' ')) {
            Some((name, rest)) if counters.contains(&name) => {
                out.push_str(&line[..7]);
                out.push_str(name);
                out.push_str("_total ");
                out.push_str(rest);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn count(gauge: &Gauge) -> Counted {
    gauge.inc();
    Counted(gauge.clone())
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

/// kube-apiserver's buckets.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

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
            ..RequestLabels::default()
        };
        metrics.answered(&labels, 200, Duration::from_millis(2));
        let long = metrics.count_long_running(&labels);
        let request = metrics.count_request(true);
        let (content_type, page) = metrics.page(&HeaderMap::new());
        assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
        assert!(page.contains("\n# TYPE apiserver_request_total counter\n"), "{page}");
        assert!(page.contains("\n# TYPE apiserver_watches gauge\n"), "{page}");
        assert!(page.contains("apiserver_watches 1"));
        let labels = "verb=\"LIST\",group=\"\",version=\"v1\",resource=\"services\",subresource=\"\",\
                      scope=\"namespace\",dry_run=\"\",component=\"apiserver\"";
        for line in [
            format!("apiserver_request_total{{{labels},code=\"200\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{le=\"0.005\",{labels}}} 1"),
            format!("apiserver_longrunning_requests{{{labels}}} 1"),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1".to_owned(),
        ] {
            assert!(page.contains(&line), "{line} is not in {page}");
        }
        drop((watch, long, request));
        let asked =
            HeaderMap::from_iter([(ACCEPT, "application/openmetrics-text".parse().unwrap())]);
        let (content_type, page) = metrics.page(&asked);
        assert!(content_type.starts_with("application/openmetrics-text"));
        assert!(page.contains("apiserver_watches 0") && page.ends_with("# EOF\n"));
    }
}
