//! Planning a node: one changed EndpointSlice among many Services, and everything.
//! `cargo bench -p portolan-plan`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{
    AddressType, Change, Cluster, ClusterIps, Conditions, Endpoint, EndpointSlice, Family,
    FamilyPolicy, Hints, Labels, LocalDetector, Meta, NodeContext, Object, Port, Protocol, Service,
    ServiceName, ServicePort, ServiceType, SlicePort, TargetPort, TrafficPolicy,
};
use portolan_plan::{Planner, affected, node_view};

const SERVICES: [u32; 4] = [100, 1_000, 10_000, 50_000];
const ENDPOINTS: u32 = 5;

/// From a change of one endpoint to the new view.
fn one_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one changed EndpointSlice to the view, among");
    for services in SERVICES {
        let (mut cluster, context) = (cluster(services), context());
        let mut planner = Planner::new(context.clone());
        planner.update(&cluster, &context, &BTreeSet::new());
        let changed = services / 2;
        let versions = [0, 1].map(|shift| Arc::new(slice(changed, shift)));
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let slice = Arc::clone(&versions[turn % 2]);
                let change = Change::Apply(Object::EndpointSlice(slice));
                let dirty = affected(&cluster, &change);
                cluster.apply(change);
                black_box(planner.update(&cluster, &context, &dirty))
            });
        });
    }
    group.finish();
}

/// What an agent plans when it starts.
fn everything(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("all Services to a view");
    group.sample_size(10);
    for services in SERVICES {
        let (cluster, context) = (cluster(services), context());
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| black_box(node_view(&cluster, &context)));
        });
    }
    group.finish();
}

fn context() -> NodeContext {
    NodeContext {
        node: "node1".into(),
        zone: None,
        node_addresses: [IpAddr::from([172, 30, 0, 11])].into(),
        local_detector: LocalDetector::None,
        masquerade_all: false,
    }
}

fn cluster(services: u32) -> Cluster {
    let mut cluster = Cluster::default();
    for number in 0..services {
        cluster.apply(Change::Apply(Object::Service(Arc::new(service(number)))));
        cluster.apply(Change::Apply(Object::EndpointSlice(Arc::new(slice(number, 0)))));
    }
    cluster
}

fn name(number: u32) -> String {
    format!("service-{number}")
}

fn service(number: u32) -> Service {
    let address = IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number));
    Service {
        meta: Meta::new("default", name(number)),
        kind: ServiceType::ClusterIp,
        cluster_ips: ClusterIps::Assigned(vec![address]),
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: Port::MIN.saturating_add(79),
            target: TargetPort::Number(target()),
            node_port: None,
            app_protocol: None,
        }],
        selector: Labels::new(),
        external_ips: Vec::new(),
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        session_affinity: None,
        health_check_node_port: None,
        publish_not_ready_addresses: false,
        traffic_distribution: None,
        reset_connections: false,
    }
}

/// `shift` moves its first endpoint.
fn slice(number: u32, shift: u32) -> EndpointSlice {
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 16;
    let numbers = std::iter::once(shift * 8).chain(1..ENDPOINTS);
    EndpointSlice {
        meta: Meta::new("default", format!("{}-1", name(number))),
        service: Some(ServiceName::new("default", name(number))),
        address_type: AddressType::Ip(Family::V4),
        ports: vec![SlicePort {
            name: Some("http".into()),
            protocol: Protocol::Tcp,
            port: Some(target()),
            app_protocol: None,
        }],
        endpoints: numbers.map(|number| endpoint(Ipv4Addr::from(first + number))).collect(),
    }
}

fn target() -> Port {
    Port::MIN.saturating_add(8079)
}

fn endpoint(address: Ipv4Addr) -> Endpoint {
    Endpoint {
        addresses: vec![address.into()],
        conditions: Conditions { ready: true, serving: true, terminating: false },
        node: Some("node2".into()),
        zone: None,
        hostname: None,
        target: None,
        hints: Hints::default(),
    }
}

criterion_group!(benches, one_change, everything);
criterion_main!(benches);
