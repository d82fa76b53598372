//! Who gets new connections: readiness, deletion, no endpoints, hairpin, scaling under traffic.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Lab, Traffic, eventually, kubectl};
use crate::reach::{DUAL_STACK, pod_of};

/// A Deployment whose pods can be made unready, behind a node port.
const MOODY: &str = include_str!("moody.yaml");

#[test]
fn only_ready_pods_get_new_connections() {
    let test = "only_ready_pods_get_new_connections";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, MOODY, &[]) else { return };
    let [first, second] = ["node1", "node2"].map(|node| lab.pod_on(&kubectl, "moody", node));
    lab.script(&format!("pod/{first}"), "curl -s -X POST localhost:8080/unready");
    let unready = format!("pod/{first}");
    lab.kubectl(&kubectl, &["wait", &unready, "--for=condition=Ready=false", "--timeout=20s"]);
    // Node and slice follow the pod's condition; then not one request may stray.
    eventually("the unready pod is left alone", || !answers(&lab, 10).contains(&first));
    let seen = answers(&lab, 40);
    assert_eq!(seen, vec![second.clone(); 40], "{first} is not ready");
    lab.script(&format!("pod/{first}"), "curl -s -X POST localhost:8080/ready");
    eventually("the pod is asked again", || answers(&lab, 10).contains(&first));

    lab.kubectl(&kubectl, &["delete", "pod", &second, "--wait=true"]);
    let seen = answers(&lab, 40);
    assert!(seen.len() == 40 && !seen.contains(&second), "{second} is deleted: {seen:?}");

    no_endpoint_refuses_at_once(&lab, &kubectl);
}

fn no_endpoint_refuses_at_once(lab: &Lab, kubectl: &Path) {
    lab.kubectl(kubectl, &["scale", "deployment/moody", "--replicas=0"]);
    lab.kubectl(kubectl, &["wait", "pod", "-l", "app=moody", "--for=delete", "--timeout=20s"]);
    let path = "-o=jsonpath={.spec.clusterIP}";
    let address = lab.kubectl(kubectl, &["get", "service", "moody", path]);
    let places =
        [("client", "node1:30010"), ("client", "node2:30010"), ("node1", &format!("{address}:80"))];
    for (place, target) in places {
        eventually(&format!("{target} refuses at {place}"), || refuses(lab, place, target));
    }
}

#[test]
fn an_undeclared_port_refuses_and_a_pod_reaches_itself() {
    let test = "an_undeclared_port_refuses_and_a_pod_reaches_itself";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.spec.clusterIPs[*]}";
    let addresses = lab.kubectl(&kubectl, &["get", "service", "web-clusterip", path]);
    for node in ["node1", "node2"] {
        let pod = lab.pod_on(&kubectl, "web", node);
        for address in addresses.split_whitespace() {
            let shown =
                if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            for place in [node.to_owned(), format!("pod/{pod}")] {
                assert!(refuses(&lab, &place, &format!("{shown}:81")), "{place} -> {shown}:81");
            }
            // One of two endpoints is the pod itself: 40 requests miss it once in 10^12 runs.
            let script = format!("for i in $(seq 40); do curl -s -m 2 http://{shown}:80/; done");
            let answers = lab.script(&format!("pod/{pod}"), &script);
            assert_eq!(answers.lines().count(), 40, "{pod} -> {shown}: {answers}");
            assert!(answers.lines().any(|line| pod_of(line) == Some(&pod)), "{pod}: {answers}");
        }
    }
}

#[test]
fn scaling_and_rollouts_lose_no_request() {
    let test = "scaling_and_rollouts_lose_no_request";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let balancer = lab.kubectl(&kubectl, &["get", "service", "web-loadbalancer", path]);
    let path = "-o=jsonpath={.spec.clusterIP}";
    let cluster = lab.kubectl(&kubectl, &["get", "service", "web-clusterip", path]);
    let traffic = [
        ("client", "http://node1:30007/".to_owned()),
        ("client", format!("http://{balancer}/")),
        ("node2", format!("http://{cluster}/")),
    ]
    .map(|(place, url)| (url.clone(), Traffic::start(&lab, place, &url)));
    for replicas in ["4", "1", "3"] {
        let replicas = format!("--replicas={replicas}");
        lab.kubectl(&kubectl, &["scale", "deployment/web", &replicas]);
        lab.kubectl(&kubectl, &["rollout", "status", "deployment/web", "--timeout=30s"]);
    }
    lab.kubectl(&kubectl, &["rollout", "restart", "deployment/web"]);
    lab.kubectl(&kubectl, &["rollout", "status", "deployment/web", "--timeout=30s"]);
    for (url, traffic) in traffic {
        let (answered, failed) = traffic.stop();
        assert!(failed.is_empty(), "{url}: {answered} answered, failed: {failed:?}");
        assert!(answered > 20, "{url}: only {answered} requests were made");
    }
}

/// The pods that answered so many requests of the client at the node ports of `moody`.
fn answers(lab: &Lab, count: usize) -> Vec<String> {
    let script = format!(
        "for i in $(seq {count}); do curl -s -m 2 http://node$((i % 2 + 1)):30010/; done; true"
    );
    lab.script("client", &script).lines().filter_map(pod_of).map(str::to_owned).collect()
}

/// Whether a connection is refused at once: curl says 7, long before its time is over.
fn refuses(lab: &Lab, place: &str, target: &str) -> bool {
    let start = Instant::now();
    let url = format!("http://{target}/");
    let output = lab.exec(place, &["curl", "-s", "--connect-timeout", "10", "-m", "10", &url]);
    output.status.code() == Some(7) && start.elapsed() < Duration::from_secs(3)
}
