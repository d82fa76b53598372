//! What `/counters` and `portolan top` tell: what has happened to new connections, by Service.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::ServiceName;
use nft::Counts;
use serde::{Deserialize, Serialize};

/// Services that `/metrics` tells apart; the others are one more, so that the number of time series
/// is bounded.
const SERIES: usize = 500;

/// Counters of all Services since the tables were made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CountersReport {
    /// By namespace and name.
    pub services: Vec<ServiceCounts>,
}

/// Counters of one Service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceCounts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// New connections that were sent to an endpoint.
    pub connections: u64,
    /// Refused: no endpoint anywhere.
    pub refused: u64,
    /// Ignored: policy Local, and no endpoint on this node.
    pub dropped: u64,
    /// Ignored: not from one of the source ranges.
    pub forbidden: u64,
    /// New connections by endpoint.
    pub endpoints: BTreeMap<String, u64>,
}

impl CountersReport {
    pub(crate) fn of(counts: &BTreeMap<ServiceName, Counts>) -> Self {
        let service = |(name, counts): (&ServiceName, &Counts)| {
            let endpoint =
                |(address, count): (&std::net::SocketAddr, &u64)| (address.to_string(), *count);
            ServiceCounts {
                namespace: name.namespace.to_string(),
                name: name.name.to_string(),
                connections: counts.connections,
                refused: counts.refused,
                dropped: counts.dropped,
                forbidden: counts.forbidden,
                endpoints: counts.endpoints.iter().map(endpoint).collect(),
            }
        };
        Self { services: counts.iter().map(service).collect() }
    }

    /// As Prometheus reads it. The busiest Services by name, the rest with empty names.
    pub(crate) fn to_metrics(&self) -> String {
        let mut services: Vec<&ServiceCounts> = self.services.iter().collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.connections));
        let (named, others) = services.split_at(services.len().min(SERIES));
        let mut rest = ServiceCounts::default();
        for other in others {
            rest.connections += other.connections;
            rest.refused += other.refused;
            rest.dropped += other.dropped;
            rest.forbidden += other.forbidden;
        }
        let mut text = "# HELP portolan_service_connections New connections, by what became of \
                        them.\n# TYPE portolan_service_connections counter\n"
            .to_owned();
        for service in named.iter().copied().chain((!others.is_empty()).then_some(&rest)) {
            for (result, count) in [
                ("balanced", service.connections),
                ("refused", service.refused),
                ("dropped", service.dropped),
                ("forbidden", service.forbidden),
            ] {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "portolan_service_connections_total{{namespace=\"{}\",service=\"{}\",\
                     result=\"{result}\"}} {count}",
                    service.namespace, service.name
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_is_bounded() {
        let service = |number: u64| ServiceCounts {
            namespace: "default".to_owned(),
            name: format!("s{number}"),
            connections: number,
            ..ServiceCounts::default()
        };
        let report = CountersReport { services: (1..=502).map(service).collect() };
        let text = report.to_metrics();
        assert_eq!(text.lines().count(), 2 + (SERIES + 1) * 4);
        let busiest = r#"{namespace="default",service="s502",result="balanced"} 502"#;
        assert!(text.contains(busiest));
        assert!(text.contains(r#"{namespace="",service="",result="balanced"} 3"#), "1 + 2");
    }
}
