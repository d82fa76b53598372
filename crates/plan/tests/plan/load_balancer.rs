//! Addresses of load balancers.

use std::net::IpAddr;
use std::sync::Arc;

use model::{
    Family, Ingress, IpMode, LoadBalancer, Port, Protocol, Reason, Service, ServiceName,
    ServicePort, ServiceType, TrafficPolicy, Write,
};
use plan::AddressPool;
use proptest::prelude::*;

use crate::fixtures::{IntoObject as _, cluster, meta, node, seconds, service};
use crate::server::Server;

const SHARING_KEY: &str = "portolan.dev/load-balancer-sharing-key";
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

fn pool(networks: &[&str]) -> AddressPool {
    let networks: Vec<_> = networks.iter().map(|network| network.parse().unwrap()).collect();
    AddressPool::from_networks(&networks)
}

fn balanced(name: &str, created: i64) -> Service {
    let mut service = service();
    service.meta = meta(name);
    service.meta.created = seconds(created);
    service.kind = ServiceType::LoadBalancer(LoadBalancer::default());
    service
}

fn with_ingress(service: Service, address: &str) -> Service {
    let ingress = vec![Ingress::Ip(address.parse().unwrap(), IpMode::Vip)];
    let mut service = service;
    service.kind = ServiceType::LoadBalancer(LoadBalancer { ingress, ..LoadBalancer::default() });
    service
}

fn server(services: impl IntoIterator<Item = Service>) -> Server {
    Server::new(cluster(services.into_iter().map(|service| service.object())))
}

fn settle(server: &mut Server, pool: &AddressPool) -> Vec<Write> {
    let writes = plan::load_balancer(&server.cluster, pool).writes;
    server.carry_out(&writes);
    assert_eq!(plan::load_balancer(&server.cluster, pool).writes, [], "not a fixpoint");
    writes
}

fn addresses(server: &Server, name: &str) -> Vec<String> {
    let service = &server.cluster.services[&ServiceName::new("default", name)];
    let ingress = service.load_balancer().map_or(&[][..], |one| &one.ingress);
    let text = |entry: &Ingress| match entry {
        Ingress::Ip(address, _) => address.to_string(),
        Ingress::Hostname(name) => name.clone(),
    };
    ingress.iter().map(text).collect()
}

fn reasons(writes: &[Write]) -> Vec<&str> {
    let events = writes.iter().filter_map(|write| match write {
        Write::Event(event) => Some(event.reason.as_str()),
        _ => None,
    });
    events.collect()
}

#[test]
fn the_finalizer_comes_before_the_address() {
    // C21.
    let mut server = server([balanced("a", 1)]);
    let writes = settle(&mut server, &pool(&["192.0.2.8/30"]));
    let position = |is: fn(&Write) -> bool| writes.iter().position(is).unwrap();
    let finalizer = position(|write| matches!(write, Write::ServiceFinalizer { .. }));
    let ingress = position(|write| matches!(write, Write::ServiceIngress { .. }));
    assert!(finalizer < ingress);
    assert_eq!(reasons(&writes), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
    assert_eq!(addresses(&server, "a"), ["192.0.2.8"]);
}

#[test]
fn only_our_classes_are_served() {
    // C20.
    let classed = |name, class: &str| {
        let mut service = balanced(name, 1);
        let class = Some(class.to_owned());
        service.kind = ServiceType::LoadBalancer(LoadBalancer { class, ..LoadBalancer::default() });
        service
    };
    let mut server = server([classed("ours", "portolan"), classed("other", "example.org/lb")]);
    settle(&mut server, &pool(&["192.0.2.8/30"]));
    assert_eq!(addresses(&server, "ours").len(), 1);
    assert_eq!(addresses(&server, "other").len(), 0);
}

#[test]
fn every_family_of_the_service_gets_an_address() {
    // C22.
    let mut dual = balanced("a", 1);
    dual.families = vec![Family::V6, Family::V4];
    let mut server = server([dual]);
    settle(&mut server, &pool(&["192.0.2.8/30", "2001:db8::10/126"]));
    assert_eq!(addresses(&server, "a"), ["2001:db8::10", "192.0.2.8"]);
}

#[test]
fn present_addresses_are_kept_and_older_services_choose_first() {
    let kept = with_ingress(balanced("young", 9), "192.0.2.8");
    let mut server = server([balanced("old", 1), balanced("middle", 5), kept]);
    settle(&mut server, &pool(&["192.0.2.8/31"]));
    assert_eq!(addresses(&server, "young"), ["192.0.2.8"]);
    assert_eq!(addresses(&server, "old"), ["192.0.2.9"]);
    assert_eq!(addresses(&server, "middle").len(), 0);
}

#[test]
fn an_exhausted_pool_is_told_once() {
    // C24.
    let mut server = server([balanced("a", 1)]);
    let other = pool(&["2001:db8::10/126"]);
    assert_eq!(
        reasons(&settle(&mut server, &other)),
        ["EnsuringLoadBalancer", "SyncLoadBalancerFailed"]
    );
    let again = plan::load_balancer(&server.cluster, &other);
    let text = "Service default/a: the address pool has no IPv4 address";
    assert_eq!(again.report, [Reason::Other(text.to_owned())]);
}

#[test]
fn without_a_pool_load_balancers_belong_to_others() {
    // C24.
    let mut server = server([balanced("a", 1), with_ingress(balanced("b", 2), "192.0.2.8")]);
    assert!(settle(&mut server, &AddressPool::default()).is_empty());
    assert_eq!(addresses(&server, "b"), ["192.0.2.8"]);
}

#[test]
fn requests_are_honoured_and_not_given_away() {
    // C23.
    let mut asks = balanced("asks", 9);
    let requested = "192.0.2.8".parse().ok();
    asks.kind = ServiceType::LoadBalancer(LoadBalancer { requested, ..LoadBalancer::default() });
    let mut annotated = balanced("annotated", 8);
    let key = "portolan.dev/load-balancer-ips".to_owned();
    annotated.meta.annotations.insert(key, "192.0.2.9".to_owned());
    let mut server = server([balanced("old", 1), asks, annotated]);
    settle(&mut server, &pool(&["192.0.2.8/30"]));
    assert_eq!(addresses(&server, "asks"), ["192.0.2.8"]);
    assert_eq!(addresses(&server, "annotated"), ["192.0.2.9"]);
    assert_eq!(addresses(&server, "old"), ["192.0.2.10"]);
}

#[test]
fn a_taken_request_fails_with_its_owner_and_keeps_what_is_there() {
    let mut asks = balanced("asks", 9);
    asks.kind = ServiceType::LoadBalancer(LoadBalancer {
        requested: "192.0.2.8".parse().ok(),
        ingress: vec![Ingress::Ip("192.0.2.9".parse().unwrap(), IpMode::Vip)],
        ..LoadBalancer::default()
    });
    let mut server = server([with_ingress(balanced("owner", 1), "192.0.2.8"), asks]);
    let pool = pool(&["192.0.2.8/30"]);
    settle(&mut server, &pool);
    assert_eq!(addresses(&server, "asks"), ["192.0.2.9"]);
    let report = plan::load_balancer(&server.cluster, &pool).report;
    let text = "Service default/asks: 192.0.2.8 belongs to Service default/owner";
    assert_eq!(report, [Reason::Other(text.to_owned())]);
}

#[test]
fn addresses_of_nodes_and_outside_the_pool_are_replaced() {
    let mut server = server([
        with_ingress(balanced("outside", 1), "198.51.100.1"),
        with_ingress(balanced("node", 2), "192.0.2.8"),
    ]);
    let mut node = node("n");
    node.internal_ips = vec!["192.0.2.8".parse().unwrap()];
    server.cluster.nodes.insert("n".into(), Arc::new(node));
    settle(&mut server, &pool(&["192.0.2.8/30"]));
    assert_eq!(addresses(&server, "outside"), ["192.0.2.9"]);
    assert_eq!(addresses(&server, "node"), ["192.0.2.10"]);
}

#[test]
fn a_deleted_service_gives_its_address_back_and_loses_the_finalizer() {
    let mut deleted = with_ingress(balanced("a", 1), "192.0.2.8");
    deleted.meta.finalizers.insert(FINALIZER.to_owned());
    deleted.meta.deleting = Some(seconds(5000));
    let mut server = server([deleted]);
    let writes = settle(&mut server, &pool(&["192.0.2.8/30"]));
    assert_eq!(reasons(&writes), ["DeletingLoadBalancer", "DeletedLoadBalancer"]);
    let service = &server.cluster.services[&ServiceName::new("default", "a")];
    assert!(service.meta.finalizers.is_empty());
}

#[test]
fn events_tell_when_a_load_balancer_comes_and_goes() {
    // C30.
    let mut server = server([balanced("a", 1)]);
    let pool = pool(&["192.0.2.8/30"]);
    let writes = settle(&mut server, &pool);
    assert_eq!(reasons(&writes), ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]);
    let service = server.cluster.services.values_mut().next().unwrap();
    Arc::make_mut(service).kind = ServiceType::ClusterIp;
    let writes = settle(&mut server, &pool);
    assert_eq!(reasons(&writes), ["DeletingLoadBalancer", "DeletedLoadBalancer"]);
}

fn sharing(name: &str, created: i64, ports: &[(Protocol, u16)]) -> Service {
    let mut service = balanced(name, created);
    service.meta.annotations.insert(SHARING_KEY.to_owned(), "dns".to_owned());
    let port = service.ports[0].clone();
    service.ports = ports
        .iter()
        .map(|(protocol, number)| ServicePort {
            protocol: *protocol,
            port: Port::new(*number).unwrap(),
            ..port.clone()
        })
        .collect();
    service
}

#[test]
fn services_that_want_to_share_an_address_on_disjoint_ports() {
    // C29.
    let mut elsewhere = sharing("elsewhere", 5, &[(Protocol::Tcp, 99)]);
    elsewhere.meta.namespace = "other".into();
    let mut server = server([
        sharing("udp", 1, &[(Protocol::Udp, 53)]),
        sharing("tcp", 2, &[(Protocol::Tcp, 53)]),
        sharing("again", 3, &[(Protocol::Tcp, 80), (Protocol::Udp, 53)]),
        balanced("alone", 4),
        elsewhere,
    ]);
    settle(&mut server, &pool(&["192.0.2.8/29"]));
    assert_eq!(addresses(&server, "udp"), ["192.0.2.8"]);
    assert_eq!(addresses(&server, "tcp"), ["192.0.2.8"]);
    assert_eq!(addresses(&server, "again"), ["192.0.2.9"]);
    assert_eq!(addresses(&server, "alone"), ["192.0.2.10"]);
    let name = ServiceName::new("other", "elsewhere");
    let ingress = &server.cluster.services[&name].load_balancer().unwrap().ingress;
    assert_eq!(ingress[..], [Ingress::Ip("192.0.2.11".parse().unwrap(), IpMode::Vip)]);
}

#[test]
fn who_asks_for_a_shared_address_is_told_what_is_in_the_way() {
    // C29.
    let request = |service: Service| {
        let mut service = service;
        let requested = "192.0.2.8".parse().ok();
        service.kind = ServiceType::LoadBalancer(LoadBalancer { requested, ..Default::default() });
        service
    };
    let owner = request(sharing("owner", 1, &[(Protocol::Tcp, 53)]));
    let mut local = request(sharing("local", 2, &[(Protocol::Udp, 53)]));
    local.external_traffic_policy = TrafficPolicy::Local;
    local.selector.insert("app".to_owned(), "other".to_owned());
    let same = request(sharing("same", 3, &[(Protocol::Tcp, 53)]));
    let mut server = server([owner, local, same]);
    let pool = pool(&["192.0.2.8/30"]);
    settle(&mut server, &pool);
    let report = plan::load_balancer(&server.cluster, &pool).report;
    let told: Vec<String> = report.iter().map(ToString::to_string).collect();
    let shared = "192.0.2.8 is shared by Service default/owner";
    assert_eq!(
        told,
        [
            format!(
                "Service default/local: {shared}: with externalTrafficPolicy Local both need the \
                 same selector"
            ),
            format!("Service default/same: {shared}, which has port 53/TCP too"),
        ]
    );
}

#[test]
fn another_type_loses_the_finalizer() {
    // C21.
    let mut former = service();
    former.meta.finalizers.insert(FINALIZER.to_owned());
    let mut server = server([former]);
    settle(&mut server, &AddressPool::default());
    let service = server.cluster.services.values().next().unwrap();
    assert!(service.meta.finalizers.is_empty());
}

proptest! {
    #[test]
    fn no_two_services_share_an_address(
        services in prop::collection::vec((0i64..5, prop::option::of(0u8..20), prop::option::of(0u8..20)), 0..14),
    ) {
        // C22.
        let address = |last: u8| format!("192.0.2.{last}");
        let services = services.into_iter().enumerate().map(|(number, (created, has, asks))| {
            let mut service = balanced(&format!("s{number}"), created);
            service.kind = ServiceType::LoadBalancer(LoadBalancer {
                requested: asks.and_then(|last| address(last).parse().ok()),
                ingress: has.map(|last| Ingress::Ip(address(last).parse().unwrap(), IpMode::Vip)).into_iter().collect(),
                ..LoadBalancer::default()
            });
            service
        });
        let pool = pool(&["192.0.2.8/29"]);
        let mut server = server(services);
        settle(&mut server, &pool);
        let names: Vec<String> = server.cluster.services.keys().map(|name| name.name.to_string()).collect();
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            for address in addresses(&server, &name) {
                prop_assert!(pool.contains(address.parse::<IpAddr>().unwrap()));
                prop_assert!(seen.insert(address));
            }
        }
    }
}
