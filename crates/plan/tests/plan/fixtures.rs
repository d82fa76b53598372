//! Small objects to build clusters from.

use std::sync::Arc;

use model::{
    AddressType, Change, Cluster, ClusterIps, Conditions, ContainerPort, Endpoint, EndpointSlice,
    Family, FamilyPolicy, Hints, Labels, LocalDetector, Meta, Node, NodeCondition, NodeContext,
    Object, Pod, PodPhase, Port, Protocol, Service, ServiceName, ServicePort, ServiceType,
    SlicePort, TargetPort, Timestamp, TrafficPolicy,
};

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub(crate) fn web() -> ServiceName {
    ServiceName::new("default", "web")
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn meta(name: &str) -> Meta {
    let mut meta = Meta::new("default", name);
    meta.uid = format!("uid-{name}").into();
    meta.resource_version = "1".into();
    meta.created = seconds(1000);
    meta
}

pub(crate) fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

/// A ClusterIP Service `web` on 10.96.0.10:80 -> 8080, selecting `app=web`.
pub(crate) fn service() -> Service {
    Service {
        meta: meta("web"),
        kind: ServiceType::ClusterIp,
        cluster_ips: ClusterIps::Assigned(vec!["10.96.0.10".parse().unwrap()]),
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        ports: vec![service_port("http", 80, 8080)],
        selector: labels(&[("app", "web")]),
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

pub(crate) fn service_port(name: &str, number: u16, target: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: port(number),
        target: TargetPort::Number(port(target)),
        node_port: None,
        app_protocol: None,
    }
}

/// A slice of Service `web` with port `http` 8080.
pub(crate) fn slice(name: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let family = endpoints
        .first()
        .and_then(|endpoint| endpoint.addresses.first())
        .map_or(Family::V4, |address| Family::of(*address));
    EndpointSlice {
        meta: meta(name),
        service: Some(web()),
        address_type: AddressType::Ip(family),
        ports: vec![SlicePort {
            name: Some("http".into()),
            protocol: Protocol::Tcp,
            port: Some(port(8080)),
            app_protocol: None,
        }],
        endpoints,
    }
}

/// A ready endpoint.
pub(crate) fn endpoint(address: &str, node: &str) -> Endpoint {
    Endpoint {
        addresses: vec![address.parse().unwrap()],
        conditions: Conditions { ready: true, serving: true, terminating: false },
        node: Some(node.into()),
        zone: None,
        hostname: None,
        target: None,
        hints: Hints::default(),
    }
}

/// An endpoint that still serves while it terminates.
pub(crate) fn draining(address: &str, node: &str) -> Endpoint {
    let conditions = Conditions { ready: false, serving: true, terminating: true };
    Endpoint { conditions, ..endpoint(address, node) }
}

/// The node `here` in zone `a`, recognising its pods by its podCIDR.
pub(crate) fn here() -> NodeContext {
    NodeContext {
        node: "here".into(),
        zone: Some("a".into()),
        node_addresses: ["172.30.0.11".parse().unwrap()].into(),
        local_detector: LocalDetector::NodeCidr(vec!["10.244.0.0/24".parse().unwrap()]),
        masquerade_all: false,
    }
}

pub(crate) fn node(name: &str) -> Node {
    let mut meta = meta(name);
    meta.namespace = "".into();
    Node {
        meta,
        internal_ips: Vec::new(),
        pod_cidrs: Vec::new(),
        unschedulable: false,
        taints: Vec::new(),
        ready: NodeCondition::Ready,
        allocatable: Default::default(),
    }
}

/// A ready pod with label `app=web` on node `here`.
pub(crate) fn pod(name: &str, address: &str) -> Pod {
    let mut meta = meta(name);
    meta.labels = labels(&[("app", "web")]);
    Pod {
        meta,
        node: Some("here".into()),
        placement: Default::default(),
        tolerations: Vec::new(),
        host_network: false,
        hostname: None,
        subdomain: None,
        ports: vec![ContainerPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: port(8080),
        }],
        ips: vec![address.parse().unwrap()],
        phase: PodPhase::Running,
        ready: true,
        ready_since: seconds(2000),
        unschedulable: None,
    }
}

pub(crate) fn cluster(objects: impl IntoIterator<Item = Object>) -> Cluster {
    let mut cluster = Cluster::default();
    for object in objects {
        cluster.apply(Change::Apply(object));
    }
    cluster
}

pub(crate) trait IntoObject {
    fn object(self) -> Object;
}

macro_rules! into_object {
    ($($kind:ident),*) => {$(
        impl IntoObject for model::$kind {
            fn object(self) -> Object {
                Object::$kind(Arc::new(self))
            }
        }
    )*};
}

into_object!(Service, EndpointSlice, Endpoints, Node, Pod, Deployment, ReplicaSet, ServiceCidr);
