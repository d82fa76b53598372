//! Least rights: every component of the lab has an identity of its own and never asks for
//! anything that its role does not grant.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Lab, eventually, kubectl};
use crate::reach::DUAL_STACK;

/// What the components ask, without the many events of health checks.
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

#[test]
fn no_component_is_ever_refused() {
    let test = "no_component_is_ever_refused";
    let Some(kubectl) = kubectl(test) else { return };
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), POLICY).unwrap();
    let flag = format!("--audit-policy-file={}", policy.path().display());
    let Some(lab) = Lab::start(test, DUAL_STACK, &[&flag]) else { return };
    let run = |arguments: &[&str]| lab.kubectl(&kubectl, arguments);
    // What makes every controller, the kubelets and the DNS write.
    run(&["create", "namespace", "shop"]);
    run(&["-n", "shop", "create", "configmap", "c", "--from-literal=a=b"]);
    run(&["-n", "shop", "create", "deployment", "web", "--image=portolan/web", "--replicas=2"]);
    run(&["-n", "shop", "set", "env", "deployment/web", "--from=configmap/c"]);
    run(&["-n", "shop", "rollout", "status", "deployment/web", "--timeout=60s"]);
    run(&["-n", "shop", "expose", "deployment", "web", "--port=80", "--type=LoadBalancer"]);
    let wait = ["--for=jsonpath={.status.loadBalancer.ingress}", "--timeout=20s"];
    run(&[["-n", "shop", "wait", "service/web"].as_slice(), &wait].concat());
    run(&["-n", "shop", "delete", "service", "web"]);
    run(&["-n", "shop", "scale", "deployment/web", "--replicas=1"]);
    run(&["delete", "namespace", "shop", "--wait=true", "--timeout=60s"]);
    lab.portolan(&["node", "stop", "node2"]).status().unwrap();
    lab.portolan(&["node", "start", "node2"]).status().unwrap();
    eventually("node2 is ready again", || {
        let path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        run(&["get", "node", "node2", path]).trim() == "True"
    });
    lab.portolan(&["down"]).status().unwrap();
    let events = events(&lab);
    // Admission answers 403 as well: to a controller that has not yet heard of a namespace's end.
    let is_refused = |event: &&Value| {
        let annotations = &event["annotations"];
        let ends = &event["responseStatus"]["details"]["causes"][0]["reason"];
        annotations["authorization.k8s.io/decision"] == "forbid"
            || (event["responseStatus"]["code"] == 403 && ends != "NamespaceTerminating")
    };
    let refused: Vec<&Value> = events.iter().filter(is_refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let users: BTreeSet<&str> =
        events.iter().filter_map(|event| event["user"]["username"].as_str()).collect();
    for component in [
        "portolan:agent:node1",
        "portolan:agent:node2",
        "portolan:controller",
        "system:node:node1",
        "system:node:node2",
        "system:serviceaccount:kube-system:portolan-dns",
    ] {
        assert!(users.contains(component), "{component} is not one of {users:?}");
    }
    let masters: BTreeSet<&str> = events
        .iter()
        .filter(|event| {
            let groups = event["user"]["groups"].as_array();
            groups.is_some_and(|groups| groups.iter().any(|group| group == "system:masters"))
        })
        .filter_map(|event| event["user"]["username"].as_str())
        .collect();
    assert_eq!(masters.into_iter().collect::<Vec<_>>(), ["kubernetes-admin"]);
}

/// What the API server has written down; complete once the lab has ended.
fn events(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.folder().join("logs/audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
