//! Which node a pod runs on.

use model::{
    HostPort, LabelSelector, Node, NodeCondition, NodeRequirement, NodeTerm, Object, Owner, Pod,
    PodName, PodTerm, Protocol, Resources, SpreadConstraint, Write,
};

use crate::fixtures::{IntoObject as _, cluster, labels, node, pod, port};
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
    picky.placement.node_selector = labels(&[("disk", "fast")]);
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

fn amounts(amounts: &[(&str, u64)]) -> Resources {
    amounts.iter().map(|(name, amount)| ((*name).into(), *amount)).collect()
}

fn asking(name: &str, requests: &[(&str, u64)]) -> Pod {
    let mut pod = waiting(name);
    pod.placement.requests = amounts(requests);
    pod
}

fn with_room(name: &str, room: &[(&str, u64)]) -> Node {
    Node { allocatable: amounts(room), ..node(name) }
}

#[test]
fn requests_fill_a_node_up() {
    let nodes = ["n1", "n2"].map(|name| with_room(name, &[("cpu", 2000), ("pods", 10_000)]));
    let pods = ["a", "b", "c"].map(|name| asking(name, &[("cpu", 1500)]).object());
    let placed = outcome(nodes.map(|node| node.object()).into_iter().chain(pods));
    assert_eq!(placed, ["n1", "n2", "0/2 nodes are available: 2 Insufficient cpu."]);
}

#[test]
fn every_resource_that_lacks_is_told() {
    let room = [("cpu", 1000), ("memory", 1000), ("pods", 0)];
    let pod = asking("a", &[("cpu", 2000), ("memory", 2000), ("example.com/gpu", 1000)]);
    assert_eq!(
        outcome([with_room("n", &room).object(), pod.object()]),
        ["0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, \
          1 Insufficient memory, 1 Too many pods."]
    );
    let unstated = asking("a", &[("cpu", 2000)]);
    assert_eq!(outcome([node("n").object(), unstated.object()]), ["n"]);
}

#[test]
fn one_term_of_the_node_affinity_must_match() {
    let disk = |value: &str| NodeRequirement::In("disk".into(), [value.to_owned()].into());
    let cores = |least| NodeRequirement::Gt("cores".into(), least);
    let named = |name: &str| NodeTerm {
        fields: vec![NodeRequirement::In("metadata.name".into(), [name.to_owned()].into())],
        ..NodeTerm::default()
    };
    let labelled = |requirements: Vec<NodeRequirement>| NodeTerm {
        labels: requirements,
        ..NodeTerm::default()
    };
    let refused = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    for (terms, expected) in [
        (vec![labelled(vec![disk("fast"), cores(4)])], "n"),
        (vec![labelled(vec![disk("fast"), cores(8)])], refused),
        (vec![labelled(vec![disk("slow")]), named("n")], "n"),
        (vec![named("other")], refused),
        (vec![NodeTerm::default()], refused),
        (vec![], refused),
        (vec![labelled(vec![NodeRequirement::DoesNotExist("gpu".into())])], "n"),
    ] {
        let mut node = node("n");
        node.meta.labels = labels(&[("disk", "fast"), ("cores", "8")]);
        let mut pod = waiting("a");
        pod.placement.node_affinity = Some(terms.clone());
        assert_eq!(outcome([node.object(), pod.object()]), [expected], "{terms:?}");
    }
}

#[test]
fn a_port_of_a_node_is_taken_once() {
    let taking = |name: &str, address: Option<&str>, number: u16| {
        let mut pod = waiting(name);
        let address = address.map(|address| address.parse().unwrap());
        let host_port = HostPort { address, protocol: Protocol::Tcp, port: port(number) };
        pod.placement.host_ports = [host_port].into();
        pod.object()
    };
    let refused =
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    let pods = [
        taking("a", Some("10.0.0.1"), 80),
        taking("b", Some("10.0.0.2"), 80),
        taking("c", None, 80),
        taking("d", None, 81),
    ];
    let placed = outcome([node("n").object()].into_iter().chain(pods));
    assert_eq!(placed, ["n", "n", refused, "n"]);
}

fn hostnamed(name: &str) -> Node {
    let mut node = node(name);
    node.meta.labels = labels(&[("kubernetes.io/hostname", name), ("zone", "z")]);
    node
}

/// Pods with label `app=web`, at one place by a label of the nodes.
fn term(topology_key: &str) -> PodTerm {
    PodTerm {
        selector: Some(LabelSelector { labels: labels(&[("app", "web")]), requirements: vec![] }),
        namespaces: [].into(),
        namespace_selector: None,
        topology_key: topology_key.to_owned(),
    }
}

#[test]
fn anti_affinity_keeps_pods_apart_both_ways() {
    let nodes = ["n1", "n2"].map(|name| hostnamed(name).object());
    let alone = |name: &str| {
        let mut pod = waiting(name);
        pod.placement.anti_affinity = vec![term("kubernetes.io/hostname")];
        pod
    };
    let mut stranger = alone("d");
    stranger.meta.labels = labels(&[("app", "other")]);
    let mut unwelcome = waiting("e");
    unwelcome.placement.anti_affinity.clear();
    let pods = [alone("a"), alone("b"), alone("c"), stranger, unwelcome].map(|pod| pod.object());
    let apart = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
    let theirs =
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.";
    assert_eq!(outcome(nodes.into_iter().chain(pods)), ["n1", "n2", apart, apart, theirs]);
}

#[test]
fn affinity_brings_pods_together_and_the_first_anywhere() {
    let nodes = ["n1", "n2"].map(|name| hostnamed(name).object());
    let near = |name: &str| {
        let mut pod = waiting(name);
        pod.placement.affinity = vec![term("kubernetes.io/hostname")];
        pod
    };
    let mut stranger = near("a");
    stranger.meta.labels = labels(&[("app", "other")]);
    let lonely = "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.";
    assert_eq!(outcome(nodes.clone().into_iter().chain([stranger.object()])), [lonely]);
    let pods = ["a", "b", "c"].map(|name| near(name).object());
    assert_eq!(outcome(nodes.into_iter().chain(pods)), ["n1", "n1", "n1"]);
}

#[test]
fn places_differ_by_no_more_than_the_skew() {
    let spread = |name: &str| {
        let mut pod = waiting(name);
        pod.placement.spread = vec![SpreadConstraint {
            max_skew: 1,
            min_domains: 1,
            topology_key: "kubernetes.io/hostname".into(),
            selector: term("").selector,
        }];
        pod
    };
    let full = Node { allocatable: amounts(&[("pods", 1000)]), ..hostnamed("n2") };
    let nodes = [hostnamed("n1").object(), full.object(), node("n3").object()];
    let pods = ["a", "b", "c", "d"].map(|name| spread(name).object());
    let refused = "0/3 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology \
                   spread constraints, 1 node(s) didn't match pod topology spread constraints \
                   (missing required label).";
    assert_eq!(outcome(nodes.into_iter().chain(pods)), ["n1", "n2", "n1", refused]);
}
