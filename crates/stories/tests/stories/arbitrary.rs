//! Random objects, nodes and packets, as the API would let them exist: cluster IPs and node
//! ports belong to one Service, addresses of load balancers and `externalIPs` may be shared.
//! All values come from small pools, so that they meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    AddressType, Affinity, ClusterIps, Conditions, Endpoint, EndpointSlice, Family, FamilyPolicy,
    Hints, Ingress, IpMode, IpNet, LoadBalancer, LocalDetector, Meta, Name, NodeContext, Object,
    Packet, Port, Protocol, Service, ServiceCidr, ServiceName, ServicePort, ServiceType, SlicePort,
    TargetPort, Timestamp, TrafficPolicy,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const SERVICES: usize = 4;
const PORT_NAMES: [&str; 3] = ["", "web", "dns"];
const PORTS: [u16; 3] = [53, 80, 81];
const NODES: [&str; 2] = ["node1", "node2"];
const ZONES: [&str; 2] = ["zone-a", "zone-b"];
const NODE: [&str; 2] = ["172.30.0.11", "fd00:30::11"];
pub(crate) const VIPS: [&str; 4] =
    ["172.30.0.192", "172.30.0.193", "fd00:30::c000", "fd00:30::c001"];
const EXTERNAL: [&str; 4] = ["203.0.113.9", "172.30.0.11", "2001:db8::9", "fd00:30::11"];
/// Two endpoints on the node, one on another, and the node itself (a pod on the host network).
const ENDPOINTS_V4: [&str; 4] = ["10.244.1.2", "10.244.1.3", "10.244.2.2", "172.30.0.11"];
const ENDPOINTS_V6: [&str; 3] = ["fd00:10:244:1::2", "fd00:10:244:1::3", "fd00:10:244:2::2"];
const CLIENTS: [&str; 4] = ["172.30.0.250", "172.30.0.99", "fd00:30::250", "fd00:30::99"];
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
    (services, vec(slice(), 0..8), service_cidrs()).prop_map(|(services, mut slices, cidrs)| {
        without_contradictions(&mut slices);
        let services = services.into_iter().flatten().map(|one| Object::Service(Arc::new(one)));
        let slices = slices.into_iter().enumerate().map(|(index, mut slice)| {
            slice.meta.name = format!("slice-{index}").into();
            Object::EndpointSlice(Arc::new(slice))
        });
        cidrs.into_iter().chain(services).chain(slices).collect()
    })
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

/// The first packet of a connection, mostly to something that a Service may have.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let to = destinations().prop_map(ip);
    let ports = PORTS.into_iter().chain((0..SERVICES).flat_map(node_ports)).chain([9]);
    let ports: Vec<u16> = ports.collect();
    (
        to,
        select(ports),
        protocol(),
        any::<proptest::sample::Index>(),
        select(vec!["eth0", "veth1", "veth2"]),
    )
        .prop_map(|(to, port, protocol, from, interface)| {
            let mut sources = [&CLIENTS[..], &ENDPOINTS_V4, &ENDPOINTS_V6, &NODE, &VIPS]
                .concat()
                .into_iter()
                .map(ip)
                .collect::<Vec<IpAddr>>();
            sources.retain(|address| address.is_ipv4() == to.is_ipv4());
            let source = *from.get(&sources);
            let from_node = NODE.map(ip).contains(&source);
            Packet {
                node: NODES[0].into(),
                from_node,
                interface: if from_node { String::new() } else { interface.to_owned() },
                protocol,
                source: SocketAddr::new(source, 40000),
                destination: SocketAddr::new(to, port),
            }
        })
}

fn destinations() -> impl Strategy<Value = &'static str> {
    let cluster_ips = [
        "10.96.0.10",
        "10.96.0.11",
        "10.96.0.12",
        "10.96.0.13",
        "fd00:10:96::10",
        "fd00:10:96::11",
        "fd00:10:96::12",
        "fd00:10:96::13",
        "10.96.0.99",
        "fd00:10:96::99",
    ];
    select([&cluster_ips[..], &VIPS, &EXTERNAL, &NODE, &["198.51.100.1"]].concat())
}

fn service(index: usize) -> impl Strategy<Value = Service> {
    let head = (service_type(), families(), ports(index), external_ips());
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let affinity = option::weighted(0.2, Just(Affinity { timeout_seconds: 10800 }));
    let oddities = (proptest::bool::weighted(0.1), proptest::bool::weighted(0.1), 0..3_i64);
    (head, policy(), policy(), affinity, oddities).prop_map(
        move |((kind, families, ports, external_ips), external, internal, affinity, odd)| {
            let (headless, other_proxy, created) = odd;
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
                reset_connections: false,
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
        Just(Vec::new()),
        subsequence(&RANGES[..], 1..=3)
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
fn node_ports(index: usize) -> [u16; 2] {
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

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let service = option::weighted(0.9, 0..SERVICES);
    let kind = select(vec![
        AddressType::Ip(Family::V4),
        AddressType::Ip(Family::V4),
        AddressType::Ip(Family::V6),
        AddressType::Fqdn,
    ]);
    let ports = vec(slice_port(), 1..4);
    (service, kind, ports, vec(endpoint(), 0..5), proptest::bool::weighted(0.1)).prop_map(
        |(service, address_type, ports, mut endpoints, headless)| {
            let mut meta = Meta::new("default", "");
            if headless {
                meta.labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
            }
            for endpoint in &mut endpoints {
                endpoint.addresses.retain(|address| match address_type {
                    AddressType::Ip(family) => Family::of(*address) == family,
                    AddressType::Fqdn => false,
                });
            }
            EndpointSlice {
                meta,
                service: service
                    .map(|index| ServiceName::new("default", format!("service-{index}"))),
                address_type,
                ports,
                endpoints,
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

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let address = select([&ENDPOINTS_V4[..], &ENDPOINTS_V6].concat());
    let node = option::weighted(0.9, select(&NODES[..]).prop_map(Name::from));
    let zone = select(&ZONES[..]).prop_map(Name::from);
    let conditions = prop_oneof![
        5 => Just((true, true, false)),
        1 => Just((false, false, false)),
        2 => Just((false, true, true)),
        1 => Just((false, false, true)),
    ];
    let hints = (proptest::bool::weighted(0.8), proptest::bool::weighted(0.4));
    (address, node, zone, conditions, hints).prop_map(|(address, node, zone, conditions, hints)| {
        let (ready, serving, terminating) = conditions;
        let (for_zone, for_node) = hints;
        Endpoint {
            addresses: vec![ip(address)],
            conditions: Conditions { ready, serving, terminating },
            zone: Some(zone.clone()),
            hostname: None,
            target: None,
            hints: Hints {
                zones: for_zone.then_some(zone).into_iter().collect(),
                nodes: node.clone().filter(|_| for_node).into_iter().collect(),
            },
            node,
        }
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

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
