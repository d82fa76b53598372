//! The controllers' metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::slice_metrics::SliceMetrics;

/// Every metric of the controllers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    writes: Family<Labels, Counter>,
    waiting: Gauge,
    /// Those of the endpoint slice controller.
    pub(crate) slices: SliceMetrics,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    controller: &'static str,
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let own = registry.sub_registry_with_prefix("portolan_controller");
        let (writes, waiting) = (Family::default(), Gauge::default());
        own.register("writes", "Writes to the API server", Family::clone(&writes));
        own.register("queue_depth", "Keys that wait to be planned", waiting.clone());
        let slices = SliceMetrics::new(&mut registry);
        Self { registry, writes, waiting, slices }
    }

    /// Writes have ended.
    pub(crate) fn wrote(&self, controller: &'static str, written: u64, failed: u64) {
        for (outcome, count) in [("written", written), ("failed", failed)] {
            self.writes.get_or_create(&Labels { controller, outcome }).inc_by(count);
        }
    }

    /// So many keys wait.
    pub(crate) fn waiting(&self, keys: usize) {
        self.waiting.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn encode(&self) -> String {
        self.slices.measure();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
