//! Counters of Services and endpoints, as Prometheus reads them.
//!
//! The number of time series is bounded: the busiest Services and their endpoints are told apart,
//! and the others are one more, with empty labels. So sums over all series are right.

use std::fmt::Write as _;

use super::counters::{CountersReport, EndpointCounts, ServiceCounts, Traffic};

/// Services told apart, each in eight time series.
const SERVICES: usize = 500;
/// Endpoints told apart, each in five.
const ENDPOINTS: usize = 1000;

/// All of it, without the mark of the end.
pub(crate) fn encode(report: &CountersReport) -> String {
    let mut busiest: Vec<&ServiceCounts> = report.services.iter().collect();
    busiest.sort_by_key(|service| std::cmp::Reverse(service.events()));
    let (named, others) = busiest.split_at(busiest.len().min(SERVICES));
    let mut rest = report.left_out.clone();
    others.iter().for_each(|other| rest.add(other));
    let services: Vec<&ServiceCounts> = named.iter().copied().chain([&rest]).collect();

    let all = || busiest.iter().flat_map(|service| of_endpoints(service));
    let in_all = all().count();
    let apart: Vec<Endpoint<'_>> =
        named.iter().flat_map(|service| of_endpoints(service)).take(ENDPOINTS).collect();
    let ServiceCounts { connections, to, from, .. } = report.left_out;
    let mut rest = EndpointCounts { connections, to, from };
    all().skip(apart.len()).for_each(|endpoint| rest.add(*endpoint.counts));
    let rest = Endpoint { service: &ServiceCounts::default(), address: "", counts: &rest };
    let endpoints: Vec<Endpoint<'_>> = apart.iter().copied().chain([rest]).collect();

    let mut text = String::new();
    write_services(&mut text, &services);
    write_endpoints(&mut text, &endpoints);
    let summed = [("services", others.len()), ("endpoints", in_all - apart.len())];
    write_left_out(&mut text, &report.left_out, &summed);
    text
}

/// One endpoint of a Service.
#[derive(Clone, Copy)]
struct Endpoint<'a> {
    service: &'a ServiceCounts,
    address: &'a str,
    counts: &'a EndpointCounts,
}

impl Endpoint<'_> {
    fn labels(&self) -> String {
        format!("{},endpoint=\"{}\"", labels(self.service), self.address)
    }
}

fn of_endpoints(service: &ServiceCounts) -> impl Iterator<Item = Endpoint<'_>> {
    let endpoint = |(address, counts)| Endpoint { service, address, counts };
    service.endpoints.iter().map(|(address, counts)| (address.as_str(), counts)).map(endpoint)
}

fn write_services(text: &mut String, services: &[&ServiceCounts]) {
    let name = "portolan_service_connections";
    head(text, name, "counter", "New connections, by what became of them.");
    for service in services {
        let results = [
            ("balanced", service.connections),
            ("refused", service.refused),
            ("dropped", service.dropped),
            ("forbidden", service.forbidden),
        ];
        for (result, count) in results {
            sample(text, name, &format!("{},result=\"{result}\"", labels(service)), count);
        }
    }
    let help = "to and from the endpoints of a Service.";
    let traffic = services.iter().map(|service| (labels(service), service.to, service.from));
    write_traffic(text, "portolan_service", help, traffic);
}

fn write_endpoints(text: &mut String, endpoints: &[Endpoint<'_>]) {
    let name = "portolan_endpoint_connections";
    head(text, name, "counter", "New connections that were sent to an endpoint.");
    for endpoint in endpoints {
        sample(text, name, &endpoint.labels(), endpoint.counts.connections);
    }
    let traffic = endpoints.iter();
    let traffic = traffic.map(|one| (one.labels(), one.counts.to, one.counts.from));
    write_traffic(text, "portolan_endpoint", "to and from an endpoint.", traffic);
}

fn write_traffic(
    text: &mut String,
    prefix: &str,
    help: &str,
    all: impl Iterator<Item = (String, Traffic, Traffic)> + Clone,
) {
    type Value = fn(Traffic) -> u64;
    let values: [(&str, &str, Value); 2] = [
        ("packets", "Packets", |traffic| traffic.packets),
        ("bytes", "Bytes", |traffic| traffic.bytes),
    ];
    for (unit, of, value) in values {
        let name = format!("{prefix}_{unit}");
        head(text, &name, "counter", &format!("{of} {help}"));
        for (labels, to, from) in all.clone() {
            sample(text, &name, &format!("{labels},direction=\"to\""), value(to));
            sample(text, &name, &format!("{labels},direction=\"from\""), value(from));
        }
    }
}

fn write_left_out(text: &mut String, left_out: &ServiceCounts, summed: &[(&str, usize)]) {
    let name = "portolan_counters_summed";
    head(text, name, "gauge", "How many share the time series with empty labels.");
    for (of, count) in summed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{{of=\"{of}\"}} {count}");
    }
    let name = "portolan_counters_without_room";
    head(text, name, "counter", "What the kernel had no counter left for, by Service or endpoint.");
    for (of, count) in [
        ("connections", left_out.connections),
        ("packets", left_out.to.packets + left_out.from.packets),
        ("refusals", left_out.refused + left_out.dropped + left_out.forbidden),
    ] {
        sample(text, name, &format!("of=\"{of}\""), count);
    }
}

/// Names of Services need no escapes.
fn labels(service: &ServiceCounts) -> String {
    format!("namespace=\"{}\",service=\"{}\"", service.namespace, service.name)
}

// Writing to a String cannot fail.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(text, "{name}_total{{{labels}}} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(number: u64, endpoints: u64) -> ServiceCounts {
        let to = Traffic { packets: number, bytes: number * 100 };
        let counts = EndpointCounts { connections: 1, to, from: Traffic::default() };
        let address = |endpoint| format!("10.244.{number}.{endpoint}:80");
        ServiceCounts {
            namespace: "default".to_owned(),
            name: format!("s{number}"),
            connections: number,
            to,
            endpoints: (0..endpoints).map(|endpoint| (address(endpoint), counts)).collect(),
            ..ServiceCounts::default()
        }
    }

    #[test]
    fn the_number_of_series_is_bounded_and_sums_are_right() {
        let mut report = CountersReport {
            services: (1..=502).map(|number| service(number, 3)).collect(),
            ..CountersReport::default()
        };
        report.left_out.connections = 7;
        let text = encode(&report);
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples, (SERVICES + 1) * 8 + (ENDPOINTS + 1) * 5 + 2 + 3);
        for line in [
            r#"service_connections_total{namespace="default",service="s502",result="balanced"} 502"#,
            r#"service_connections_total{namespace="",service="",result="balanced"} 10"#,
            r#"service_bytes_total{namespace="default",service="s3",direction="to"} 300"#,
            r#"service_packets_total{namespace="",service="",direction="from"} 0"#,
            r#"endpoint_packets_total{namespace="default",service="s502",endpoint="10.244.502.0:80",direction="to"} 502"#,
            r#"endpoint_connections_total{namespace="",service="",endpoint=""} 513"#,
            r#"counters_summed{of="services"} 2"#,
            r#"counters_summed{of="endpoints"} 506"#,
            r#"counters_without_room_total{of="connections"} 7"#,
        ] {
            assert!(text.contains(&format!("\nportolan_{line}\n")), "{line}");
        }
    }
}
