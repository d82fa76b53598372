//! Keeping a node's view up to date.

use std::collections::BTreeSet;

use model::{
    Change, Cluster, Endpoint, FrontendKind, Kind, Name, NodeContext, Object, Reason, Service,
    ServiceName,
};
use plan::{AgentSettings, DetectorMode, NodePortAddresses, Planner};
use proptest::prelude::*;

use crate::fixtures::{
    IntoObject as _, cluster, endpoint, here, meta, node, seconds, service, slice, web,
};

fn settings(detector: DetectorMode) -> AgentSettings {
    let node_port_addresses = NodePortAddresses::Primary;
    AgentSettings { detector, node_port_addresses, masquerade_all: false }
}

/// D13.
#[test]
fn d13_the_pod_cidr_detector_waits_for_the_pod_cidr() {
    let mut node = node("here");
    let waiting = cluster([node.clone().object()]);
    let name = Name::from("here");
    assert_eq!(plan::context(&waiting, &name, &settings(DetectorMode::NodeCidr)), None);
    node.pod_cidrs = vec!["10.244.0.0/24".parse().unwrap()];
    node.internal_ips = vec!["172.30.0.11".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    node.meta.labels.insert("topology.kubernetes.io/zone".to_owned(), "a".to_owned());
    let ready = cluster([node.object()]);
    let context = plan::context(&ready, &name, &settings(DetectorMode::NodeCidr));
    assert_eq!(context, Some(here()));
    assert_eq!(plan::context(&ready, &"gone".into(), &settings(DetectorMode::None)), None);
}

/// D30.
#[test]
fn d30_node_port_networks_choose_among_the_machines_addresses() {
    let cluster = cluster([node("here").object()]);
    let local = ["192.0.2.1", "198.51.100.1", "127.0.0.1"].map(|ip| ip.parse().unwrap());
    let settings = AgentSettings {
        node_port_addresses: NodePortAddresses::Networks {
            networks: vec!["192.0.2.0/24".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            local: local.into(),
        },
        ..settings(DetectorMode::None)
    };
    let context = plan::context(&cluster, &"here".into(), &settings).unwrap();
    assert_eq!(context.node_addresses, ["192.0.2.1".parse().unwrap()].into());
}

fn named(name: &str, created: i64) -> Service {
    let mut service = service();
    service.meta = meta(name);
    service.meta.created = seconds(created);
    service.cluster_ips =
        model::ClusterIps::Assigned(vec![format!("10.96.1.{created}").parse().unwrap()]);
    service.external_ips = vec!["192.0.2.1".parse().unwrap()];
    service
}

fn has_external(planner: &Planner, name: &str) -> bool {
    let view = &planner.view().services[&ServiceName::new("default", name)];
    view.frontends.iter().any(|one| matches!(one.kind, FrontendKind::ExternalIp(_)))
}

#[test]
fn the_oldest_service_wins_a_contested_address_and_loses_it_when_deleted() {
    let mut cluster = cluster([named("young", 20).object(), named("old", 10).object()]);
    let mut planner = Planner::new(here());
    planner.update(&cluster, &here(), &BTreeSet::new());
    assert!(has_external(&planner, "old") && !has_external(&planner, "young"));
    let young = &planner.view().services[&ServiceName::new("default", "young")];
    let lost = "192.0.2.1:80 TCP already belongs to Service default/old";
    assert!(young.report.contains(&Reason::Other(lost.to_owned())));

    let change = Change::Delete(Kind::Service, "default".into(), "old".into());
    let dirty = plan::affected(&cluster, &change);
    cluster.apply(change);
    let changed = planner.update(&cluster, &here(), &dirty);
    assert_eq!(changed.len(), 2);
    assert!(has_external(&planner, "young"));
}

#[test]
fn an_update_without_a_difference_keeps_the_same_values() {
    let cluster = cluster([named("a", 1).object(), named("b", 2).object()]);
    let mut planner = Planner::new(here());
    planner.update(&cluster, &here(), &BTreeSet::new());
    let name = ServiceName::new("default", "a");
    let before = planner.view().services[&name].clone();
    assert!(planner.update(&cluster, &here(), &[name.clone()].into()).is_empty());
    assert!(std::sync::Arc::ptr_eq(&before, &planner.view().services[&name]));
}

#[test]
fn a_slice_that_changes_its_service_affects_both() {
    let cluster = cluster([slice("s", Vec::new()).object()]);
    let mut moved = slice("s", Vec::new());
    moved.service = Some(ServiceName::new("default", "other"));
    let affected = plan::affected(&cluster, &Change::Apply(moved.object()));
    assert_eq!(affected, [web(), ServiceName::new("default", "other")].into());
    let complete = Change::Complete(Kind::EndpointSlice, BTreeSet::new());
    assert_eq!(plan::affected(&cluster, &complete), [web()].into());
}

#[derive(Clone, Debug)]
enum Step {
    Service(u8, i64),
    Slice(u8, u8, Vec<u8>),
    DeleteService(u8),
    DeleteSlice(u8),
    Zone(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..4, 1i64..9).prop_map(|(name, created)| Step::Service(name, created)),
        (0u8..4, 0u8..4, prop::collection::vec(1u8..9, 0..3))
            .prop_map(|(name, of, endpoints)| Step::Slice(name, of, endpoints)),
        (0u8..4).prop_map(Step::DeleteService),
        (0u8..4).prop_map(Step::DeleteSlice),
        any::<bool>().prop_map(Step::Zone),
    ]
}

fn change(step: &Step) -> Option<Change> {
    let delete = |kind, name: String| Change::Delete(kind, "default".into(), name.into());
    Some(match step {
        Step::Service(name, created) => {
            Change::Apply(named(&format!("service-{name}"), *created).object())
        }
        Step::Slice(name, of, endpoints) => {
            let endpoints: Vec<Endpoint> = endpoints
                .iter()
                .map(|last| {
                    let mut endpoint = endpoint(&format!("10.244.0.{last}"), "here");
                    endpoint.hints.zones = ["a".into()].into();
                    endpoint
                })
                .collect();
            let mut slice = slice(&format!("slice-{name}"), endpoints);
            slice.service = Some(ServiceName::new("default", format!("service-{of}")));
            Change::Apply(slice.object())
        }
        Step::DeleteService(name) => delete(Kind::Service, format!("service-{name}")),
        Step::DeleteSlice(name) => delete(Kind::EndpointSlice, format!("slice-{name}")),
        Step::Zone(_) => return None,
    })
}

proptest! {
    #[test]
    fn the_kept_view_equals_the_view_from_nothing(
        steps in prop::collection::vec(any_step(), 0..30),
        batch in 1usize..4,
    ) {
        let mut cluster = Cluster::default();
        let mut context = here();
        let mut planner = Planner::new(context.clone());
        for steps in steps.chunks(batch) {
            let mut dirty = BTreeSet::new();
            for step in steps {
                if let Step::Zone(known) = step {
                    context = NodeContext { zone: known.then(|| "a".into()), ..here() };
                }
                if let Some(change) = change(step) {
                    dirty.extend(plan::affected(&cluster, &change));
                    cluster.apply(change);
                }
            }
            let before = planner.view().clone();
            let changed = planner.update(&cluster, &context, &dirty);
            let after = planner.view();
            prop_assert_eq!(after, &plan::node_view(&cluster, &context));
            let names: BTreeSet<_> = before.services.keys().chain(after.services.keys()).collect();
            for name in names {
                let differs = before.services.get(name) != after.services.get(name);
                prop_assert_eq!(differs, changed.contains(name));
            }
        }
    }
}

#[test]
fn other_objects_affect_no_service() {
    let cluster = Cluster::default();
    let changes = [Object::Node(std::sync::Arc::new(node("n")))];
    for object in changes {
        assert!(plan::affected(&cluster, &Change::Apply(object)).is_empty());
    }
}
