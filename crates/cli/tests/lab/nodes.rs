//! Taking a node out of service with the real kubectl, and pods that find no node.

use crate::harness::{Lab, eventually, kubectl, text};
use crate::reach::DUAL_STACK;

#[test]
fn a_node_is_cordoned_drained_and_used_again() {
    let test = "a_node_is_cordoned_drained_and_used_again";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let run = |arguments: &[&str]| lab.kubectl(&kubectl, arguments);
    let on = |node: &str| {
        let node = format!("--field-selector=spec.nodeName={node}");
        run(&["get", "pods", "--all-namespaces", "--output=name", &node])
    };
    assert!(!on("node1").is_empty());
    run(&["drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"]);
    assert_eq!(on("node1"), "", "every pod was evicted");
    assert!(run(&["get", "node", "node1"]).contains("Ready,SchedulingDisabled"));
    run(&["rollout", "status", "deployment", "--timeout=60s"]);
    let large = "apiVersion: v1\nkind: Pod\nmetadata: {name: large}\n\
                 spec: {containers: [{name: c, image: any, command: [sleep, '1000'], \
                 resources: {requests: {cpu: '100000'}}}]}\n";
    let applied = lab.kubectl_output(&kubectl, &["apply", "-f", "-"], large);
    assert!(applied.status.success(), "{}", text(&applied));
    let reason = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.";
    eventually("kubectl tells why the pod waits", || {
        let described = run(&["describe", "pod", "large"]);
        described.contains("FailedScheduling") && described.contains(reason)
    });
    run(&["uncordon", "node1"]);
    run(&["create", "deployment", "back", "--image=portolan/web"]);
    run(&["rollout", "status", "deployment/back", "--timeout=60s"]);
    assert!(on("node1").contains("pod/back-"), "the emptier node is taken: {}", on("node1"));
}

/// A pod that waits takes the place of one that goes.
#[test]
fn room_that_becomes_free_is_used() {
    let test = "room_that_becomes_free_is_used";
    let Some(kubectl) = kubectl(test) else { return };
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, \
             image: portolan/web, ports: [{{containerPort: 8080, hostPort: 8080}}]}}]}}\n"
        )
    };
    let Some(lab) = Lab::start(test, &pod("first"), &["--nodes", "1"]) else { return };
    let run = |arguments: &[&str]| lab.kubectl(&kubectl, arguments);
    let applied = lab.kubectl_output(&kubectl, &["apply", "-f", "-"], &pod("second"));
    assert!(applied.status.success(), "{}", text(&applied));
    eventually("the second waits", || {
        run(&["describe", "pod", "second"]).contains("didn't have free ports")
    });
    run(&["delete", "pod", "first"]);
    run(&["wait", "pod", "second", "--for=condition=Ready", "--timeout=20s"]);
}
