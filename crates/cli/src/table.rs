//! The table of Services: what each is, who can reach it, and what to try.

use std::fmt::Write;

use lab::{ServiceStatus, Status};

/// The whole answer of `status`, within 80 columns.
pub(crate) fn status(status: &Status) -> String {
    let mut out = nodes(status);
    out.push('\n');
    out += &services(&status.services);
    out
}

/// Nodes, one a line.
fn nodes(status: &Status) -> String {
    let rows = status.nodes.iter().map(|node| {
        let state = match (node.running, node.ready) {
            (false, _) => "stopped",
            (true, true) => "Ready",
            (true, false) => "NotReady",
        };
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        vec![node.name.clone(), state.to_owned(), node.pods.to_string(), addresses.join(" ")]
    });
    grid(&["NODE", "STATE", "PODS", "ADDRESSES"], rows.collect())
}

/// Services, one a line, with the URLs that lead to them from this machine below each.
pub(crate) fn services(services: &[ServiceStatus]) -> String {
    if services.is_empty() {
        return "No Services yet: kubectl apply -f FILE, or portolan apply -f FILE\n".to_owned();
    }
    let rows = services.iter().map(|service| {
        vec![
            full_name(service),
            service.kind.clone(),
            address(service),
            ports(service),
            service.ready_endpoints.to_string(),
        ]
    });
    let header = ["SERVICE", "TYPE", "ADDRESS", "PORTS", "READY"];
    let grid = grid(&header, rows.collect());
    let mut lines = grid.lines();
    let mut out = lines.next().map(|line| format!("{line}\n")).unwrap_or_default();
    for (line, service) in lines.zip(services) {
        let _ = writeln!(out, "{line}\n  reached by {}", reached_by(service));
        for url in &service.urls {
            let _ = writeln!(out, "  from this machine: {}  ({})", url.url, url.leads_to);
        }
    }
    out
}

/// The namespace is left out where it is `default`.
fn full_name(service: &ServiceStatus) -> String {
    match service.namespace.as_str() {
        "default" => service.name.clone(),
        namespace => format!("{namespace}/{}", service.name),
    }
}

/// The address that clients of this type use: the external one where there is one.
fn address(service: &ServiceStatus) -> String {
    let first = |addresses: &[String]| addresses.first().cloned();
    match service.kind.as_str() {
        "LoadBalancer" => first(&service.external_ips).unwrap_or_else(|| "<pending>".to_owned()),
        _ => first(&service.cluster_ips).unwrap_or_else(|| "<none>".to_owned()),
    }
}

fn ports(service: &ServiceStatus) -> String {
    let port = |port: &lab::PortStatus| match port.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    };
    service.ports.iter().map(port).collect::<Vec<_>>().join(",")
}

/// Who gets an answer; the table of the README in words.
fn reached_by(service: &ServiceStatus) -> &'static str {
    match service.kind.as_str() {
        "NodePort" => "pods, nodes, and outside clients through any node",
        "LoadBalancer" => "pods, nodes, and outside clients",
        "ExternalName" => "nobody: it is a DNS alias",
        _ if service.cluster_ips.is_empty() => "pods and nodes, by the pods' own addresses",
        _ => "pods and nodes",
    }
}

/// Left-aligned columns, two blanks apart, no blanks at line ends.
fn grid(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let header: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].len()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use lab::{EndpointUrl, PortStatus};

    use super::*;

    fn service(name: &str, kind: &str, node_port: Option<u16>, external: &[&str]) -> ServiceStatus {
        ServiceStatus {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            cluster_ips: vec!["10.96.183.217".to_owned(), "fd00:10:96::1:9c".to_owned()],
            external_ips: external.iter().map(|&ip| ip.to_owned()).collect(),
            ports: vec![PortStatus {
                name: String::new(),
                protocol: "TCP".to_owned(),
                port: 80,
                node_port,
            }],
            ready_endpoints: 3,
            urls: Vec::new(),
        }
    }

    #[test]
    fn the_three_types_fit_80_columns() {
        let mut services_of_all_types = vec![
            service("my-service", "ClusterIP", None, &[]),
            service("my-service-nodeport", "NodePort", Some(30007), &[]),
            service("my-service-loadbalancer", "LoadBalancer", Some(32767), &["172.30.0.192"]),
        ];
        services_of_all_types[2].urls.push(EndpointUrl {
            url: "http://127.0.0.1:40123".to_owned(),
            leads_to: "172.30.0.192:80".to_owned(),
            protocol: "TCP".to_owned(),
        });
        let table = services(&services_of_all_types);
        for line in table.lines() {
            assert!(line.len() <= 80, "{} columns: {line}", line.len());
        }
        assert!(table.contains("http://127.0.0.1:40123"));
    }

    #[test]
    fn a_load_balancer_without_an_address_is_pending() {
        let table = services(&[service("lb", "LoadBalancer", None, &[])]);
        assert!(table.contains("<pending>"), "{table}");
    }
}
