//! EndpointSlices of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    AddressType, ClusterIps, Endpoint, EndpointSlice, Family, Pod, PodPhase, Service, ServiceType,
    TargetPort, Timestamp, TrafficDistribution, Write,
};
use proptest::prelude::*;

use crate::fixtures::{
    IntoObject as _, cluster, labels, node, pod, port, seconds, service, service_port, web,
};
use crate::server::Server;

/// A server with Service `web`, node `here` in zone `a`, and these pods.
fn server(service: Service, pods: impl IntoIterator<Item = Pod>) -> Server {
    let mut node = node("here");
    node.meta.labels = labels(&[("topology.kubernetes.io/zone", "a")]);
    let pods = pods.into_iter().map(|pod| pod.object());
    Server::new(cluster([service.object(), node.object()].into_iter().chain(pods)))
}

/// Reconciles until nothing is left to write, which must be at once.
fn settle(server: &mut Server) -> Vec<Write> {
    let writes = plan::slices(&server.cluster, &web()).writes;
    server.carry_out(&writes);
    assert_eq!(plan::slices(&server.cluster, &web()).writes, [], "not a fixpoint");
    writes
}

fn slices(server: &Server) -> Vec<&EndpointSlice> {
    server.cluster.slices.values().map(|slice| &**slice).collect()
}

fn endpoints(server: &Server) -> Vec<&Endpoint> {
    slices(server).into_iter().flat_map(|slice| &slice.endpoints).collect()
}

fn only(server: &Server) -> &Endpoint {
    let endpoints = endpoints(server);
    assert_eq!(endpoints.len(), 1);
    endpoints[0]
}

#[test]
fn a_service_without_pods_has_one_placeholder_per_family() {
    // C8.
    let mut service = service();
    service.families = vec![Family::V4, Family::V6];
    service.meta.labels = labels(&[("team", "a"), ("service.kubernetes.io/headless", "mine")]);
    let mut server = server(service, []);
    settle(&mut server);
    let slices = slices(&server);
    assert_eq!(slices.len(), 2);
    for slice in slices {
        assert!(slice.ports.is_empty() && slice.endpoints.is_empty());
        let expected = [
            ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
            ("kubernetes.io/service-name", "web"),
            ("team", "a"),
        ];
        assert_eq!(slice.meta.labels, labels(&expected));
        let owner = slice.meta.controller().unwrap();
        assert_eq!((&*owner.kind, &*owner.uid), ("Service", "uid-web"));
        assert!(owner.block_owner_deletion);
    }
}

#[test]
fn the_placeholder_takes_the_first_endpoint_in() {
    let mut server = server(service(), []);
    settle(&mut server);
    let pod = pod("p", "10.244.0.5");
    server.cluster.pods.insert(pod.name(), Arc::new(pod));
    assert!(matches!(&settle(&mut server)[..], [Write::UpdateSlice(_)]));
    assert_eq!(slices(&server)[0].ports[0].port, Some(port(8080)));
    server.cluster.pods.clear();
    assert!(matches!(&settle(&mut server)[..], [Write::UpdateSlice(_)]));
    assert!(slices(&server)[0].ports.is_empty());
}

#[test]
fn endpoint_fields_follow_the_pod() {
    // C4.
    let mut dns = pod("p", "10.244.0.5");
    dns.hostname = Some("one".into());
    dns.subdomain = Some("web".into());
    let mut server = server(service(), [dns]);
    settle(&mut server);
    let endpoint = only(&server);
    assert_eq!(endpoint.zone, Some("a".into()));
    assert_eq!(endpoint.node, Some("here".into()));
    assert_eq!(endpoint.hostname, Some("one".into()));
    assert_eq!(endpoint.target.as_ref().map(|target| &*target.uid), Some("uid-p"));
    assert!(endpoint.conditions.ready && endpoint.conditions.serving);
    let trigger = &slices(&server)[0].meta.annotations;
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    assert_eq!(trigger[key], "1970-01-01T00:16:40Z");
}

#[test]
fn terminating_pods_stay_and_finished_ones_do_not() {
    // C2.
    let mut terminating = pod("a", "10.244.0.5");
    terminating.meta.deleting = Some(seconds(3000));
    let mut failed = pod("b", "10.244.0.6");
    failed.phase = PodPhase::Failed;
    let mut without_address = pod("c", "10.244.0.7");
    without_address.ips.clear();
    let mut server = server(service(), [terminating, failed, without_address]);
    settle(&mut server);
    let conditions = only(&server).conditions;
    assert!(!conditions.ready && conditions.serving && conditions.terminating);
}

#[test]
fn publishing_unready_addresses_makes_every_pod_ready() {
    // C12.
    let mut unready = pod("a", "10.244.0.5");
    unready.ready = false;
    unready.node = None;
    let published = Service { publish_not_ready_addresses: true, ..service() };
    let mut server = server(published, [unready]);
    settle(&mut server);
    let conditions = only(&server).conditions;
    assert!(conditions.ready && !conditions.serving);
}

#[test]
fn pods_on_unknown_nodes_wait() {
    // C3.
    let mut elsewhere = pod("a", "10.244.0.5");
    elsewhere.node = Some("gone".into());
    let mut server = server(service(), [elsewhere]);
    settle(&mut server);
    assert!(endpoints(&server).is_empty());
    assert_eq!(plan::slices(&server.cluster, &web()).report.len(), 1);
}

#[test]
fn pods_that_resolve_a_named_port_differently_are_in_different_slices() {
    // C6.
    let mut named = service();
    named.ports[0].target = TargetPort::Name("http".into());
    named.ports.push(service_port("fixed", 81, 9000));
    let mut other = pod("b", "10.244.0.6");
    other.ports[0].port = port(8081);
    let mut without = pod("c", "10.244.0.7");
    without.ports[0].protocol = model::Protocol::Udp;
    let mut server = server(named, [pod("a", "10.244.0.5"), other, without]);
    settle(&mut server);
    let mut ports: Vec<Vec<u16>> = slices(&server)
        .iter()
        .map(|slice| slice.ports.iter().map(|one| one.port.unwrap().get()).collect())
        .collect();
    ports.sort();
    assert_eq!(ports, [vec![8080, 9000], vec![8081, 9000], vec![9000]]);
}

#[test]
fn headless_services_may_have_no_ports() {
    // C13.
    let mut headless = service();
    headless.cluster_ips = ClusterIps::Headless;
    headless.ports.clear();
    let mut server = server(headless, [pod("a", "10.244.0.5")]);
    settle(&mut server);
    only(&server);
    assert!(slices(&server)[0].meta.labels.contains_key("service.kubernetes.io/headless"));
}

#[test]
fn services_without_a_selector_and_external_names_are_left_alone() {
    // C1.
    let mut without = service();
    without.selector.clear();
    let mut external = service();
    external.kind = ServiceType::ExternalName("example.org".to_owned());
    for service in [without, external] {
        let server = server(service, [pod("a", "10.244.0.5")]);
        assert_eq!(plan::slices(&server.cluster, &web()).writes, []);
    }
}

#[test]
fn slices_of_other_managers_are_left_alone() {
    // C10.
    let mut server = server(service(), [pod("a", "10.244.0.5")]);
    let foreign = crate::fixtures::slice("hand-made", Vec::new());
    server.cluster.apply(model::Change::Apply(foreign.clone().object()));
    settle(&mut server);
    assert_eq!(*server.cluster.slices[&foreign.name()], foreign);
    assert_eq!(slices(&server).len(), 2);
}

#[test]
fn slices_of_an_earlier_service_of_the_same_name_are_deleted_not_reused() {
    let mut server = server(service(), [pod("a", "10.244.0.5")]);
    settle(&mut server);
    let mut again = service();
    again.meta.uid = "uid-again".into();
    server.cluster.apply(model::Change::Apply(again.object()));
    let writes = settle(&mut server);
    assert!(matches!(&writes[..], [Write::CreateSlice(_), Write::DeleteSlice(..)]));
}

#[test]
fn a_service_that_is_being_deleted_gets_no_new_slices() {
    // C11.
    let mut deleted = service();
    deleted.meta.deleting = Some(seconds(5000));
    let server = server(deleted, [pod("a", "10.244.0.5")]);
    assert_eq!(plan::slices(&server.cluster, &web()).writes, []);
}

#[test]
fn a_family_that_is_given_up_loses_its_slices() {
    // C5.
    let mut dual = service();
    dual.families = vec![Family::V4, Family::V6];
    let mut server = server(dual, [pod("a", "10.244.0.5")]);
    settle(&mut server);
    assert_eq!(slices(&server).len(), 2);
    server.cluster.apply(model::Change::Apply(service().object()));
    settle(&mut server);
    assert_eq!(slices(&server)[0].address_type, AddressType::Ip(Family::V4));
    assert_eq!(slices(&server).len(), 1);
}

#[test]
fn a_changed_label_is_copied() {
    // C9.
    let mut server = server(service(), [pod("a", "10.244.0.5")]);
    settle(&mut server);
    let mut labelled = service();
    labelled.meta.labels = labels(&[("team", "b")]);
    server.cluster.apply(model::Change::Apply(labelled.object()));
    assert!(matches!(&settle(&mut server)[..], [Write::UpdateSlice(_)]));
}

#[test]
fn traffic_distribution_gives_hints_to_ready_endpoints() {
    // C14.
    for (distribution, zones, nodes) in [
        (None, 0, 0),
        (Some(TrafficDistribution::PreferClose), 1, 0),
        (Some(TrafficDistribution::PreferSameZone), 1, 0),
        (Some(TrafficDistribution::PreferSameNode), 1, 1),
    ] {
        let mut unready = pod("b", "10.244.0.6");
        unready.ready = false;
        let service = Service { traffic_distribution: distribution, ..service() };
        let mut server = server(service, [pod("a", "10.244.0.5"), unready]);
        settle(&mut server);
        let hints: Vec<(usize, usize)> = endpoints(&server)
            .iter()
            .map(|one| (one.hints.zones.len(), one.hints.nodes.len()))
            .collect();
        assert_eq!(hints, [(zones, nodes), (0, 0)]);
    }
}

#[test]
fn new_endpoints_fill_the_slice_they_fit_best() {
    // C7.
    let pods = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| pod(&format!("p{number:03}"), &format!("10.244.1.{number}")))
    };
    let mut server = server(service(), pods(0..150));
    settle(&mut server);
    let sizes = |server: &Server| {
        let mut sizes: Vec<usize> =
            slices(server).iter().map(|slice| slice.endpoints.len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&server), [50, 100]);
    for pod in pods(150..160) {
        server.cluster.pods.insert(pod.name(), Arc::new(pod));
    }
    assert!(matches!(&settle(&mut server)[..], [Write::UpdateSlice(_)]));
    assert_eq!(sizes(&server), [60, 100]);
    // Sparse slices stay sparse.
    for number in 0..90 {
        let name = model::PodName::new("default", format!("p{number:03}"));
        server.cluster.pods.remove(&name);
    }
    assert!(matches!(&settle(&mut server)[..], [Write::UpdateSlice(_)]));
    assert_eq!(sizes(&server), [10, 60]);
}

/// Service `web` with topology mode Auto, zones a, b and c of these CPUs, and pods per zone.
fn zoned(cpus: [u64; 3], pods: [usize; 3]) -> Server {
    let mut service = service();
    let auto = [("service.kubernetes.io/topology-mode", "Auto")];
    service.meta.annotations = labels(&auto);
    let mut server = server(service, []);
    server.cluster.nodes.clear();
    for (zone, (cpu, count)) in ["a", "b", "c"].into_iter().zip(cpus.into_iter().zip(pods)) {
        let mut node = node(zone);
        node.meta.labels = labels(&[("topology.kubernetes.io/zone", zone)]);
        node.allocatable.insert("cpu".into(), cpu);
        server.cluster.apply(model::Change::Apply(node.object()));
        for number in 0..count {
            let address = format!("10.244.{}.{number}", zone.as_bytes()[0]);
            let pod = Pod { node: Some(zone.into()), ..pod(&format!("{zone}{number}"), &address) };
            server.cluster.pods.insert(pod.name(), Arc::new(pod));
        }
    }
    server
}

fn hinted(server: &Server) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for zone in endpoints(server).iter().flat_map(|endpoint| &endpoint.hints.zones) {
        *count.entry(zone.to_string()).or_insert(0) += 1;
    }
    count
}

fn tells(writes: &[Write], reason: &str) -> bool {
    writes.iter().any(|write| matches!(write, Write::Event(event) if event.reason == reason))
}

#[test]
fn topology_mode_auto_shares_endpoints_out_by_cpu() {
    // C15.
    for (cpus, pods, least) in [
        ([1000, 1000, 1000], [4, 4, 4], [4, 4, 4]),
        ([1000, 1000, 1000], [12, 0, 0], [4, 4, 4]),
        ([1000, 1000, 4000], [4, 4, 4], [2, 2, 7]),
    ] {
        let mut server = zoned(cpus, pods);
        assert!(tells(&settle(&mut server), "TopologyAwareHintsEnabled"));
        let shares: Vec<usize> = hinted(&server).into_values().collect();
        assert_eq!(shares.iter().sum::<usize>(), 12);
        assert!(shares.iter().zip(least).all(|(share, least)| *share >= least), "{shares:?}");
    }
}

#[test]
fn topology_mode_auto_gives_up_where_it_cannot_work() {
    // C15.
    let mut server = zoned([1000, 1000, 1000], [1, 1, 1]);
    settle(&mut server);
    assert_eq!(hinted(&server).len(), 3);
    server.cluster.pods.remove(&model::PodName::new("default", "a0"));
    let writes = settle(&mut server);
    assert!(tells(&writes, "TopologyAwareHintsDisabled"));
    assert!(hinted(&server).is_empty());
    for unfit in [zoned([1000, 1000, 0], [4, 4, 4]), zoned([20_000, 100, 100], [1, 1, 1])] {
        let mut server = unfit;
        settle(&mut server);
        assert!(hinted(&server).is_empty());
    }
}

/// What a pod looks like in one round: absent, or with a port, a family, ready, terminating.
type Shape = Option<(bool, bool, bool, bool)>;

fn shaped(number: usize, shape: (bool, bool, bool, bool)) -> Pod {
    let (other_port, dual, ready, terminating) = shape;
    let mut pod =
        pod(&format!("p{number:03}"), &format!("10.244.{}.{}", number / 200, number % 200));
    if other_port {
        pod.ports[0].port = port(8081);
    }
    if dual {
        pod.ips.push(format!("fd00::{number:x}").parse().unwrap());
    }
    pod.ready = ready;
    pod.meta.deleting = terminating.then_some(Timestamp(1));
    pod
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Packing: never more than 100 endpoints in a slice, every endpoint exactly once, and a second
    /// look finds nothing to do.
    #[test]
    fn packing_is_complete_and_a_fixpoint(
        rounds in prop::collection::vec(
            prop::collection::vec(any::<Shape>(), 0..260),
            1..5,
        ),
    ) {
        let mut service = service();
        service.families = vec![Family::V4, Family::V6];
        service.ports[0].target = TargetPort::Name("http".into());
        service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
        let mut server = server(service, []);
        for round in rounds {
            server.cluster.pods.clear();
            for (number, shape) in round.into_iter().enumerate() {
                if let Some(shape) = shape {
                    let pod = shaped(number, shape);
                    server.cluster.pods.insert(pod.name(), Arc::new(pod));
                }
            }
            settle(&mut server);
            let mut seen = BTreeMap::new();
            for slice in slices(&server) {
                prop_assert!(slice.endpoints.len() <= 100);
                for endpoint in &slice.endpoints {
                    *seen.entry(endpoint.addresses[0]).or_insert(0) += 1;
                }
            }
            let wanted: BTreeMap<_, _> = server
                .cluster
                .pods
                .values()
                .flat_map(|pod| &pod.ips)
                .map(|address| (*address, 1))
                .collect();
            prop_assert_eq!(seen, wanted);
            for family in Family::ALL {
                let types = slices(&server).into_iter().map(|slice| slice.address_type);
                prop_assert!(types.into_iter().any(|one| one == AddressType::Ip(family)));
            }
        }
    }
}
