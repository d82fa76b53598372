//! One Service on one node.

use std::net::{IpAddr, SocketAddr};

use model::{
    Action, AddressType, Cluster, ClusterIps, Family, Frontend, FrontendKind, Ingress, IpMode,
    LoadBalancer, LocalDetector, Masquerade, NodeContext, Protocol, Reason, Service, ServiceType,
    ServiceView, TrafficPolicy,
};
use proptest::prelude::*;

use crate::fixtures::{
    IntoObject as _, cluster, draining, endpoint, here, port, service, service_port, slice, web,
};

fn view(cluster: &Cluster) -> ServiceView {
    plan::service(cluster, &here(), &web()).unwrap()
}

fn frontend(view: &ServiceView, kind: FrontendKind) -> &Frontend {
    view.frontends.iter().find(|frontend| frontend.kind == kind).unwrap()
}

fn cluster_ip() -> FrontendKind {
    FrontendKind::ClusterIp(ip("10.96.0.10"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to(action: &Action) -> Vec<String> {
    match action {
        Action::Balance(backends) => {
            backends.iter().map(|backend| backend.address.to_string()).collect()
        }
        Action::Reject(_) => vec!["reject".to_owned()],
        Action::Drop(_) => vec!["drop".to_owned()],
    }
}

fn vip(address: &str) -> Ingress {
    Ingress::Ip(ip(address), IpMode::Vip)
}

/// A load balancer on 172.30.0.192 with policy Local and node port 30080.
fn load_balancer() -> Service {
    let mut service = service();
    let ingress = vec![vip("172.30.0.192")];
    service.kind = ServiceType::LoadBalancer(LoadBalancer { ingress, ..LoadBalancer::default() });
    service.external_traffic_policy = TrafficPolicy::Local;
    service.health_check_node_port = Some(port(31000));
    service.ports[0].node_port = Some(port(30080));
    service
}

fn lb() -> FrontendKind {
    FrontendKind::LoadBalancer(ip("172.30.0.192"))
}

/// D1.
#[test]
fn d1_another_proxy_takes_the_service() {
    let mut service = service();
    let label = "service.kubernetes.io/service-proxy-name".to_owned();
    service.meta.labels.insert(label, "other".to_owned());
    let view = view(&cluster([service.object()]));
    assert_eq!((view.frontends.len(), view.cluster_ips.len()), (0, 0));
    assert_eq!(view.report, [Reason::OtherProxy("other".to_owned())]);
}

/// D2.
#[test]
fn d2_slices_with_the_headless_label_are_ignored() {
    let mut slice = slice("s", vec![endpoint("10.244.0.5", "here")]);
    slice.meta.labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    let view = view(&cluster([service().object(), slice.object()]));
    assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["reject"]);
}

/// D3.
#[test]
fn d3_services_without_a_cluster_ip_have_no_dataplane() {
    for (cluster_ips, kind, reason) in [
        (ClusterIps::Headless, ServiceType::ClusterIp, Reason::Headless),
        (ClusterIps::Unassigned, ServiceType::ClusterIp, Reason::NoClusterIp),
        (
            ClusterIps::Unassigned,
            ServiceType::ExternalName("example.org".to_owned()),
            Reason::ExternalName,
        ),
    ] {
        let service = Service { cluster_ips, kind, ..service() };
        let view = view(&cluster([service.object()]));
        assert_eq!((view.frontends.len(), view.report), (0, vec![reason]));
    }
}

/// D4.
#[test]
fn d4_slice_ports_are_matched_by_name_and_protocol() {
    let mut service = service();
    service.ports = vec![service_port("http", 80, 9999), service_port("other", 81, 8080)];
    let slice = slice("s", vec![endpoint("10.244.0.5", "here")]);
    let view = view(&cluster([service.object(), slice.object()]));
    assert_eq!(to(&view.frontends[0].internal), ["10.244.0.5:8080"]);
    assert_eq!(to(&view.frontends[1].internal), ["reject"]);
}

/// D5.
#[test]
fn d5_unusable_slices_and_ports_are_skipped() {
    let good = slice("a", vec![endpoint("10.244.0.5", "here")]);
    let mut fqdn = slice("b", vec![endpoint("10.244.0.6", "here")]);
    fqdn.address_type = AddressType::Fqdn;
    let mut unnamed = slice("c", vec![endpoint("10.244.0.7", "here")]);
    unnamed.ports[0].name = None;
    let mut no_number = slice("d", vec![endpoint("10.244.0.8", "here")]);
    no_number.ports[0].port = None;
    let slices = [good, fqdn, unnamed, no_number].map(|slice| slice.object());
    let view = view(&cluster(std::iter::once(service().object()).chain(slices)));
    assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["10.244.0.5:8080"]);
}

/// D5.
#[test]
fn d5_of_two_entries_for_an_address_the_one_that_does_not_terminate_wins() {
    for names in [["a", "b"], ["b", "a"]] {
        let old = slice(names[0], vec![draining("10.244.0.5", "here")]);
        let new = slice(names[1], vec![endpoint("10.244.0.5", "here")]);
        let view = view(&cluster([service().object(), old.object(), new.object()]));
        assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["10.244.0.5:8080"]);
        assert!(!view.report.contains(&Reason::TerminatingFallback));
    }
}

/// D7.
#[test]
fn d7_source_ranges_of_the_other_family_restrict_nobody_and_are_reported() {
    let mut service = load_balancer();
    let ServiceType::LoadBalancer(load_balancer) = &mut service.kind else { unreachable!() };
    load_balancer.source_ranges = vec!["10.0.0.0/8".parse().unwrap()];
    load_balancer.ingress.push(vip("fd00:30::c000"));
    service.families = vec![Family::V4, Family::V6];
    service.cluster_ips = ClusterIps::Assigned(vec![ip("10.96.0.10"), ip("fd00:10:96::a")]);
    let view = view(&cluster([service.object()]));
    assert!(frontend(&view, lb()).source_ranges.is_some());
    let v6 = FrontendKind::LoadBalancer(ip("fd00:30::c000"));
    assert_eq!(frontend(&view, v6).source_ranges, None);
    let is_said = |reason: &Reason| reason.to_string().contains("names no IPv6 range");
    assert!(view.report.iter().any(is_said));
}

/// D7.
#[test]
fn d7_addresses_of_a_family_without_a_cluster_ip_are_ignored() {
    let mut service = service();
    service.external_ips = vec![ip("192.0.2.1"), ip("2001:db8::1")];
    let view = view(&cluster([service.object()]));
    assert_eq!(view.frontends.len(), 2);
    let is_said = |reason: &Reason| reason.to_string().starts_with("2001:db8::1 is ignored");
    assert!(view.report.iter().any(is_said));
}

/// D8.
#[test]
fn d8_only_ingress_of_mode_vip_is_handled() {
    let mut service = load_balancer();
    let ServiceType::LoadBalancer(load_balancer) = &mut service.kind else { unreachable!() };
    load_balancer.ingress = vec![
        Ingress::Ip(ip("172.30.0.193"), IpMode::Proxy),
        Ingress::Hostname("lb.example.org".to_owned()),
    ];
    let view = view(&cluster([service.object()]));
    let is_lb = |one: &Frontend| matches!(one.kind, FrontendKind::LoadBalancer(_));
    assert!(!view.frontends.iter().any(is_lb));
    assert!(view.report.contains(&Reason::IngressNotVip));
}

/// D11.
#[test]
fn d11_masquerade_follows_the_destination_and_the_policy() {
    let view = view(&cluster([load_balancer().object()]));
    assert_eq!(frontend(&view, cluster_ip()).masquerade, Masquerade::OffCluster);
    assert_eq!(frontend(&view, lb()).masquerade, Masquerade::NodeOnly);
    let mut service = load_balancer();
    service.external_traffic_policy = TrafficPolicy::Cluster;
    let cluster = cluster([service.object()]);
    let without_detector = NodeContext { local_detector: LocalDetector::None, ..here() };
    let view = plan::service(&cluster, &without_detector, &web()).unwrap();
    assert_eq!(frontend(&view, cluster_ip()).masquerade, Masquerade::Never);
    assert_eq!(frontend(&view, lb()).masquerade, Masquerade::Always);
    let all = NodeContext { masquerade_all: true, ..here() };
    let view = plan::service(&cluster, &all, &web()).unwrap();
    assert_eq!(frontend(&view, cluster_ip()).masquerade, Masquerade::Always);
}

/// D11.
#[test]
fn d11_policy_local_is_short_circuited_for_this_node() {
    let slice = slice("s", vec![endpoint("10.244.0.5", "here"), endpoint("10.244.1.5", "there")]);
    let view = view(&cluster([load_balancer().object(), slice.object()]));
    for kind in [lb(), FrontendKind::NodePort(Family::V4)] {
        let frontend = frontend(&view, kind);
        assert_eq!(to(&frontend.internal), ["10.244.0.5:8080", "10.244.1.5:8080"]);
        assert_eq!(to(&frontend.external), ["10.244.0.5:8080"]);
    }
}

/// D22, and D33 for the node port.
#[test]
fn d22_policy_local_without_local_endpoints_drops_outside_traffic_only() {
    let slice = slice("s", vec![endpoint("10.244.1.5", "there")]);
    let view = view(&cluster([load_balancer().object(), slice.object()]));
    for kind in [lb(), FrontendKind::NodePort(Family::V4)] {
        assert_eq!(to(&frontend(&view, kind).external), ["drop"]);
    }
    assert_eq!(to(&frontend(&view, lb()).internal), ["10.244.1.5:8080"]);
    assert_eq!(to(&frontend(&view, cluster_ip()).external), ["10.244.1.5:8080"]);
    assert!(view.report.contains(&Reason::NoLocalEndpoints));
}

/// D22.
#[test]
fn d22_local_terminating_endpoints_stand_in_for_local_ready_ones() {
    let slice = slice("s", vec![draining("10.244.0.5", "here"), endpoint("10.244.1.5", "there")]);
    let view = view(&cluster([load_balancer().object(), slice.object()]));
    assert_eq!(to(&frontend(&view, lb()).external), ["10.244.0.5:8080"]);
    assert_eq!(view.health_check, Some((port(31000), 0)));
}

/// D23.
#[test]
fn d23_without_any_endpoint_everything_is_refused() {
    let mut unready = endpoint("10.244.0.5", "here");
    unready.conditions.ready = false;
    let slice = slice("s", vec![unready]);
    let view = view(&cluster([load_balancer().object(), slice.object()]));
    for frontend in &view.frontends {
        assert_eq!(
            (to(&frontend.internal), to(&frontend.external)),
            (vec!["reject".to_owned()], vec!["reject".to_owned()])
        );
    }
}

/// D24.
#[test]
fn d24_the_internal_policy_concerns_the_cluster_ip_only() {
    let mut service = load_balancer();
    service.external_traffic_policy = TrafficPolicy::Cluster;
    service.internal_traffic_policy = TrafficPolicy::Local;
    let slice = slice("s", vec![endpoint("10.244.1.5", "there")]);
    let view = view(&cluster([service.object(), slice.object()]));
    assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["drop"]);
    assert_eq!(to(&frontend(&view, lb()).external), ["10.244.1.5:8080"]);
    assert_eq!(view.health_check, None);
}

/// D26 and D27.
#[test]
fn d26_source_ranges_guard_load_balancer_addresses_only() {
    let mut service = load_balancer();
    let ServiceType::LoadBalancer(load_balancer) = &mut service.kind else { unreachable!() };
    load_balancer.source_ranges = vec!["10.1.2.3/8".parse().unwrap()];
    service.external_ips = vec![ip("192.0.2.1"), ip("172.30.0.192")];
    let view = view(&cluster([service.object()]));
    for frontend in &view.frontends {
        let expected = (frontend.kind == lb()).then(|| vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(frontend.source_ranges, expected);
    }
    let twice = FrontendKind::ExternalIp(ip("172.30.0.192"));
    assert!(!view.frontends.iter().any(|frontend| frontend.kind == twice));
}

/// D7.
#[test]
fn d7_a_range_of_everything_restricts_nobody() {
    let mut service = load_balancer();
    let ServiceType::LoadBalancer(load_balancer) = &mut service.kind else { unreachable!() };
    load_balancer.source_ranges = vec!["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
    let view = view(&cluster([service.object()]));
    assert_eq!(frontend(&view, lb()).source_ranges, None);
}

/// D28.
#[test]
fn d28_the_address_itself_is_allowed_when_the_node_is() {
    let mut service = load_balancer();
    let ServiceType::LoadBalancer(load_balancer) = &mut service.kind else { unreachable!() };
    load_balancer.source_ranges = vec!["172.30.0.0/25".parse().unwrap()];
    let view = view(&cluster([service.object()]));
    let ranges = frontend(&view, lb()).source_ranges.clone().unwrap();
    assert!(ranges.contains(&"172.30.0.192/32".parse().unwrap()));
}

#[test]
fn the_health_check_counts_local_ready_addresses() {
    let endpoints = vec![
        endpoint("10.244.0.5", "here"),
        endpoint("10.244.0.6", "here"),
        draining("10.244.0.7", "here"),
        endpoint("10.244.1.5", "there"),
    ];
    let mut service = load_balancer();
    service.ports.push(service_port("https", 443, 8080));
    let view = view(&cluster([service.object(), slice("s", endpoints).object()]));
    assert_eq!(view.health_check, Some((port(31000), 2)));
}

fn hinted(address: &str, node: &str, zones: &[&str], nodes: &[&str]) -> model::Endpoint {
    let mut endpoint = endpoint(address, node);
    endpoint.hints.zones = zones.iter().map(|zone| (*zone).into()).collect();
    endpoint.hints.nodes = nodes.iter().map(|node| (*node).into()).collect();
    endpoint
}

/// D20 and D25: hints decide, `trafficDistribution` plays no part.
#[test]
fn d20_hints_narrow_to_the_node_then_to_the_zone_then_not_at_all() {
    let local = hinted("10.244.0.5", "here", &["a"], &["here"]);
    let near = hinted("10.244.1.5", "there", &["a"], &["there"]);
    let far = hinted("10.244.2.5", "far", &["b"], &["far"]);
    let bare = endpoint("10.244.3.5", "there");
    for (endpoints, expected) in [
        (vec![local.clone(), near.clone(), far.clone()], vec!["10.244.0.5:8080"]),
        (vec![near.clone(), far.clone()], vec!["10.244.1.5:8080"]),
        (vec![far.clone()], vec!["10.244.2.5:8080"]),
        (vec![near, far, bare], vec!["10.244.1.5:8080", "10.244.2.5:8080", "10.244.3.5:8080"]),
    ] {
        let view = view(&cluster([service().object(), slice("s", endpoints).object()]));
        assert_eq!(to(&frontend(&view, cluster_ip()).internal), expected);
    }
}

/// D20.
#[test]
fn d20_a_node_without_a_zone_ignores_zone_hints() {
    let endpoints =
        vec![hinted("10.244.1.5", "there", &["a"], &[]), hinted("10.244.2.5", "far", &["b"], &[])];
    let cluster = cluster([service().object(), slice("s", endpoints).object()]);
    let nowhere = NodeContext { zone: None, ..here() };
    let view = plan::service(&cluster, &nowhere, &web()).unwrap();
    assert_eq!(to(&view.frontends[0].internal).len(), 2);
}

/// D21.
#[test]
fn d21_terminating_endpoints_serve_when_no_other_is_ready() {
    let slice = slice("s", vec![draining("10.244.1.5", "there")]);
    let view = view(&cluster([service().object(), slice.object()]));
    assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["10.244.1.5:8080"]);
    assert!(view.report.contains(&Reason::TerminatingFallback));
}

#[test]
fn d36_connections_last_while_their_endpoint_serves_whether_new_ones_go_there_or_not() {
    let unready = |address| {
        let mut endpoint = endpoint(address, "node1");
        endpoint.conditions.ready = false;
        endpoint.conditions.serving = false;
        endpoint
    };
    let endpoints = vec![
        endpoint("10.244.1.2", "node1"),
        draining("10.244.1.3", "node1"),
        unready("10.244.1.4"),
        endpoint("10.244.2.2", "node2"),
    ];
    let all = &["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.2.2"][..];
    let serving = &["10.244.1.2", "10.244.1.3", "10.244.2.2"][..];
    for (protocol, resets, hosts) in [
        (Protocol::Tcp, false, &[][..]),
        (Protocol::Tcp, true, all),
        (Protocol::Udp, false, serving),
        (Protocol::Udp, true, serving),
        (Protocol::Sctp, false, all),
    ] {
        let mut service = service();
        service.reset_connections = resets;
        service.internal_traffic_policy = TrafficPolicy::Local;
        let mut slice = slice("a", endpoints.clone());
        for port in &mut service.ports {
            port.protocol = protocol;
        }
        for port in &mut slice.ports {
            port.protocol = protocol;
        }
        let view = view(&cluster([service.object(), slice.object()]));
        let lasting: Vec<String> =
            view.frontends[0].lasting.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(lasting, hosts, "{protocol}");
        let resets = resets && protocol == Protocol::Tcp;
        assert!(view.frontends.iter().all(|frontend| frontend.resets == resets), "{protocol}");
    }
}

#[test]
fn each_family_has_its_own_frontends_and_endpoints() {
    let mut service = service();
    service.families = vec![Family::V6, Family::V4];
    service.cluster_ips = ClusterIps::Assigned(vec![ip("fd00:10:96::a"), ip("10.96.0.10")]);
    let v4 = slice("four", vec![endpoint("10.244.0.5", "here")]);
    let v6 = slice("six", vec![endpoint("fd00:10:244::5", "here")]);
    let view = view(&cluster([service.object(), v4.object(), v6.object()]));
    let six = FrontendKind::ClusterIp(ip("fd00:10:96::a"));
    assert_eq!(to(&frontend(&view, cluster_ip()).internal), ["10.244.0.5:8080"]);
    assert_eq!(to(&frontend(&view, six).internal), ["[fd00:10:244::5]:8080"]);
}

fn any_endpoint() -> impl Strategy<Value = model::Endpoint> {
    (0u8..20, any::<[bool; 4]>(), 0u8..4).prop_map(|(last, flags, hints)| {
        let node = if flags[3] { "here" } else { "there" };
        let zones: &[&str] = if hints & 1 == 0 { &["a"] } else { &["b"] };
        let mut endpoint = hinted(&format!("10.244.0.{last}"), node, zones, &[node]);
        if hints == 3 {
            endpoint.hints = model::Hints::default();
        }
        endpoint.conditions.ready = flags[0];
        endpoint.conditions.serving = flags[1];
        endpoint.conditions.terminating = flags[2];
        endpoint
    })
}

proptest! {
    /// Whatever the endpoints look like: chosen ones are usable, and "drop" means that some exist.
    #[test]
    fn chosen_endpoints_are_usable(endpoints in prop::collection::vec(any_endpoint(), 0..12)) {
        let cluster = cluster([load_balancer().object(), slice("s", endpoints.clone()).object()]);
        let view = view(&cluster);
        let usable = |address: &SocketAddr| endpoints.iter().any(|endpoint| {
            let conditions = endpoint.conditions;
            endpoint.addresses[0] == address.ip()
                && (conditions.ready || conditions.serving && conditions.terminating)
        });
        for frontend in &view.frontends {
            for action in [&frontend.internal, &frontend.external] {
                if let Action::Balance(backends) = action {
                    prop_assert!(!backends.is_empty() && backends.is_sorted());
                    prop_assert!(backends.iter().all(|backend| usable(&backend.address)));
                }
            }
            let is_refused = matches!(frontend.internal, Action::Reject(_));
            prop_assert_eq!(is_refused, matches!(frontend.external, Action::Reject(_)));
            prop_assert!(!matches!(frontend.internal, Action::Drop(_)));
        }
    }
}
