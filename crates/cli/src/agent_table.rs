//! What one node's agent does, for people: within 80 columns.

use std::fmt::Write;

use daemon::agent::dry_run::Difference;
use daemon::agent::report::{ActionReport, AgentReport, FrontendReport, NodeReport, ServiceReport};

/// Columns of the answer.
const WIDTH: usize = 80;

/// The answer of `agent status`.
pub(crate) fn status(report: &AgentReport) -> String {
    let mut out = node(&report.node);
    if report.services.is_empty() && report.node.waiting_for.is_empty() {
        out += "No Service, or none of that name: headless ones and those that a label hands to\n\
                another proxy are not watched.\n";
    }
    for service in &report.services {
        out += &self::service(service);
    }
    out
}

/// The answer of `agent --dry-run`. Elements keep their line, whatever its length.
pub(crate) fn difference(difference: &Difference) -> String {
    let mut out = String::new();
    for (owner, change) in &difference.changes {
        let _ = writeln!(out, "{} {owner}", change.mark);
        for (mark, line) in &change.lines {
            let _ = writeln!(out, "    {mark} {line}");
        }
    }
    if difference.changes.is_empty() {
        out += "The kernel holds what it should: nothing would change.\n";
    }
    for leftover in &difference.leftovers {
        let _ = writeln!(out, "A kube-proxy has left {leftover}.");
    }
    out
}

fn node(node: &NodeReport) -> String {
    let state = if node.programmed { "programmed" } else { "not programmed" };
    let zone = node.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    let mut out = format!("Node {}{zone}: {state}\n", node.name);
    let mut line = |name: &str, value: &str| wrapped(&mut out, 2, &format!("{name} {value}"));
    if let Some(time) = &node.last_sync {
        line("last sync", time);
    }
    if !node.node_port_addresses.is_empty() {
        line("node ports on", &node.node_port_addresses.join(" "));
    }
    if let Some(detector) = &node.local_detector {
        line("local pods by", detector);
    }
    for missing in &node.waiting_for {
        line("waits for", missing);
    }
    if let Some(error) = &node.error {
        line("error:", error);
    }
    if let Some(repair) = &node.last_repair {
        let by = if repair.by.is_empty() { "somebody".to_owned() } else { repair.by.join(", ") };
        let (count, what, time) = (node.repairs, &repair.what, &repair.time);
        line("repairs:", &format!("{count}, the last at {time}: {by} had changed {what}"));
    }
    for warning in &node.warnings {
        line("warning:", warning);
    }
    out.push('\n');
    out
}

fn service(service: &ServiceReport) -> String {
    let mut out = format!("{}/{}  {}\n", service.namespace, service.name, service.kind);
    if service.frontends.is_empty() {
        wrapped(&mut out, 2, "nothing is programmed");
    }
    for frontend in &service.frontends {
        let place = place(frontend);
        let outside =
            frontend.outside.as_ref().map(|outside| format!("; from outside: {}", result(outside)));
        let result = result(&frontend.result);
        wrapped(&mut out, 2, &format!("{place:<28} {result}{}", outside.unwrap_or_default()));
    }
    for reason in &service.reasons {
        wrapped(&mut out, 2, &format!("because {reason}"));
    }
    out
}

fn place(frontend: &FrontendReport) -> String {
    let FrontendReport { port, protocol, .. } = frontend;
    match &frontend.address {
        Some(address) if address.contains(':') => format!("[{address}]:{port}/{protocol}"),
        Some(address) => format!("{address}:{port}/{protocol}"),
        None => format!("node port {port}/{protocol} {}", frontend.ip_family),
    }
}

fn result(action: &ActionReport) -> String {
    match (action.action.as_str(), action.endpoints.len()) {
        ("balance", 1) => format!("1 endpoint: {}", action.endpoints.join(" ")),
        ("balance", count @ 2..=3) => format!("{count} endpoints: {}", action.endpoints.join(" ")),
        ("balance", count) => format!("{count} endpoints"),
        ("reject", _) => "refused".to_owned(),
        _ => "ignored".to_owned(),
    }
}

/// Writes a line, broken between words where it is too long; what follows is indented further.
fn wrapped(out: &mut String, indent: usize, text: &str) {
    let mut column = 0;
    for (position, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if position == 0 {
            let _ = write!(out, "{:indent$}{word}", "");
            column = indent + length;
        } else if word.is_empty() || column + 1 + length <= WIDTH {
            let _ = write!(out, " {word}");
            column += 1 + length;
        } else {
            let indent = indent + 4;
            let _ = write!(out, "\n{:indent$}{word}", "");
            column = indent + length;
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use daemon::agent::report::RepairReport;

    use super::*;

    fn action(action: &str, endpoints: usize) -> ActionReport {
        ActionReport {
            action: action.to_owned(),
            endpoints: (0..endpoints).map(|n| format!("[fd00:10:244::{n:x}]:8080")).collect(),
            reason: None,
        }
    }

    fn frontend(address: Option<&str>, result: ActionReport) -> FrontendReport {
        FrontendReport {
            kind: "ClusterIP".to_owned(),
            address: address.map(str::to_owned),
            ip_family: "IPv6".to_owned(),
            port: 65535,
            protocol: "SCTP".to_owned(),
            port_name: String::new(),
            result,
            outside: None,
            masquerade: "Never".to_owned(),
            affinity_seconds: None,
            source_ranges: None,
        }
    }

    #[test]
    fn the_answer_fits_80_columns_and_gives_reasons() {
        let mut node_port = frontend(None, action("balance", 9));
        node_port.outside = Some(action("drop", 0));
        let report = AgentReport {
            node: NodeReport {
                name: "node1".to_owned(),
                programmed: true,
                repairs: 2,
                last_repair: Some(RepairReport {
                    time: "2026-01-01T00:00:00Z".to_owned(),
                    what: "chain ip portolan services, set ip portolan endpoints".to_owned(),
                    by: vec!["nft (process 4711)".to_owned()],
                }),
                error: Some("could not send a transaction to nf_tables, ".repeat(5) + "no"),
                ..NodeReport::default()
            },
            services: vec![ServiceReport {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                kind: "NodePort".to_owned(),
                frontends: vec![
                    frontend(Some("fd00:10:96:ffff:ffff::1:9c"), action("balance", 3)),
                    node_port,
                ],
                reasons: vec!["the traffic policy is Local and no endpoint is on this node".into()],
            }],
        };
        let text = status(&report);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
        }
        assert!(text.contains("because the traffic policy is Local"), "{text}");
        assert!(text.contains("9 endpoints; from outside: ignored"), "{text}");
        assert!(text.contains("repairs: 2, the last at 2026-01-01T00:00:00Z: nft"), "{text}");
        assert!(text.starts_with("Node node1: programmed\n"), "{text}");
    }
}
