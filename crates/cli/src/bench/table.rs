//! The figures next to kube-proxy's.

use std::fmt::Write;

use super::Measured;

/// kube-proxy's figures for 10,000 Services with 5 endpoints each: Kubernetes 1.36.2, measured on a
/// machine with two processors. In the order of [`rows`].
const NFTABLES: [f64; 5] = [13.1, 4218.0, 4480.0, 223.0, 389.0];
const IPTABLES: [f64; 5] = [537.0, 1573.0, 2656.0, 184.0, 236.0];
/// The size that these are for.
const PEERS: (u32, u32) = (10_000, 5);

/// All runs: each next to its peers, then the curve.
pub(super) fn results(all: &[Measured]) -> String {
    let mut out = String::new();
    for measured in all.iter().filter(|one| (one.services, one.endpoints) == PEERS) {
        out += &beside_peers(measured);
        out.push('\n');
    }
    out += &curve(all);
    out
}

fn beside_peers(measured: &Measured) -> String {
    let title = format!("{} Services, {} endpoints each", measured.services, measured.endpoints);
    let mut out = format!(
        "{:<32} {:>10} {:>10}\n{title:<32} {:>10} {:>10} {:>10} {:>7}\n",
        "", "kube-proxy", "kube-proxy", "nftables", "iptables", "Portolan", "ratio"
    );
    for (index, (name, value, unit)) in rows(measured).into_iter().enumerate() {
        let (nftables, iptables) = (NFTABLES[index], IPTABLES[index]);
        let ratio = nftables.min(iptables) / value;
        let _ = writeln!(
            out,
            "{name:<32} {:>10} {:>10} {:>10} {:>6}x",
            format!("{nftables} {unit}"),
            format!("{iptables} {unit}"),
            format!("{} {unit}", rounded(value)),
            rounded(ratio),
        );
    }
    out + "ratio: of the better kube-proxy to Portolan\n"
}

fn rows(measured: &Measured) -> [(&'static str, f64, &'static str); 5] {
    let (p50, max) = spread(&measured.change_milliseconds);
    [
        ("start to last Service", measured.start_seconds, "s"),
        ("endpoint change, p50", p50, "ms"),
        ("endpoint change, max", max, "ms"),
        ("resident memory after start", megabytes(measured.rss_after_start), "MB"),
        ("resident memory, peak", megabytes(measured.rss_peak), "MB"),
    ]
}

/// One line for each size.
fn curve(all: &[Measured]) -> String {
    let mut out = String::new();
    for titles in [
        ["", "start", "after", "change", "change", "memory", "", "messages", "bytes"],
        ["Services", "s", "arrival", "p50 ms", "max ms", "MB", "peak", "a change", "a change"],
    ] {
        line(&mut out, titles.map(str::to_owned));
    }
    for measured in all {
        let (p50, max) = spread(&measured.change_milliseconds);
        let values = [
            measured.start_seconds,
            measured.after_arrival_seconds,
            p50,
            max,
            megabytes(measured.rss_after_start),
            megabytes(measured.rss_peak),
            measured.messages_per_change,
            measured.bytes_per_change,
        ];
        let [start, after, p50, max, memory, peak, messages, bytes] = values.map(rounded);
        let services = measured.services.to_string();
        line(&mut out, [services, start, after, p50, max, memory, peak, messages, bytes]);
    }
    out
}

fn line(out: &mut String, cells: [String; 9]) {
    let [services, start, after, p50, max, memory, peak, messages, bytes] = cells;
    let _ = writeln!(
        out,
        "{services:>8} {start:>7} {after:>8} {p50:>8} {max:>8} {memory:>6} {peak:>6} \
         {messages:>9} {bytes:>9}"
    );
}

/// Median and largest of sorted values.
fn spread(sorted: &[f64]) -> (f64, f64) {
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (median, sorted.last().copied().unwrap_or_default())
}

fn megabytes(bytes: u64) -> f64 {
    // Far below 2^52.
    u32::try_from(bytes / 1000).map_or(f64::INFINITY, f64::from) / 1000.0
}

/// Two digits after the point below 10, one below 100, none above.
fn rounded(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_fit_80_columns() {
        let measured = |services| Measured {
            services,
            endpoints: 5,
            start_seconds: 1234.5,
            after_arrival_seconds: 123.45,
            change_milliseconds: vec![12345.0; 3],
            rss_after_start: 1_234_000_000,
            rss_peak: 1_234_000_000,
            bytes_per_change: 123_456.0,
            messages_per_change: 1234.0,
        };
        let text = results(&[measured(10_000), measured(50_000)]);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.len());
        }
        assert_eq!(text.matches("ratio:").count(), 1, "peers have figures of one size only");
    }
}
