//! Random objects and nodes, as the API would let them exist: cluster IPs and node
//! ports belong to one Service, addresses of load balancers and `externalIPs` may be shared.
//! All values come from small pools, so that they meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{
    AddressType, Affinity, ClusterIps, Conditions, Endpoint, EndpointSlice, Family, FamilyPolicy,
    Hints, Ingress, IpMode, IpNet, LoadBalancer, LocalDetector, Meta, Name, NodeContext, Object,
    Port, Protocol, Service, ServiceCidr, ServiceName, ServicePort, ServiceType, SlicePort,
    TargetPort, Timestamp, TrafficPolicy,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

pub(crate) const SERVICES: usize = 4;
const PORT_NAMES: [&str; 3] = ["", "web", "dns"];
pub(crate) const PORTS: [u16; 3] = [53, 80, 81];
pub(crate) const NODES: [&str; 2] = ["node1", "node2"];
const ZONES: [&str; 2] = ["zone-a", "zone-b"];
pub(crate) const NODE: [&str; 2] = ["172.30.0.11", "fd00:30::11"];
pub(crate) const VIPS: [&str; 4] =
    ["172.30.0.192", "172.30.0.193", "fd00:30::c000", "fd00:30::c001"];
pub(crate) const EXTERNAL: [&str; 4] = ["203.0.113.9", "172.30.0.11", "2001:db8::9", "fd00:30::11"];
/// Two endpoints on the node, one on another, and the node itself (a pod on the host network).
pub(crate) const ENDPOINTS_V4: [&str; 4] =
    ["10.244.1.2", "10.244.1.3", "10.244.2.2", "172.30.0.11"];
pub(crate) const ENDPOINTS_V6: [&str; 3] =
    ["fd00:10:244:1::2", "fd00:10:244:1::3", "fd00:10:244:2::2"];
pub(crate) const CLIENTS: [&str; 4] =
    ["172.30.0.250", "172.30.0.99", "fd00:30::250", "fd00:30::99"];
const RANGES: [&str; 8] = [
    "172.30.0.248/29",
    "172.30.0.0/24",
    "10.244.1.2/32",
    "10.244.1.0/24",
    "fd00:30::/64",
    "fd00:10:244:1::2/128",
    "0.0.0.0/0",
    "::/0",
];

/// Services, their slices and ServiceCIDRs.
pub(crate) fn objects() -> impl Strategy<Value = Vec<Object>> {
    let services: Vec<_> =
        (0..SERVICES).map(|index| option::weighted(0.8, service(index))).collect();
    // Most Services have slices made for them; others stand about.
    let steady = (0..SERVICES).flat_map(|service| {
        let of = |family| slice(Just(Some(service)), Just(AddressType::Ip(family)));
        Family::ALL.map(|family| option::weighted(0.85, of(family)))
    });
    let steady: Vec<_> = steady.collect();
    let kind = prop_oneof![
        3 => Just(AddressType::Ip(Family::V4)),
        3 => Just(AddressType::Ip(Family::V6)),
        1 => Just(AddressType::Fqdn),
    ];
    let wild = vec(slice(option::weighted(0.9, 0..SERVICES), kind), 0..4);
    (services, steady, wild, service_cidrs()).prop_map(|(services, steady, wild, cidrs)| {
        let services: Vec<Service> = services.into_iter().flatten().collect();
        let steady = steady.into_iter().flatten().map(|mut slice| {
            serve(&mut slice, &services);
            slice
        });
        let slices = steady.chain(wild);
        let mut slices: Vec<EndpointSlice> = slices.collect();
        without_contradictions(&mut slices);
        let services = services.into_iter().map(|one| Object::Service(Arc::new(one)));
        let slices = slices.into_iter().enumerate().map(|(index, mut slice)| {
            slice.meta.name = format!("slice-{index}").into();
            Object::EndpointSlice(Arc::new(slice))
        });
        cidrs.into_iter().chain(services).chain(slices).collect()
    })
}

/// The same with two Services at least that everybody can connect to over TCP.
pub(crate) fn served_objects() -> impl Strategy<Value = Vec<Object>> {
    objects().prop_map(|mut objects| {
        for index in 0..2 {
            let service = plain(index);
            let slices = Family::ALL.map(|family| ready(&service, family));
            objects.retain(|object| match object {
                Object::Service(other) => other.meta.name != service.meta.name,
                Object::EndpointSlice(slice) => slice.service != Some(service.name()),
                _ => true,
            });
            objects.push(Object::Service(Arc::new(service)));
            objects.extend(slices.map(|slice| Object::EndpointSlice(Arc::new(slice))));
        }
        objects
    })
}

/// What becomes of a slice of [`served_objects`]: its first endpoint is gone.
pub(crate) fn slice_of_one_endpoint(service: usize) -> EndpointSlice {
    let mut slice = ready(&plain(service), Family::V4);
    slice.endpoints.remove(0);
    slice
}

/// A Service of type LoadBalancer on both families.
fn plain(index: usize) -> Service {
    let ingress = VIPS.into_iter().skip(index).step_by(2);
    let mut service = Service {
        meta: Meta::new("default", format!("service-{index}").as_str()),
        kind: ServiceType::LoadBalancer(LoadBalancer {
            ingress: ingress.map(|vip| Ingress::Ip(ip(vip), IpMode::Vip)).collect(),
            ..LoadBalancer::default()
        }),
        cluster_ips: ClusterIps::Assigned(
            Family::ALL.map(|family| cluster_ip(family, index)).to_vec(),
        ),
        families: Family::ALL.to_vec(),
        family_policy: FamilyPolicy::PreferDualStack,
        ports: vec![ServicePort {
            name: "web".into(),
            protocol: Protocol::Tcp,
            port: Port::new(80).unwrap(),
            target: TargetPort::Number(Port::new(8080).unwrap()),
            node_port: Port::new(node_ports(index)[0]),
            app_protocol: None,
        }],
        selector: model::Labels::new(),
        external_ips: Vec::new(),
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        session_affinity: None,
        health_check_node_port: None,
        publish_not_ready_addresses: false,
        traffic_distribution: None,
        reset_connections: index == 1,
    };
    service.meta.created = Timestamp(0);
    service
}

/// Two ready endpoints, one of them on the node.
fn ready(service: &Service, family: Family) -> EndpointSlice {
    let (addresses, name) = match family {
        Family::V4 => (["10.244.1.2", "10.244.2.2"], "four"),
        Family::V6 => (["fd00:10:244:1::2", "fd00:10:244:2::2"], "six"),
    };
    let endpoint = |(address, node): (&str, &str)| Endpoint {
        addresses: vec![ip(address)],
        conditions: Conditions { ready: true, serving: true, terminating: false },
        node: Some(node.into()),
        zone: None,
        hostname: None,
        target: None,
        hints: Hints::default(),
    };
    let name = format!("{}-{name}", service.meta.name);
    let mut slice = EndpointSlice {
        meta: Meta::new("default", name.as_str()),
        service: Some(service.name()),
        address_type: AddressType::Ip(family),
        ports: Vec::new(),
        endpoints: addresses.into_iter().zip(NODES).map(endpoint).collect(),
    };
    serve(&mut slice, std::slice::from_ref(service));
    slice
}

/// Gives a slice the ports of its Service.
fn serve(slice: &mut EndpointSlice, services: &[Service]) {
    let Some(service) = services.iter().find(|one| Some(one.name()) == slice.service) else {
        return;
    };
    let ports = service.ports.iter().map(|port| SlicePort {
        name: Some(port.name.clone()),
        protocol: port.protocol,
        port: Port::new(8080),
        app_protocol: None,
    });
    slice.ports = ports.collect();
}

/// A node and its settings.
pub(crate) fn context() -> impl Strategy<Value = NodeContext> {
    let networks =
        |list: &[&str]| -> Vec<IpNet> { list.iter().map(|text| text.parse().unwrap()).collect() };
    let detectors = vec![
        LocalDetector::NodeCidr(networks(&["10.244.1.0/24", "fd00:10:244:1::/64"])),
        LocalDetector::NodeCidr(networks(&["10.244.1.0/24"])),
        LocalDetector::ClusterCidr(networks(&["10.244.0.0/16", "fd00:10:244::/48"])),
        LocalDetector::BridgeInterface("veth1".to_owned()),
        LocalDetector::InterfacePrefix("veth".to_owned()),
        LocalDetector::None,
    ];
    let zone = option::of(select(&ZONES[..]).prop_map(Name::from));
    let addresses = subsequence(&NODE[..], 0..=2);
    (zone, addresses, select(detectors), proptest::bool::weighted(0.2)).prop_map(
        |(zone, addresses, local_detector, masquerade_all)| NodeContext {
            node: NODES[0].into(),
            zone,
            node_addresses: addresses.into_iter().map(ip).collect(),
            local_detector,
            masquerade_all,
        },
    )
}

fn service(index: usize) -> impl Strategy<Value = Service> {
    let head = (service_type(), families(), ports(index), external_ips());
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let affinity = option::weighted(0.2, Just(Affinity { timeout_seconds: 10800 }));
    let rarely = proptest::bool::weighted;
    let oddities = (rarely(0.05), rarely(0.05), 0..3_i64, rarely(0.2));
    (head, policy(), policy(), affinity, oddities).prop_map(
        move |((kind, families, ports, external_ips), external, internal, affinity, odd)| {
            let (headless, other_proxy, created, reset_connections) = odd;
            let name = format!("service-{index}");
            let mut meta = Meta::new("default", name.as_str());
            meta.created = Timestamp(created);
            if other_proxy {
                let label = "service.kubernetes.io/service-proxy-name";
                meta.labels.insert(label.to_owned(), "mesh".to_owned());
            }
            let cluster_ips = match kind {
                ServiceType::ExternalName(_) => ClusterIps::Unassigned,
                ServiceType::ClusterIp if headless => ClusterIps::Headless,
                _ => ClusterIps::Assigned(
                    families.iter().map(|family| cluster_ip(*family, index)).collect(),
                ),
            };
            Service {
                meta,
                kind,
                cluster_ips,
                families,
                family_policy: FamilyPolicy::PreferDualStack,
                ports,
                selector: model::Labels::new(),
                external_ips,
                external_traffic_policy: external,
                internal_traffic_policy: internal,
                session_affinity: affinity,
                health_check_node_port: None,
                publish_not_ready_addresses: false,
                traffic_distribution: None,
                reset_connections,
            }
        },
    )
}

fn cluster_ip(family: Family, index: usize) -> IpAddr {
    match family {
        Family::V4 => ip(&format!("10.96.0.1{index}")),
        Family::V6 => ip(&format!("fd00:10:96::1{index}")),
    }
}

fn service_type() -> impl Strategy<Value = ServiceType> {
    let mode = || select(vec![IpMode::Vip, IpMode::Vip, IpMode::Proxy]);
    let address = (select(&VIPS[..]), mode()).prop_map(|(text, mode)| Ingress::Ip(ip(text), mode));
    let name = Just(Ingress::Hostname("lb.example.com".to_owned()));
    let ingress = vec(prop_oneof![6 => address, 1 => name], 0..3);
    let ranges = prop_oneof![
        1 => Just(Vec::new()),
        1 => subsequence(&RANGES[..6], 1..=2)
            .prop_map(|list| list.into_iter().map(|text| text.parse().unwrap()).collect()),
        1 => subsequence(&RANGES[..], 1..=3)
            .prop_map(|list| list.into_iter().map(|text| text.parse().unwrap()).collect()),
    ];
    let load_balancer = (ingress, ranges).prop_map(|(ingress, source_ranges)| {
        ServiceType::LoadBalancer(LoadBalancer {
            class: None,
            requested: None,
            source_ranges,
            allocate_node_ports: true,
            ingress,
        })
    });
    prop_oneof![
        1 => Just(ServiceType::ExternalName("example.com".to_owned())),
        4 => Just(ServiceType::ClusterIp),
        4 => Just(ServiceType::NodePort),
        8 => load_balancer,
    ]
}

fn families() -> impl Strategy<Value = Vec<Family>> {
    select(vec![
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![Family::V6, Family::V4],
    ])
}

fn external_ips() -> impl Strategy<Value = Vec<IpAddr>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => subsequence([&EXTERNAL[..], &VIPS[..1]].concat(), 1..=2)
            .prop_map(|list| list.into_iter().map(ip).collect()),
    ]
}

/// Two ports, so that one number can serve two protocols.
pub(crate) fn node_ports(index: usize) -> [u16; 2] {
    let first = 30000 + 2 * u16::try_from(index).unwrap();
    [first, first + 1]
}

/// Unique by protocol and number, and by protocol and node port, as the API demands.
fn ports(index: usize) -> impl Strategy<Value = Vec<ServicePort>> {
    let port =
        (protocol(), select(&PORTS[..]), option::weighted(0.8, select(node_ports(index).to_vec())));
    let port = (select(&PORT_NAMES[..]), port);
    vec(port, 1..4).prop_map(|list| {
        let (mut names, mut seen, mut node_seen) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let list = list.into_iter().filter_map(|(name, (protocol, number, node_port))| {
            if !names.insert(name) || !seen.insert((protocol, number)) {
                return None;
            }
            Some(ServicePort {
                name: name.into(),
                protocol,
                port: Port::new(number)?,
                target: TargetPort::Number(Port::new(8080)?),
                node_port: node_port
                    .filter(|number| node_seen.insert((protocol, *number)))
                    .and_then(Port::new),
                app_protocol: None,
            })
        });
        list.collect()
    })
}

fn slice(
    service: impl Strategy<Value = Option<usize>>,
    kind: impl Strategy<Value = AddressType>,
) -> impl Strategy<Value = EndpointSlice> {
    let ports = vec(slice_port(), 1..4);
    (service, kind, ports, vec(endpoint(), 1..5), proptest::bool::weighted(0.05)).prop_map(
        |(service, address_type, ports, endpoints, headless)| {
            let mut meta = Meta::new("default", "");
            if headless {
                meta.labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
            }
            let pool = match address_type {
                AddressType::Ip(Family::V4) => &ENDPOINTS_V4[..],
                AddressType::Ip(Family::V6) => &ENDPOINTS_V6,
                AddressType::Fqdn => &[],
            };
            let endpoints = endpoints.into_iter().map(|(address, mut endpoint)| {
                if !pool.is_empty() {
                    let address: &str = address.get::<&str>(pool);
                    endpoint.addresses.push(ip(address));
                    // A pod is on one node, whatever slice names it.
                    if address.starts_with("10.244.2.") || address.starts_with("fd00:10:244:2:") {
                        endpoint.node = Some(NODES[1].into());
                    }
                }
                endpoint
            });
            EndpointSlice {
                meta,
                service: service
                    .map(|index| ServiceName::new("default", format!("service-{index}"))),
                address_type,
                ports,
                endpoints: endpoints.collect(),
            }
        },
    )
}

fn slice_port() -> impl Strategy<Value = SlicePort> {
    let name = option::weighted(0.9, select(&PORT_NAMES[..]).prop_map(Name::from));
    let number = option::weighted(0.9, select(vec![8080, 5353]));
    (name, protocol(), number).prop_map(|(name, protocol, number)| SlicePort {
        name,
        protocol,
        port: number.and_then(Port::new),
        app_protocol: None,
    })
}

/// Without its address, which depends on the slice.
fn endpoint() -> impl Strategy<Value = (Index, Endpoint)> {
    let address = any::<Index>();
    // Those of another node get its name with their address.
    let node = option::weighted(0.9, Just(Name::from(NODES[0])));
    let zone = select(&ZONES[..]).prop_map(Name::from);
    let conditions = prop_oneof![
        6 => Just((true, true, false)),
        1 => Just((false, false, false)),
        2 => Just((false, true, true)),
        1 => Just((false, false, true)),
    ];
    let hints = (proptest::bool::weighted(0.8), proptest::bool::weighted(0.4));
    (address, node, zone, conditions, hints).prop_map(|(address, node, zone, conditions, hints)| {
        let (ready, serving, terminating) = conditions;
        let (for_zone, for_node) = hints;
        let endpoint = Endpoint {
            addresses: Vec::new(),
            conditions: Conditions { ready, serving, terminating },
            zone: Some(zone.clone()),
            hostname: None,
            target: None,
            hints: Hints {
                zones: for_zone.then_some(zone).into_iter().collect(),
                nodes: node.clone().filter(|_| for_node).into_iter().collect(),
            },
            node,
        };
        (address, endpoint)
    })
}

/// Of two entries for one endpoint the one that does not terminate counts (D5). Nothing says
/// which counts of two that contradict each other otherwise, so those become equal.
fn without_contradictions(slices: &mut [EndpointSlice]) {
    let mut known: BTreeMap<_, Endpoint> = BTreeMap::new();
    for slice in slices {
        for endpoint in &mut slice.endpoints {
            let key = (
                slice.service.clone(),
                endpoint.addresses.clone(),
                endpoint.conditions.terminating,
            );
            *endpoint = known.entry(key).or_insert_with(|| endpoint.clone()).clone();
        }
    }
}

fn service_cidrs() -> impl Strategy<Value = Vec<Object>> {
    subsequence(vec!["10.96.0.0/16", "fd00:10:96::/112"], 0..=2).prop_map(|cidrs| {
        let cidrs = cidrs.into_iter().map(|cidr| {
            Object::ServiceCidr(Arc::new(ServiceCidr {
                meta: Meta::new("", if cidr.contains('.') { "four" } else { "six" }),
                cidrs: vec![cidr.parse().unwrap()],
                ready: true,
            }))
        });
        cidrs.collect()
    })
}

pub(crate) fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
