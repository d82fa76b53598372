//! Which node a pod runs on.

use model::{Node, NodeCondition, Object, Owner, Pod, PodName, Write};

use crate::fixtures::{IntoObject as _, cluster, labels, node, pod};
use crate::server::Server;

fn waiting(name: &str) -> Pod {
    Pod { node: None, ..pod(name, "10.0.0.1") }
}

fn owned(name: &str, owner: &str) -> Pod {
    let mut pod = waiting(name);
    pod.meta.owners.push(Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: owner.into(),
        uid: owner.into(),
        controller: true,
        block_owner_deletion: true,
    });
    pod
}

fn tainted(name: &str, taint: &str) -> Node {
    Node { taints: vec![taint.to_owned()], ..node(name) }
}

/// Where each pod ends up, or why it does not.
fn outcome(objects: impl IntoIterator<Item = Object>) -> Vec<String> {
    let mut server = Server::new(cluster(objects));
    let writes = plan::schedule(&server.cluster).writes;
    server.carry_out(&writes);
    assert_eq!(plan::schedule(&server.cluster).writes, [], "not a fixpoint");
    let place = |pod: &Pod| {
        let node = pod.node.as_ref().map(ToString::to_string);
        node.or_else(|| pod.unschedulable.clone()).unwrap_or_default()
    };
    server.pods(None).into_iter().map(place).collect()
}

#[test]
fn pods_of_one_owner_are_spread_before_all_pods_are() {
    let nodes = ["n1", "n2", "n3"].map(|name| node(name).object());
    let crowd = ["x1", "x2", "x3"]
        .map(|name| Pod { node: Some("n3".into()), ..pod(name, "10.0.0.2") }.object());
    let pods = ["a", "b", "c", "d"].map(|name| owned(name, "set").object());
    let placed = outcome(nodes.into_iter().chain(crowd).chain(pods));
    assert_eq!(placed[..4], ["n1", "n2", "n3", "n1"]);
}

#[test]
fn refusals_are_told_in_the_schedulers_words() {
    let cordoned = Node { unschedulable: true, ..node("n1") };
    let late = Node { ready: NodeCondition::NotReady, ..node("n4") };
    let nodes = [cordoned, tainted("n2", "gpu=yes:NoSchedule"), node("n3"), late];
    let mut picky = waiting("a");
    picky.node_selector = labels(&[("disk", "fast")]);
    let placed = outcome(nodes.map(|node| node.object()).into_iter().chain([picky.object()]));
    assert_eq!(
        placed,
        ["0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
          1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready, \
          1 node(s) were unschedulable."]
    );
    assert_eq!(outcome([waiting("a").object()]), ["no nodes available to schedule pods"]);
}

#[test]
fn tolerations_open_tainted_nodes() {
    for (toleration, fits) in [
        ("gpu=yes:NoSchedule", true),
        ("gpu=no:NoSchedule", false),
        ("gpu:NoSchedule", true),
        ("gpu=yes:", true),
        (":", true),
        ("gpu=yes:NoExecute", false),
    ] {
        let pod = Pod { tolerations: vec![toleration.to_owned()], ..waiting("a") };
        let placed = outcome([tainted("n", "gpu=yes:NoSchedule").object(), pod.object()]);
        assert_eq!(placed == ["n"], fits, "{toleration}");
    }
}

#[test]
fn nodes_that_would_rather_not_come_last() {
    let crowd = pod("x", "10.0.0.2");
    let crowd = Pod { node: Some("n2".into()), ..crowd };
    let nodes = [tainted("n1", "soft=:PreferNoSchedule").object(), node("n2").object()];
    let placed = outcome(nodes.into_iter().chain([crowd.object(), waiting("a").object()]));
    assert_eq!(placed[0], "n2");
}

#[test]
fn a_binding_is_reported_as_an_event() {
    let cluster = cluster([node("n").object(), waiting("a").object()]);
    let writes = plan::schedule(&cluster).writes;
    let [Write::BindPod(name, ..), Write::Event(event)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(*name, PodName::new("default", "a"));
    assert_eq!(event.message, "Successfully assigned default/a to n");
}
