//! Garbage collection, Namespaces and node health.

use std::collections::BTreeMap;

use model::{Change, Meta, NodeCondition, NodeName, Owner, Resource, Timestamp, Uid, Write};
use plan::Inventory;

use crate::fixtures::{IntoObject as _, cluster, node, pod, seconds};

fn resource(group: &str, plural: &str, kind: &str, namespaced: bool) -> Resource {
    Resource {
        group: group.into(),
        version: "v1".into(),
        plural: plural.into(),
        kind: kind.into(),
        namespaced,
    }
}

fn sets() -> Resource {
    resource("apps", "replicasets", "ReplicaSet", true)
}

fn pods() -> Resource {
    resource("", "pods", "Pod", true)
}

fn object(name: &str, owners: &[&str]) -> Meta {
    let mut meta = Meta::new("default", name);
    meta.uid = Uid::from(name);
    meta.owners = owners.iter().map(|owner| owned_by(owner)).collect();
    meta
}

fn owned_by(name: &str) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: name.into(),
        uid: name.into(),
        controller: true,
        block_owner_deletion: true,
    }
}

fn deleting(mut meta: Meta, finalizer: &str) -> Meta {
    meta.deleting = Some(seconds(1));
    meta.finalizers.insert(finalizer.to_owned());
    meta
}

fn inventory(owners: Vec<Meta>, dependents: Vec<Meta>) -> Inventory {
    Inventory::from([(sets(), owners), (pods(), dependents)])
}

/// The writes in short: verb and name.
fn short(writes: &[Write]) -> Vec<String> {
    let text = |write: &Write| match write {
        Write::Delete { meta, .. } => format!("delete {}", meta.name),
        Write::RemoveOwner { meta, owner, .. } => format!("disown {} {owner}", meta.name),
        Write::RemoveFinalizer { meta, finalizer, .. } => format!("{finalizer} {}", meta.name),
        Write::FinalizeNamespace(name) => format!("finalize {name}"),
        Write::NodeUnreachable(name, _) => format!("unreachable {name}"),
        Write::NodeTaints { meta, taints } => format!("taint {} {}", meta.name, taints.join(" ")),
        Write::PodNotReady(name, _) => format!("not ready {}", name.name),
        Write::DeletePod(name, _) => format!("evict {}", name.name),
        Write::Event(event) => format!("event {}", event.reason),
        other => format!("{other:?}"),
    };
    writes.iter().map(text).collect()
}

fn garbage(owners: Vec<Meta>, dependents: Vec<Meta>) -> Vec<String> {
    short(&plan::garbage(&inventory(owners, dependents)).writes)
}

#[test]
fn an_object_goes_when_all_its_owners_are_gone() {
    let live = || vec![object("live", &[])];
    assert_eq!(garbage(live(), vec![object("a", &["gone"])]), ["delete a"]);
    assert_eq!(garbage(live(), vec![object("a", &["live"])]), [""; 0]);
    assert_eq!(garbage(live(), vec![object("a", &["live", "gone"])]), [""; 0]);
    assert_eq!(garbage(live(), vec![object("a", &[])]), [""; 0]);
}

#[test]
fn an_owner_of_an_unknown_kind_keeps_its_dependents() {
    let mut dependent = object("a", &["gone"]);
    dependent.owners[0].kind = "Widget".into();
    assert_eq!(garbage(Vec::new(), vec![dependent]), [""; 0]);
}

#[test]
fn an_owner_in_another_namespace_is_none() {
    let mut elsewhere = object("live", &[]);
    elsewhere.namespace = "other".into();
    assert_eq!(garbage(vec![elsewhere], vec![object("a", &["live"])]), ["delete a"]);
}

#[test]
fn foreground_deletion_waits_for_blocking_dependents() {
    let owner = || vec![deleting(object("set", &[]), "foregroundDeletion")];
    assert_eq!(garbage(owner(), vec![object("a", &["set"])]), ["delete a"]);
    let terminating = deleting(object("a", &["set"]), "example.org/wait");
    assert_eq!(garbage(owner(), vec![terminating]), [""; 0]);
    assert_eq!(garbage(owner(), Vec::new()), ["foregroundDeletion set"]);
    let mut free = object("a", &["set"]);
    free.owners[0].block_owner_deletion = false;
    assert_eq!(garbage(owner(), vec![free]), ["delete a", "foregroundDeletion set"]);
}

#[test]
fn a_dependent_that_another_owner_keeps_is_let_go_by_the_one_that_waits() {
    let owners = vec![deleting(object("set", &[]), "foregroundDeletion"), object("live", &[])];
    assert_eq!(garbage(owners, vec![object("a", &["set", "live"])]), ["disown a set"]);
}

#[test]
fn orphaning_disowns_before_the_owner_goes() {
    let owner = || vec![deleting(object("set", &[]), "orphan")];
    assert_eq!(garbage(owner(), vec![object("a", &["set"])]), ["disown a set"]);
    assert_eq!(garbage(owner(), vec![object("a", &[])]), ["orphan set"]);
}

#[test]
fn a_terminating_namespace_loses_its_pods_then_the_rest_then_itself() {
    let mut terminating = Meta::new("", "default");
    terminating.deleting = Some(seconds(1));
    let mut inventory = inventory(vec![object("set", &[])], vec![object("a", &[])]);
    inventory.insert(resource("", "namespaces", "Namespace", false), vec![terminating.clone()]);
    let step = |inventory: &Inventory| short(&plan::namespace(inventory, &"default".into()).writes);
    assert_eq!(step(&inventory), ["delete a"]);
    inventory.insert(pods(), vec![deleting(object("a", &[]), "example.org/wait")]);
    assert_eq!(step(&inventory), [""; 0]);
    inventory.remove(&pods());
    assert_eq!(step(&inventory), ["delete set"]);
    inventory.remove(&sets());
    assert_eq!(step(&inventory), ["finalize default"]);
    inventory.clear();
    assert_eq!(step(&inventory), [""; 0]);
}

fn renewed(at: i64) -> BTreeMap<NodeName, Timestamp> {
    BTreeMap::from([("here".into(), seconds(at))])
}

#[test]
fn a_silent_node_is_marked_with_its_pods_and_later_emptied() {
    let mut cluster = cluster([node("here").object(), pod("a", "10.0.0.1").object()]);
    let step = |cluster: &_, now| {
        let result = plan::node_health(cluster, &renewed(5000), seconds(now));
        (short(&result.writes), result.again)
    };
    let (writes, again) = step(&cluster, 5050);
    assert_eq!((writes, again), (Vec::new(), Some(Timestamp(5050 * 1_000_000 + 1))));
    let (writes, _) = step(&cluster, 5051);
    let taints = "taint here node.kubernetes.io/unreachable=:NoSchedule \
                  node.kubernetes.io/unreachable=:NoExecute";
    let marks =
        [taints, "unreachable here", "event NodeNotReady", "not ready a", "event NodeNotReady"];
    assert_eq!(writes, marks);

    let mut silent = node("here");
    silent.ready = NodeCondition::Unknown { since: seconds(5000) };
    silent.taints = ["NoSchedule", "NoExecute"]
        .map(|effect| format!("node.kubernetes.io/unreachable=:{effect}"))
        .into();
    let mut unready = pod("a", "10.0.0.1");
    unready.ready = false;
    cluster.apply(Change::Apply(silent.object()));
    cluster.apply(Change::Apply(unready.object()));
    let (writes, again) = step(&cluster, 5350);
    assert_eq!((writes, again), (Vec::new(), Some(Timestamp(5350 * 1_000_000 + 1))));
    assert_eq!(step(&cluster, 5351).0, ["evict a"]);
}

#[test]
fn a_node_that_reports_again_loses_the_taint() {
    let mut back = node("here");
    back.taints = vec!["node.kubernetes.io/unreachable=:NoExecute".to_owned()];
    let cluster = cluster([back.object()]);
    let result = plan::node_health(&cluster, &renewed(5000), seconds(5001));
    assert_eq!(short(&result.writes), ["taint here "]);
}

#[test]
fn pods_of_a_deleted_node_are_deleted_once_all_nodes_are_known() {
    let mut cluster = cluster([pod("a", "10.0.0.1").object()]);
    let step = |cluster: &_, now| {
        short(&plan::node_health(cluster, &BTreeMap::new(), seconds(now)).writes)
    };
    assert_eq!(step(&cluster, 5000), [""; 0]);
    cluster.complete.insert(model::Kind::Node);
    assert_eq!(step(&cluster, 1060), [""; 0]);
    assert_eq!(step(&cluster, 1061), ["delete a"]);
}
