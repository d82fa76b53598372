//! Which objects a change concerns.

use std::collections::BTreeSet;

use model::{
    Change, DeploymentName, EndpointsName, Kind, LabelSelector, Owner, Pod, PodPhase, ReplicaSet,
    ReplicaSetName, ReplicaSetStatus,
};
use plan::{Touched, touched};

use crate::fixtures::{IntoObject as _, cluster, labels, meta, node, pod, service, slice, web};
use crate::server::template;

fn set(name: &str) -> ReplicaSet {
    let labels = labels(&[("app", "web")]);
    ReplicaSet {
        meta: meta(name),
        replicas: 1,
        selector: LabelSelector { labels: labels.clone(), requirements: Vec::new() },
        template: template(&labels, 1),
        min_ready_seconds: 0,
        status: ReplicaSetStatus::default(),
    }
}

fn owned_by(name: &str) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: name.into(),
        uid: format!("uid-{name}").into(),
        controller: true,
        block_owner_deletion: true,
    }
}

#[test]
fn a_pod_concerns_services_that_select_its_old_or_new_labels() {
    let old = pod("a", "10.0.0.1");
    let cluster = cluster([service().object(), old.clone().object()]);
    let mut moved = old.clone();
    moved.meta.labels = labels(&[("app", "other")]);
    for change in [
        Change::Apply(moved.object()),
        Change::Apply(old.object()),
        Change::Delete(Kind::Pod, "default".into(), "a".into()),
        Change::Complete(Kind::Pod, BTreeSet::new()),
    ] {
        assert_eq!(touched(&cluster, &change).services, [web()].into());
    }
}

#[test]
fn a_pod_concerns_its_replica_set_or_those_that_could_adopt_it() {
    let mut owner = set("mine");
    owner.meta.owners.push(Owner { kind: "Deployment".into(), ..owned_by("web") });
    let cluster = cluster([owner.object(), set("other").object()]);
    let mut pod = pod("a", "10.0.0.1");
    pod.node = None;
    let orphan = touched(&cluster, &Change::Apply(pod.clone().object()));
    assert_eq!(orphan.replica_sets.len(), 2);
    assert!(orphan.schedule);
    pod.meta.owners.push(owned_by("mine"));
    let owned = touched(&cluster, &Change::Apply(pod.object()));
    assert_eq!(owned.replica_sets, [ReplicaSetName::new("default", "mine")].into());
    assert_eq!(owned.deployments, [DeploymentName::new("default", "web")].into());
}

#[test]
fn a_node_concerns_the_endpoints_on_it_when_its_zone_changes() {
    let known = cluster([service().object(), pod("a", "10.0.0.1").object(), node("here").object()]);
    let same = touched(&known, &Change::Apply(node("here").object()));
    assert_eq!(same, Touched::default());
    let mut zoned = node("here");
    zoned.meta.labels = labels(&[("topology.kubernetes.io/zone", "a")]);
    let moved = touched(&known, &Change::Apply(zoned.object()));
    assert_eq!(moved.services, [web()].into());
    assert!(moved.schedule);
    let gone = touched(&known, &Change::Delete(Kind::Node, "".into(), "here".into()));
    assert_eq!(gone.services, [web()].into());
}

#[test]
fn room_that_a_pod_leaves_concerns_the_pods_that_wait() {
    let running = pod("a", "10.0.0.1");
    let known = cluster([running.clone().object()]);
    let schedule = |change: Change| touched(&known, &change).schedule;
    assert!(!schedule(Change::Apply(Pod { ready: false, ..running.clone() }.object())));
    assert!(schedule(Change::Apply(
        Pod { phase: PodPhase::Succeeded, ..running.clone() }.object()
    )));
    assert!(schedule(Change::Delete(Kind::Pod, "default".into(), "a".into())));
    let mut other = running;
    other.meta.labels.clear();
    assert!(schedule(Change::Apply(other.object())), "others may want to be near it, or away");
}

#[test]
fn a_slice_or_endpoints_object_concerns_its_service() {
    let cluster = cluster([slice("s", Vec::new()).object()]);
    let gone =
        touched(&cluster, &Change::Delete(Kind::EndpointSlice, "default".into(), "s".into()));
    assert_eq!(gone.services, [web()].into());
    assert_eq!(gone.endpoints, [EndpointsName::new("default", "web")].into());
    let change = Change::Delete(Kind::Endpoints, "default".into(), "web".into());
    assert_eq!(touched(&cluster, &change).services, [web()].into());
}

#[test]
fn everything_is_everything() {
    let cluster = cluster([service().object(), set("s").object()]);
    let all = Touched::all(&cluster);
    assert_eq!((all.services.len(), all.endpoints.len(), all.replica_sets.len()), (1, 1, 1));
    assert!(all.schedule && all.load_balancer);
}
