//! Names: what resolves in pods, on nodes and at the client.

use crate::harness::{Lab, kubectl};
use crate::reach::DUAL_STACK;

const SERVICES: &str = include_str!("names.yaml");
const ZONE: &str = "default.svc.cluster.local";

#[test]
fn names_resolve_where_they_should() {
    let test = "names_resolve_where_they_should";
    let Some(kubectl) = kubectl(test) else { return };
    if testkit::program("dig").is_none() {
        return testkit::skip(test, "no dig (package dnsutils)");
    }
    let Some(lab) = Lab::start(test, &format!("{DUAL_STACK}---\n{SERVICES}"), &[]) else { return };
    let get = |arguments: &[&str]| lab.kubectl(&kubectl, arguments);
    let addresses = get(&["get", "service", "web-clusterip", "-o=jsonpath={.spec.clusterIPs[*]}"]);
    let (v4, v6) = addresses.split_once(' ').unwrap();
    let pod = format!("pod/{}", lab.pod_on(&kubectl, "web", "node1"));
    let dig = |place: &str, question: &str| {
        let answer = lab.script(place, &format!("dig +search +short +time=2 {question}"));
        let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let full = format!("web-clusterip.{ZONE}");
    for name in ["web-clusterip", "web-clusterip.default", &full] {
        assert_eq!(dig(&pod, &format!("{name} A")), [v4], "{name}");
        assert_eq!(dig(&pod, &format!("{name} AAAA")), [v6], "{name}");
    }
    assert_eq!(dig("node1", &format!("{full} A")), [v4]);
    assert_eq!(dig(&pod, &format!("-x {v4}")), [format!("{full}.")]);
    assert_eq!(dig(&pod, &format!("-x {v6}")), [format!("{full}.")]);
    assert_eq!(dig(&pod, &format!("alias.{ZONE} CNAME")), ["example.com."]);
    let ips = "-o=jsonpath={.items[*].status.podIPs[0].ip}";
    let ips = get(&["get", "pods", "-l", "app=web", ips]);
    let mut ips: Vec<&str> = ips.split_whitespace().collect();
    ips.sort_unstable();
    assert_eq!(dig(&pod, "headless A"), ips);
    let records = dig(&pod, &format!("_http._tcp.web-clusterip.{ZONE} SRV"));
    assert!(records.len() == 1 && records[0].ends_with(&format!(" 80 {full}.")), "{records:?}");
    let records = dig(&pod, &format!("_http._tcp.headless.{ZONE} SRV"));
    assert!(
        records.len() == 2 && records.iter().all(|line| line.contains(" 8080 ")),
        "{records:?}"
    );
    nodes_have_names(&lab, &pod, &full);
}

fn nodes_have_names(lab: &Lab, pod: &str, service: &str) {
    for place in [pod, "node1", "client"] {
        for (node, address) in [("node1", "172.30.0.11"), ("node2", "172.30.0.12")] {
            let found = lab.script(place, &format!("getent ahostsv4 {node}"));
            assert!(found.starts_with(address), "{place}: {node} is {found}");
        }
    }
    let found = lab.script(pod, "getent hosts web-clusterip");
    assert!(found.contains("web-clusterip"), "{found}");
    // The client is outside: the cluster's names are none of its business.
    assert!(!lab.exec("client", &["getent", "hosts", service]).status.success());
}
