//! The controllers together, against a simulated API server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Change, Cluster, ClusterIps, Deployment, DeploymentStatus, Family, FamilyPolicy, IntOrPercent,
    IpNet, Kind, LabelSelector, Labels, LoadBalancer, Meta, Namespace, Object, PodTemplate, Port,
    Protocol, RolloutStrategy, Service, ServiceName, ServicePort, ServiceType, TargetPort,
    Timestamp, TrafficPolicy, Write,
};
use plan::AddressPool;
use proptest::prelude::*;

use super::key::KINDS;
use super::machine::Controller;
use super::selection::{ControllerName, Selection};
use super::simulation::{Simulation, ready_node};
use crate::clock::Now;

fn pool() -> AddressPool {
    let network: IpNet = "172.30.0.192/30".parse().expect("is a network");
    AddressPool::from_networks(&[network])
}

fn simulation(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, pool());
    simulation.apply(namespace("default"));
    simulation.apply(ready_node("node1"));
    simulation.apply(ready_node("node2"));
    simulation
}

fn labels() -> Labels {
    Labels::from([("app".to_owned(), "web".to_owned())])
}

fn namespace(name: &str) -> Object {
    let mut meta = Meta::new("", name);
    meta.finalizers.insert("kubernetes".to_owned());
    Object::Namespace(Arc::new(Namespace { meta }))
}

fn deployment(replicas: u32, image: &str) -> Object {
    let body = format!(
        r#"{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"image":"{image}","name":"web"}}]}}}}"#
    );
    Object::Deployment(Arc::new(Deployment {
        meta: Meta { generation: 1, ..Meta::new("default", "web") },
        replicas,
        selector: LabelSelector { labels: labels(), requirements: Vec::new() },
        template: PodTemplate { labels: labels(), body: body.into() },
        strategy: RolloutStrategy::RollingUpdate {
            max_unavailable: IntOrPercent::Count(0),
            max_surge: IntOrPercent::Count(1),
        },
        min_ready_seconds: 0,
        revision_history_limit: 10,
        progress_deadline_seconds: 600,
        paused: false,
        status: DeploymentStatus::default(),
    }))
}

fn service(name: &str, kind: ServiceType) -> Object {
    let port = Port::new(80).expect("is not 0");
    Object::Service(Arc::new(Service {
        meta: Meta::new("default", name),
        kind,
        cluster_ips: ClusterIps::Assigned(vec!["10.96.0.9".parse().expect("is an address")]),
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port,
            target: TargetPort::Number(port),
            node_port: None,
            app_protocol: None,
        }],
        selector: labels(),
        external_ips: Vec::new(),
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        session_affinity: None,
        health_check_node_port: None,
        publish_not_ready_addresses: false,
        traffic_distribution: None,
        reset_connections: false,
    }))
}

/// Addresses that a Service sends traffic to.
fn endpoints(cluster: &Cluster, service: &str) -> usize {
    cluster
        .slices_of(&ServiceName::new("default", service))
        .flat_map(|slice| slice.endpoints.clone())
        .filter(|endpoint| endpoint.conditions.ready)
        .count()
}

fn created_pods(simulation: &Simulation) -> usize {
    simulation.writes.iter().filter(|write| matches!(write, Write::CreatePod { .. })).count()
}

#[test]
fn a_deployment_becomes_pods_on_nodes_and_endpoints_of_its_service() {
    let mut simulation = simulation(1);
    simulation.apply(deployment(3, "portolan/web"));
    simulation.apply(service("web", ServiceType::ClusterIp));
    simulation.settle();
    let cluster = simulation.cluster();
    assert_eq!(cluster.replica_sets.len(), 1);
    assert_eq!(cluster.pods.len(), 3);
    let on_first = cluster.pods.values().filter(|pod| pod.node == Some("node1".into())).count();
    assert!((1..=2).contains(&on_first), "pods are spread, {on_first} of 3 are on node1");
    assert_eq!(endpoints(&cluster, "web"), 3);
    assert_eq!(cluster.endpoints.len(), 1);
    let deployment = cluster.deployments.values().next().expect("is there");
    assert_eq!(deployment.status.available, 3);
}

#[test]
fn deleting_a_deployment_collects_what_it_made() {
    let mut simulation = simulation(2);
    simulation.apply(deployment(3, "portolan/web"));
    simulation.apply(service("web", ServiceType::ClusterIp));
    simulation.settle();
    simulation.delete(Kind::Deployment, "default", "web");
    simulation.settle();
    let cluster = simulation.cluster();
    assert_eq!(cluster.replica_sets.len(), 0);
    assert_eq!(cluster.pods.len(), 0);
    assert_eq!(endpoints(&cluster, "web"), 0);
}

#[test]
fn a_load_balancer_keeps_its_address_and_gives_it_back() {
    let mut simulation = simulation(3);
    simulation.apply(service("a", ServiceType::LoadBalancer(LoadBalancer::default())));
    simulation.settle();
    let address = |simulation: &Simulation, name: &str| {
        let cluster = simulation.cluster();
        let service = cluster.services.get(&ServiceName::new("default", name)).cloned();
        service.and_then(|service| service.load_balancer().map(|lb| lb.ingress.clone()))
    };
    let first = address(&simulation, "a").expect("has an address");
    assert_eq!(first.len(), 1);
    simulation.delete(Kind::Service, "default", "a");
    simulation.settle();
    assert_eq!(address(&simulation, "a"), None, "the finalizer is removed");
    simulation.apply(service("b", ServiceType::LoadBalancer(LoadBalancer::default())));
    simulation.settle();
    assert_eq!(address(&simulation, "b"), Some(first), "the address is free again");
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let mut simulation = simulation(4);
    simulation.apply(deployment(2, "portolan/web"));
    simulation.apply(service("web", ServiceType::ClusterIp));
    simulation.settle();
    simulation.delete(Kind::Namespace, "", "default");
    simulation.settle();
    let cluster = simulation.cluster();
    assert!(cluster.namespaces.is_empty());
    assert!(cluster.pods.is_empty());
    assert!(cluster.services.is_empty());
    assert!(cluster.slices.is_empty());
}

#[test]
fn a_node_that_stops_reporting_is_marked_when_its_time_is_over() {
    let mut controller = Controller::new(Selection::all(), pool(), None);
    for kind in KINDS {
        controller.change(Change::Complete(kind, BTreeSet::new()));
    }
    controller.change(Change::Apply(ready_node("node1")));
    let start = Now { wall: Timestamp(1_000_000_000_000), steady: Duration::ZERO };
    controller.renewed("node1".into(), start);
    assert_eq!(controller.next(start), None, "the Leases are not complete");
    controller.leases(&BTreeSet::from(["node1".into()]));
    assert_eq!(controller.next(start), None, "it has just reported");
    let due = controller.next_due().expect("it is looked at again without any event");
    let late = Now {
        wall: Timestamp(start.wall.0 + i64::try_from(due.as_micros()).expect("is small")),
        steady: due,
    };
    let work = controller.next(late).expect("its time is over");
    let is_marked = work.writes.iter().any(|write| matches!(write, Write::NodeUnreachable(..)));
    assert!(is_marked, "{:?}", work.writes);
}

#[test]
fn a_controller_that_is_left_out_plans_nothing() {
    let endpoints = Selection::of(&["*"], &[ControllerName::EndpointSlice]).expect("is valid");
    let mut controller = Controller::new(endpoints, pool(), None);
    for kind in KINDS {
        controller.change(Change::Complete(kind, BTreeSet::new()));
    }
    controller.change(Change::Apply(service("web", ServiceType::ClusterIp)));
    let start = Now { wall: Timestamp(1_000_000_000_000), steady: Duration::ZERO };
    let works: Vec<_> = std::iter::from_fn(|| controller.next(start)).collect();
    let whose: Vec<_> = works.iter().map(|work| work.key.controller()).collect();
    assert_eq!(whose, [ControllerName::Endpoints]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn late_watches_and_failing_writes_never_make_a_pod_too_many(
        seed: u64, replicas in 1..6_u32, failures in 0..40_u64, lateness in 0..95_u64,
    ) {
        let mut simulation = simulation(seed);
        simulation.failures = failures;
        simulation.lateness = lateness;
        simulation.apply(deployment(replicas, "portolan/web"));
        simulation.apply(service("web", ServiceType::ClusterIp));
        simulation.settle();
        prop_assert_eq!(simulation.cluster().pods.len(), replicas as usize);
        prop_assert_eq!(created_pods(&simulation), replicas as usize);
        prop_assert_eq!(endpoints(&simulation.cluster(), "web"), replicas as usize);
    }

    #[test]
    fn a_rollout_ends_with_new_pods_only_and_never_has_too_few(
        seed: u64, replicas in 1..5_u32, failures in 0..30_u64, lateness in 0..90_u64,
    ) {
        let mut simulation = simulation(seed);
        simulation.apply(deployment(replicas, "portolan/web"));
        simulation.settle();
        simulation.failures = failures;
        simulation.lateness = lateness;
        let mut second = deployment(replicas, "portolan/web:2");
        if let Object::Deployment(deployment) = &mut second {
            Arc::make_mut(deployment).meta.generation = 2;
        }
        simulation.apply(second);
        for _ in 0..200 {
            simulation.round();
            let ready = simulation.cluster().pods.values().filter(|pod| pod.ready).count();
            prop_assert!(ready >= replicas as usize, "{ready} of {replicas} are ready");
        }
        simulation.settle();
        let cluster = simulation.cluster();
        let wanted: Vec<u32> =
            cluster.replica_sets.values().map(|set| set.replicas).filter(|&one| one > 0).collect();
        prop_assert_eq!(wanted, vec![replicas]);
        prop_assert_eq!(cluster.pods.len(), replicas as usize);
        prop_assert_eq!(created_pods(&simulation), 2 * replicas as usize);
    }
}
