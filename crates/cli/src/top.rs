//! `top`: the busiest Services of this node, from its agent's counters.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use daemon::agent::counters::{CountersReport, EndpointCounts, ServiceCounts};
use serde::Serialize;

use crate::args::{Output, Top};
use crate::{fetch, report};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// One Service, per second.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    namespace: String,
    name: String,
    #[serde(flatten)]
    flow: Flow,
    refused_per_second: f64,
    dropped_per_second: f64,
    forbidden_per_second: f64,
    /// Since the counters were made.
    connections: u64,
    /// The busiest first.
    endpoints: Vec<EndpointRates>,
}

/// One endpoint, per second.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct EndpointRates {
    address: String,
    #[serde(flatten)]
    flow: Flow,
}

/// What goes to endpoints and comes from there, per second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    connections_per_second: f64,
    packets_to_per_second: f64,
    bytes_to_per_second: f64,
    packets_from_per_second: f64,
    bytes_from_per_second: f64,
}

/// `top`.
pub(crate) fn run(arguments: &Top) -> anyhow::Result<()> {
    let mut before = look(arguments)?;
    let mut since = Instant::now();
    loop {
        // A view for people: counters are looked at once a second.
        std::thread::sleep(INTERVAL);
        let now = look(arguments)?;
        let rates = rates(&before, &now, since.elapsed());
        (before, since) = (now, Instant::now());
        match arguments.output {
            Output::Json => {
                let text = serde_json::to_string(&rates).context("write the rates as JSON")?;
                report::results(&format!("{text}\n"));
            }
            Output::Table if arguments.once => {
                report::results(&table(&rates, arguments.endpoints, usize::MAX));
            }
            // Clears the terminal and begins at its upper left corner.
            Output::Table => {
                let table = table(&rates, arguments.endpoints, arguments.rows);
                report::results(&format!("\x1b[2J\x1b[H{table}"));
            }
        }
        if arguments.once {
            return Ok(());
        }
    }
}

fn look(arguments: &Top) -> anyhow::Result<CountersReport> {
    let text = fetch::get(arguments.agent, "/counters").with_context(|| {
        format!("ask the agent on {}: does it run here, with --counters?", arguments.agent)
    })?;
    serde_json::from_str(&text).context("understand the agent's answer")
}

/// What happened between two looks, the busiest first.
fn rates(before: &CountersReport, now: &CountersReport, passed: Duration) -> Vec<Rates> {
    let name = |one: &ServiceCounts| (one.namespace.clone(), one.name.clone());
    let before: BTreeMap<_, _> = before.services.iter().map(|one| (name(one), one)).collect();
    let nothing = ServiceCounts::default();
    let of_service = |one: &ServiceCounts| {
        let old = before.get(&name(one)).copied().unwrap_or(&nothing);
        let of_endpoint = |(address, counts): (&String, &EndpointCounts)| {
            let old = old.endpoints.get(address).copied().unwrap_or_default();
            EndpointRates { address: address.clone(), flow: Flow::of(&old, counts, passed) }
        };
        let mut endpoints: Vec<EndpointRates> = one.endpoints.iter().map(of_endpoint).collect();
        endpoints.sort_by(|a, b| b.flow.events().total_cmp(&a.flow.events()));
        Rates {
            namespace: one.namespace.clone(),
            name: one.name.clone(),
            flow: Flow::of(&whole(old), &whole(one), passed),
            refused_per_second: rate(old.refused, one.refused, passed),
            dropped_per_second: rate(old.dropped, one.dropped, passed),
            forbidden_per_second: rate(old.forbidden, one.forbidden, passed),
            connections: one.connections,
            endpoints,
        }
    };
    let mut rates: Vec<Rates> = now.services.iter().map(of_service).collect();
    rates.sort_by(|a, b| b.events().total_cmp(&a.events()).then(b.connections.cmp(&a.connections)));
    rates
}

/// All endpoints together, those that are gone too.
fn whole(service: &ServiceCounts) -> EndpointCounts {
    EndpointCounts { connections: service.connections, to: service.to, from: service.from }
}

impl Rates {
    fn events(&self) -> f64 {
        let refusals =
            self.refused_per_second + self.dropped_per_second + self.forbidden_per_second;
        self.flow.events() + refusals
    }
}

impl Flow {
    fn of(old: &EndpointCounts, now: &EndpointCounts, passed: Duration) -> Self {
        Self {
            connections_per_second: rate(old.connections, now.connections, passed),
            packets_to_per_second: rate(old.to.packets, now.to.packets, passed),
            bytes_to_per_second: rate(old.to.bytes, now.to.bytes, passed),
            packets_from_per_second: rate(old.from.packets, now.from.packets, passed),
            bytes_from_per_second: rate(old.from.bytes, now.from.bytes, passed),
        }
    }

    fn events(&self) -> f64 {
        self.connections_per_second + self.packets()
    }

    fn packets(&self) -> f64 {
        self.packets_to_per_second + self.packets_from_per_second
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates need no 53 bits")]
fn rate(old: u64, now: u64, passed: Duration) -> f64 {
    now.saturating_sub(old) as f64 / passed.as_secs_f64()
}

/// Within 80 columns. `TO` and `FROM` are bytes per second, seen from clients.
fn table(rates: &[Rates], endpoints: bool, rows: usize) -> String {
    let mut out = format!(
        "{:<28} {:>6} {:>7} {:>6} {:>6} {:>7} {:>7} {:>6}\n",
        "SERVICE", "NEW/s", "PKTS/s", "TO/s", "FROM/s", "REFUSED", "DROPPED", "FORBID"
    );
    for one in rates.iter().take(rows) {
        let refusals = [one.refused_per_second, one.dropped_per_second, one.forbidden_per_second];
        let [refused, dropped, forbidden] = refusals.map(short);
        let flow = columns(&format!("{}/{}", one.namespace, one.name), &one.flow);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{flow} {refused:>7} {dropped:>7} {forbidden:>6}");
        for endpoint in one.endpoints.iter().filter(|_| endpoints) {
            let _ =
                writeln!(out, "{}", columns(&format!("  {}", endpoint.address), &endpoint.flow));
        }
    }
    out
}

fn columns(name: &str, flow: &Flow) -> String {
    let name: String = name.chars().take(28).collect();
    format!(
        "{name:<28} {:>6} {:>7} {:>6} {:>6}",
        short(flow.connections_per_second),
        short(flow.packets()),
        short(flow.bytes_to_per_second),
        short(flow.bytes_from_per_second),
    )
}

/// In at most five characters, in powers of 1000.
fn short(number: f64) -> String {
    let mut number = number;
    for unit in ["", "K", "M", "G", "T"] {
        let decimals = usize::from(number < 99.95 && !unit.is_empty());
        if number < 999.5 {
            return format!("{number:.decimals$}{unit}");
        }
        number /= 1000.0;
    }
    "many".to_owned()
}

#[cfg(test)]
mod tests {
    use daemon::agent::counters::Traffic;

    use super::*;

    fn counts(name: &str, connections: u64, refused: u64) -> ServiceCounts {
        let namespace = "default".to_owned();
        let name = name.to_owned();
        ServiceCounts { namespace, name, connections, refused, ..ServiceCounts::default() }
    }

    fn report(services: Vec<ServiceCounts>) -> CountersReport {
        CountersReport { services, ..CountersReport::default() }
    }

    #[test]
    fn the_busiest_comes_first_and_80_columns_suffice() {
        let before = report(vec![counts("a", 1_000, 0), counts("b", 5, 0)]);
        let long = "x".repeat(63);
        let mut now = report(vec![counts("a", 1_010, 0), counts("b", 5, 40), counts(&long, 0, 0)]);
        let traffic = Traffic { packets: 1_000_000, bytes: 3_000_000_000 };
        let endpoint = EndpointCounts { connections: 0, to: Traffic::default(), from: traffic };
        let address = "[fd00:10:244:1111:2222:3333:4444:5555]:65535";
        now.services[2].from = traffic;
        now.services[2].endpoints.insert(address.to_owned(), endpoint);
        let rates = rates(&before, &now, Duration::from_secs(2));
        let first = &rates[0];
        assert_eq!((&first.name, first.flow.bytes_from_per_second), (&long, 1.5e9));
        assert_eq!(first.endpoints[0].flow.packets_from_per_second, 500_000.0);
        assert_eq!((rates[1].name.as_str(), rates[1].refused_per_second), ("b", 20.0));
        assert_eq!((rates[2].name.as_str(), rates[2].flow.connections_per_second), ("a", 5.0));
        let table = table(&rates, true, 10);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert_eq!(table.lines().count(), 5);
        assert!(table.lines().nth(1).is_some_and(|line| line.contains("500K      0   1.5G")));
        let json = serde_json::to_value(first).unwrap_or_default();
        assert_eq!(json["endpoints"][0]["bytesFromPerSecond"], 1.5e9);
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 999.4, 999.6, 12_345.0, 99_960.0, 999_499.0, 1e9, 1e18];
        let want = ["0", "999", "1.0K", "12.3K", "100K", "999K", "1.0G", "many"];
        assert_eq!(all.map(short), want);
    }
}
