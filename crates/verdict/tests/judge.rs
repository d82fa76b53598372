//! Corners of the rules that stories do not reach. What is common, stories tell.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    AddressType, Change, Cluster, ClusterIps, Conditions, Endpoint, EndpointSlice, Family,
    FamilyPolicy, Hints, Ingress, IpMode, Labels, LoadBalancer, LocalDetector, Meta, NodeContext,
    Object, Outcome, Packet, Port, Protocol, Service, ServicePort, ServiceType, SlicePort,
    TargetPort, Timestamp, TrafficPolicy,
};

const VIP: &str = "172.30.0.192";
const CLIENT: &str = "172.30.0.250";

#[test]
fn a_load_balancer_address_that_is_an_external_address_too_keeps_its_source_ranges() {
    // D26, D27.
    let mut bank = load_balancer("bank", "10.96.0.7", &["192.0.2.0/24"]);
    bank.external_ips = vec![ip(VIP)];
    let cluster = cluster([bank], &[("bank", "10.244.1.2")]);
    assert_eq!(judge(&cluster, &context(), CLIENT), Outcome::Dropped);
}

#[test]
fn of_two_services_that_claim_an_address_and_port_the_oldest_has_it() {
    let mut younger = load_balancer("a", "10.96.0.7", &[]);
    younger.meta.created = Timestamp(2);
    let mut older = load_balancer("b", "10.96.0.8", &[]);
    older.meta.created = Timestamp(1);
    let cluster = cluster([younger, older], &[("a", "10.244.1.2"), ("b", "10.244.1.3")]);
    assert_eq!(judge(&cluster, &context(), CLIENT), delivered(&["10.244.1.3"], &["10.244.1.3"]));
}

#[test]
fn without_a_detector_nobody_is_short_circuited() {
    // D13: policy Local then holds for pods of this node as well.
    let mut local = load_balancer("local", "10.96.0.7", &[]);
    local.external_traffic_policy = TrafficPolicy::Local;
    let cluster = cluster([local], &[("local", "10.244.2.2")]);
    let mut context = context();
    assert_eq!(judge(&cluster, &context, "10.244.1.9"), delivered(&["10.244.2.2"], &[]));
    context.local_detector = LocalDetector::None;
    assert_eq!(judge(&cluster, &context, "10.244.1.9"), Outcome::Dropped);
}

#[test]
fn a_range_with_the_nodes_own_address_admits_the_load_balancer_address_itself() {
    // D28.
    let own =
        cluster([load_balancer("a", "10.96.0.7", &["172.30.0.11/32"])], &[("a", "10.244.1.2")]);
    assert_eq!(judge(&own, &context(), VIP), delivered(&["10.244.1.2"], &["10.244.1.2"]));
    let other =
        cluster([load_balancer("a", "10.96.0.7", &["172.30.0.12/32"])], &[("a", "10.244.1.2")]);
    assert_eq!(judge(&other, &context(), VIP), Outcome::Dropped);
}

/// Endpoints in 10.244.1.0/24 are on node1, others on node2.
fn cluster<const N: usize>(services: [Service; N], endpoints: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for service in services {
        cluster.apply(Change::Apply(Object::Service(Arc::new(service))));
    }
    for (service, address) in endpoints {
        let node = if address.starts_with("10.244.1.") { "node1" } else { "node2" };
        let endpoint = Endpoint {
            addresses: vec![ip(address)],
            conditions: Conditions { ready: true, serving: true, terminating: false },
            node: Some(node.into()),
            zone: None,
            hostname: None,
            target: None,
            hints: Hints::default(),
        };
        let port = SlicePort {
            name: Some("".into()),
            protocol: Protocol::Tcp,
            port: Port::new(8080),
            app_protocol: None,
        };
        cluster.apply(Change::Apply(Object::EndpointSlice(Arc::new(EndpointSlice {
            meta: Meta::new("default", *service),
            service: Some(model::ServiceName::new("default", *service)),
            address_type: AddressType::Ip(Family::V4),
            ports: vec![port],
            endpoints: vec![endpoint],
        }))));
    }
    cluster
}

/// At [`VIP`], port 80.
fn load_balancer(name: &str, cluster_ip: &str, ranges: &[&str]) -> Service {
    Service {
        meta: Meta::new("default", name),
        kind: ServiceType::LoadBalancer(LoadBalancer {
            source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            ingress: vec![Ingress::Ip(ip(VIP), IpMode::Vip)],
            ..LoadBalancer::default()
        }),
        cluster_ips: ClusterIps::Assigned(vec![ip(cluster_ip)]),
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: Port::new(80).unwrap(),
            target: TargetPort::Number(Port::new(8080).unwrap()),
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

fn context() -> NodeContext {
    NodeContext {
        node: "node1".into(),
        zone: None,
        node_addresses: [ip("172.30.0.11")].into(),
        local_detector: LocalDetector::NodeCidr(vec!["10.244.1.0/24".parse().unwrap()]),
        masquerade_all: false,
    }
}

/// What happens to a packet that arrives for [`VIP`].
fn judge(cluster: &Cluster, context: &NodeContext, source: &str) -> Outcome {
    let packet = Packet {
        node: "node1".into(),
        from_node: false,
        interface: "eth0".to_owned(),
        protocol: Protocol::Tcp,
        source: SocketAddr::new(ip(source), 40000),
        destination: SocketAddr::new(ip(VIP), 80),
    };
    portolan_verdict::judge(cluster, context, &packet).outcome
}

fn delivered(to: &[&str], masqueraded: &[&str]) -> Outcome {
    let sockets = |list: &[&str]| list.iter().map(|text| SocketAddr::new(ip(text), 8080)).collect();
    Outcome::Delivered { to: sockets(to), masqueraded: sockets(masqueraded) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
