//! Requests to the API server, under the names that every Kubernetes component has for them
//! (component-base's `rest_client_*`).

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counts and durations.
#[derive(Clone, Debug)]
pub(crate) struct ApiMetrics {
    requests: Family<Request, Counter>,
    durations: Family<Target, Histogram>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Request {
    /// HTTP status, or `<error>`.
    code: String,
    method: String,
    host: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Target {
    verb: String,
    host: String,
}

impl Default for ApiMetrics {
    fn default() -> Self {
        let durations = Family::new_with_constructor(duration_histogram as fn() -> Histogram);
        Self { requests: Family::default(), durations }
    }
}

impl ApiMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rest_client_requests",
            "Requests to the API server, by status, method and host",
            self.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "Duration of requests to the API server, but for watches",
            self.durations.clone(),
        );
    }

    /// Counts what it is told of.
    pub(crate) fn observer(&self) -> cluster::Observer {
        let own = self.clone();
        Arc::new(move |exchange| own.count(exchange))
    }

    fn count(&self, exchange: &cluster::Exchange) {
        let (method, host) = (exchange.method.to_string(), exchange.host.to_string());
        let code = exchange
            .status
            .map_or_else(|| "<error>".to_owned(), |status| status.as_u16().to_string());
        if !exchange.watch {
            let target = Target { verb: method.clone(), host: host.clone() };
            self.durations.get_or_create(&target).observe(exchange.took.as_secs_f64());
        }
        self.requests.get_or_create(&Request { code, method, host }).inc();
    }
}

/// component-base's buckets.
fn duration_histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{Method, StatusCode};
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn requests_are_counted_and_watches_not_timed() {
        let (metrics, mut registry) = (ApiMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let observer = metrics.observer();
        let exchange = |status, watch| cluster::Exchange {
            method: Method::GET,
            host: "192.0.2.1:6443".into(),
            status,
            took: Duration::from_millis(20),
            watch,
        };
        observer(&exchange(Some(StatusCode::OK), false));
        observer(&exchange(Some(StatusCode::OK), true));
        observer(&exchange(None, false));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"rest_client_requests_total{code="200",method="GET",host="192.0.2.1:6443"} 2"#,
            r#"rest_client_requests_total{code="<error>",method="GET",host="192.0.2.1:6443"} 1"#,
            r#"rest_client_request_duration_seconds_bucket{le="0.025",verb="GET",host="192.0.2.1:6443"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
