//! The table of the README, cell by cell: who reaches what, over TCP and UDP, IPv4 and IPv6.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::harness::{Lab, kubectl};

/// One pod per node, and a Service of each type on TCP and UDP in both families.
pub(crate) const DUAL_STACK: &str = include_str!("dual-stack.yaml");

/// Where packets go and what must come of it.
struct Target {
    /// For messages.
    name: String,
    address: String,
    port: u16,
    /// Whether clients outside are answered.
    from_outside: bool,
}

#[test]
fn every_cell_of_the_table_holds() {
    let Some(kubectl) = kubectl("every_cell_of_the_table_holds") else { return };
    let Some(lab) = Lab::start("every_cell_of_the_table_holds", DUAL_STACK, &[]) else { return };
    let targets = targets(&lab, &kubectl);
    let mut places = vec![("client".to_owned(), false)];
    for node in ["node1", "node2"] {
        places.push((node.to_owned(), true));
        places.push((format!("pod/{}", lab.pod_on(&kubectl, "web", node)), true));
    }
    let mut failures = String::new();
    for (place, inside) in &places {
        let answers = ask(&lab, place, &targets);
        for target in &targets {
            for protocol in ["tcp", "udp"] {
                let key = (target.name.clone(), protocol.to_owned());
                let pods = answers.get(&key).cloned().unwrap_or_default();
                let expected = *inside || target.from_outside;
                if expected == pods.is_empty() {
                    let _ = writeln!(
                        failures,
                        "{place} -> {} {protocol}: answers {pods:?}, expected {expected}",
                        target.name
                    );
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn requests_spread_over_all_ready_pods() {
    let Some(kubectl) = kubectl("requests_spread_over_all_ready_pods") else { return };
    let Some(lab) = Lab::start("requests_spread_over_all_ready_pods", DUAL_STACK, &[]) else {
        return;
    };
    let service =
        targets(&lab, &kubectl).into_iter().find(|target| target.name.contains("cluster IP"));
    let service = service.unwrap();
    let script = format!(
        "for i in $(seq 40); do curl -s -m 2 http://{}:{}/; done",
        service.address, service.port
    );
    let answers = lab.script("node1", &script);
    let pods: BTreeSet<&str> = answers.lines().filter_map(pod_of).collect();
    assert_eq!(pods.len(), 2, "{answers}");
}

/// All destinations of the table.
fn targets(lab: &Lab, kubectl: &std::path::Path) -> Vec<Target> {
    let mut targets = Vec::new();
    let words = |arguments: &[&str]| -> Vec<String> {
        lab.kubectl(kubectl, arguments).split_whitespace().map(str::to_owned).collect()
    };
    let path = "-o=jsonpath={.spec.clusterIPs[*]}";
    for address in words(&["get", "service", "web-clusterip", path]) {
        targets.push(Target::new("cluster IP", &address, 80, false));
    }
    let path = "-o=jsonpath={.items[*].status.addresses[?(@.type=='InternalIP')].address}";
    for address in words(&["get", "nodes", path]) {
        targets.push(Target::new("node port", &address, 30007, true));
    }
    let path = "-o=jsonpath={.status.loadBalancer.ingress[*].ip}";
    for address in words(&["get", "service", "web-loadbalancer", path]) {
        targets.push(Target::new("load balancer", &address, 80, true));
    }
    let path = "-o=jsonpath={.items[*].status.podIPs[*].ip}";
    for address in words(&["get", "pods", "--selector=app=web", path]) {
        targets.push(Target::new("pod", &address, 8080, false));
    }
    // 2 cluster IPs, 4 node addresses, 2 load balancer addresses, 4 pod addresses.
    assert_eq!(targets.len(), 12, "{:?}", targets.iter().map(|t| &t.name).collect::<Vec<_>>());
    targets
}

impl Target {
    fn new(kind: &str, address: &str, port: u16, from_outside: bool) -> Self {
        let shown = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        Self { name: format!("{kind} {shown}:{port}"), address: shown, port, from_outside }
    }
}

/// Asks every target once over TCP and UDP; the pods that answered.
fn ask(lab: &Lab, place: &str, targets: &[Target]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut script = String::from("ulimit -c 0\n");
    for target in targets {
        let Target { name, address, port, .. } = target;
        let bare = address.trim_matches(['[', ']']);
        let _ = writeln!(
            script,
            "echo \"{name}|tcp|$(curl -s --connect-timeout 1 -m 2 http://{address}:{port}/ | head -1)\"\n\
             echo \"{name}|udp|$({{ exec 3<>/dev/udp/{bare}/{port} && echo hello >&3 && \
             timeout 1 head -1 <&3; }} 2>/dev/null)\""
        );
    }
    let mut answers: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in lab.script(place, &script).lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(name), Some(protocol), Some(answer)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if let Some(pod) = pod_of(answer) {
            let key = (name.to_owned(), protocol.to_owned());
            answers.entry(key).or_default().insert(pod.to_owned());
        }
    }
    answers
}

/// The pod that gave an answer of the built-in image.
pub(crate) fn pod_of(answer: &str) -> Option<&str> {
    answer.split_whitespace().find_map(|word| word.strip_prefix("pod="))
}
