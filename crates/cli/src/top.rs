//! `top`: the busiest Services of this node, from its agent's counters.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use daemon::agent::counters::{CountersReport, ServiceCounts};
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
    connections_per_second: f64,
    refused_per_second: f64,
    dropped_per_second: f64,
    forbidden_per_second: f64,
    /// Since the agent counts.
    connections: u64,
    endpoints: usize,
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
            Output::Table if arguments.once => report::results(&table(&rates, usize::MAX)),
            // Clears the terminal and begins at its upper left corner.
            Output::Table => {
                report::results(&format!("\x1b[2J\x1b[H{}", table(&rates, arguments.rows)));
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
    let mut rates: Vec<Rates> = now
        .services
        .iter()
        .map(|one| {
            let old = before.get(&name(one)).copied().unwrap_or(&nothing);
            let rate = |now: u64, old: u64| {
                // More than 4 billion in a second are not counted exactly.
                let more = u32::try_from(now.saturating_sub(old)).unwrap_or(u32::MAX);
                f64::from(more) / passed.as_secs_f64()
            };
            Rates {
                namespace: one.namespace.clone(),
                name: one.name.clone(),
                connections_per_second: rate(one.connections, old.connections),
                refused_per_second: rate(one.refused, old.refused),
                dropped_per_second: rate(one.dropped, old.dropped),
                forbidden_per_second: rate(one.forbidden, old.forbidden),
                connections: one.connections,
                endpoints: one.endpoints.len(),
            }
        })
        .collect();
    let busy = |one: &Rates| {
        one.connections_per_second
            + one.refused_per_second
            + one.dropped_per_second
            + one.forbidden_per_second
    };
    rates.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then(b.connections.cmp(&a.connections)));
    rates
}

/// Within 80 columns.
fn table(rates: &[Rates], rows: usize) -> String {
    let mut out = format!(
        "{:<34} {:>7} {:>7} {:>7} {:>9} {:>10}\n",
        "SERVICE", "NEW/s", "REFUSED", "DROPPED", "FORBIDDEN", "TOTAL"
    );
    for one in rates.iter().take(rows) {
        let name: String = format!("{}/{}", one.namespace, one.name).chars().take(34).collect();
        let _ = writeln!(
            out,
            "{name:<34} {:>7.0} {:>7.0} {:>7.0} {:>9.0} {:>10}",
            one.connections_per_second,
            one.refused_per_second,
            one.dropped_per_second,
            one.forbidden_per_second,
            one.connections
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(name: &str, connections: u64, refused: u64) -> ServiceCounts {
        let namespace = "default".to_owned();
        let name = name.to_owned();
        ServiceCounts { namespace, name, connections, refused, ..ServiceCounts::default() }
    }

    #[test]
    fn the_busiest_comes_first_and_80_columns_suffice() {
        let before = CountersReport { services: vec![counts("a", 1_000, 0), counts("b", 5, 0)] };
        let long = "x".repeat(63);
        let now = CountersReport {
            services: vec![counts("a", 1_010, 0), counts("b", 5, 40), counts(&long, 0, 0)],
        };
        let rates = rates(&before, &now, Duration::from_secs(2));
        assert_eq!((rates[0].name.as_str(), rates[0].refused_per_second), ("b", 20.0));
        assert_eq!((rates[1].name.as_str(), rates[1].connections_per_second), ("a", 5.0));
        let table = table(&rates, 10);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert_eq!(table.lines().count(), 4);
    }
}
