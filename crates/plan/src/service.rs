//! One Service on one node (semantics 4.1 to 4.8).
//!
//! The Service is looked at once per address family, as if each family had its own proxy: a family
//! without a cluster IP has no dataplane at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    Action, Cluster, ClusterIps, Family, Frontend, FrontendKind, Ingress, IpMode, LocalDetector,
    Masquerade, NodeContext, Port, Protocol, Reason, Report, Service, ServiceName, ServicePort,
    ServiceType, ServiceView, TrafficPolicy,
};

use crate::choice::{Candidate, Choice, candidates, choose};

/// Hands a Service to another proxy than the nodes' own (D1).
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// What the node has to do for a Service; `None` when there is no such Service.
///
/// A Service that nodes ignore has a view without frontends whose report says why. Whether another
/// Service claims the same address and port is not looked at here but by [`crate::Planner`].
pub fn service(
    cluster: &Cluster,
    context: &NodeContext,
    name: &ServiceName,
) -> Option<ServiceView> {
    let service = cluster.services.get(name)?;
    let mut view = ServiceView {
        name: name.clone(),
        cluster_ips: Vec::new(),
        frontends: Vec::new(),
        health_check: None,
        report: Report::new(),
    };
    if let Some(reason) = ignored(service) {
        view.report.push(reason);
        return Some(view);
    }
    view.cluster_ips = service.cluster_ips.addresses().to_vec();
    let mut healthy = 0;
    for family in Family::ALL {
        let Some(cluster_ip) = cluster_ip(service, family) else { continue };
        let destinations = destinations(service, family, cluster_ip, &mut view.report);
        let mut planner =
            FamilyPlanner { service, context, family, healthy: BTreeSet::new(), view: &mut view };
        for port in &service.ports {
            let candidates = candidates(cluster, context, name, family, port);
            planner.port(port, &candidates, &destinations);
        }
        healthy = healthy.max(planner.healthy.len());
    }
    report_other_families(service, &mut view.report);
    // There are as many views as Services, and they stay.
    view.frontends.shrink_to_fit();
    view.report.shrink_to_fit();
    view.health_check = health_check_port(service).map(|port| (port, healthy));
    Some(view)
}

/// Why nodes ignore a Service (D1, D3).
fn ignored(service: &Service) -> Option<Reason> {
    if let Some(proxy) = service.meta.labels.get(PROXY_NAME) {
        return Some(Reason::OtherProxy(proxy.clone()));
    }
    if matches!(service.kind, ServiceType::ExternalName(_)) {
        return Some(Reason::ExternalName);
    }
    match &service.cluster_ips {
        ClusterIps::Headless => Some(Reason::Headless),
        ClusterIps::Unassigned => Some(Reason::NoClusterIp),
        ClusterIps::Assigned(addresses) if addresses.is_empty() => Some(Reason::NoClusterIp),
        ClusterIps::Assigned(_) => None,
    }
}

fn cluster_ip(service: &Service, family: Family) -> Option<IpAddr> {
    service.cluster_ips.addresses().iter().copied().find(|ip| Family::of(*ip) == family)
}

/// One address that a Service answers on, or the node ports.
struct Destination {
    kind: FrontendKind,
    /// Allowed sources, of load balancer addresses only (D27).
    source_ranges: Option<Vec<IpNet>>,
}

/// The destinations of one family but the node ports (semantics 4.2), each address once.
///
/// An address that is named twice is first of all the cluster IP, then a load balancer address: only
/// that kind carries the source ranges, and they must not be bypassed.
fn destinations(
    service: &Service,
    family: Family,
    cluster_ip: IpAddr,
    report: &mut Report,
) -> Vec<Destination> {
    let mut seen = BTreeSet::from([cluster_ip]);
    let kind = FrontendKind::ClusterIp(cluster_ip);
    let mut destinations = vec![Destination { kind, source_ranges: None }];
    for address in load_balancer_addresses(service, report) {
        if Family::of(address) == family && seen.insert(address) {
            let source_ranges = source_ranges(service, family, report);
            let kind = FrontendKind::LoadBalancer(address);
            destinations.push(Destination { kind, source_ranges });
        }
    }
    for &address in &service.external_ips {
        if Family::of(address) == family && seen.insert(address) {
            let kind = FrontendKind::ExternalIp(address);
            destinations.push(Destination { kind, source_ranges: None });
        }
    }
    destinations
}

/// Ingress addresses that nodes handle (D8).
fn load_balancer_addresses(service: &Service, report: &mut Report) -> Vec<IpAddr> {
    let ingress = service.load_balancer().map_or(&[][..], |load_balancer| &load_balancer.ingress);
    let mut addresses = Vec::new();
    for entry in ingress {
        match entry {
            Ingress::Ip(address, IpMode::Vip) => addresses.push(*address),
            Ingress::Ip(_, IpMode::Proxy) | Ingress::Hostname(_) => {
                note(report, Reason::IngressNotVip);
            }
        }
    }
    addresses
}

/// Allowed sources of one family; `None` allows everyone (D7, D26).
///
/// When ranges are given but none of this family, everyone is allowed, as upstream does; the report
/// says so.
fn source_ranges(service: &Service, family: Family, report: &mut Report) -> Option<Vec<IpNet>> {
    let all = &service.load_balancer()?.source_ranges;
    let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
    let ranges: BTreeSet<IpNet> = all.iter().filter(of_family).map(IpNet::trunc).collect();
    if ranges.is_empty() && !all.is_empty() {
        note(
            report,
            Reason::Other(format!(
                "loadBalancerSourceRanges names no {family} range: every {family} source is allowed"
            )),
        );
    }
    let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
    restricts.then(|| ranges.into_iter().collect())
}

/// D28: when a range contains an address of this node, packets whose source is the load balancer
/// address itself are allowed; some load balancers put their address on the node.
fn with_own_address(
    ranges: Option<Vec<IpNet>>,
    kind: FrontendKind,
    context: &NodeContext,
) -> Option<Vec<IpNet>> {
    let mut ranges = ranges?;
    let contains_node =
        ranges.iter().any(|range| context.node_addresses.iter().any(|ip| range.contains(ip)));
    if let FrontendKind::LoadBalancer(address) = kind
        && contains_node
        && !ranges.iter().any(|range| range.contains(&address))
    {
        ranges.push(IpNet::from(address));
        ranges.sort_unstable();
    }
    Some(ranges)
}

/// Says which addresses are ignored because the Service has no cluster IP of their family.
fn report_other_families(service: &Service, report: &mut Report) {
    let ingress = load_balancer_addresses(service, report);
    for address in service.external_ips.iter().chain(&ingress) {
        let family = Family::of(*address);
        if cluster_ip(service, family).is_none() {
            note(
                report,
                Reason::Other(format!(
                    "{address} is ignored: the Service has no {family} cluster IP"
                )),
            );
        }
    }
}

/// The port of the health check for external load balancers: only with policy Local.
fn health_check_port(service: &Service) -> Option<Port> {
    service.load_balancer()?;
    (service.external_traffic_policy == TrafficPolicy::Local)
        .then_some(service.health_check_node_port)
        .flatten()
}

/// Plans the ports of one family of one Service (D4).
struct FamilyPlanner<'a> {
    service: &'a Service,
    context: &'a NodeContext,
    family: Family,
    /// Local ready endpoint addresses, for the health check (semantics 4.10).
    healthy: BTreeSet<IpAddr>,
    view: &'a mut ServiceView,
}

impl FamilyPlanner<'_> {
    fn port(&mut self, port: &ServicePort, candidates: &[Candidate], known: &[Destination]) {
        let choice = choose(candidates, self.context);
        self.healthy.extend(choice.local_ready());
        for reason in &choice.report {
            note(&mut self.view.report, reason.clone());
        }
        for destination in known {
            self.frontend(port, &choice, destination.kind, destination.source_ranges.clone());
        }
        let opens_node_port =
            matches!(self.service.kind, ServiceType::NodePort | ServiceType::LoadBalancer(_));
        if opens_node_port && port.node_port.is_some() {
            self.frontend(port, &choice, FrontendKind::NodePort(self.family), None);
        }
    }

    fn frontend(
        &mut self,
        port: &ServicePort,
        choice: &Choice,
        kind: FrontendKind,
        source_ranges: Option<Vec<IpNet>>,
    ) {
        let number = match kind {
            FrontendKind::NodePort(_) => port.node_port.unwrap_or(port.port),
            _ => port.port,
        };
        let taken = |other: &Frontend| {
            (other.kind, other.protocol, other.port) == (kind, port.protocol, number)
        };
        if self.view.frontends.iter().any(taken) {
            let twice = format!("port {number}/{} is declared twice", port.protocol);
            note(&mut self.view.report, Reason::Other(twice));
            return;
        }
        let (internal, external) = self.actions(choice, kind);
        for action in [&internal, &external] {
            if let Action::Reject(reason) | Action::Drop(reason) = action {
                note(&mut self.view.report, reason.clone());
            }
        }
        self.view.frontends.push(Frontend {
            kind,
            protocol: port.protocol,
            port: number,
            port_name: port.name.clone(),
            internal,
            external,
            lasting: choice.lasting(port.protocol, self.service.reset_connections),
            resets: self.service.reset_connections && port.protocol == Protocol::Tcp,
            masquerade: self.masquerade(kind),
            affinity: self.service.session_affinity,
            source_ranges: with_own_address(source_ranges, kind, self.context),
        });
    }

    /// What happens to internal and to other traffic (D22 to D24, D33, semantics 4.6).
    fn actions(&self, choice: &Choice, kind: FrontendKind) -> (Action, Action) {
        let is_cluster_ip = matches!(kind, FrontendKind::ClusterIp(_));
        match self.policy(kind) {
            TrafficPolicy::Cluster => (choice.cluster_action(), choice.cluster_action()),
            TrafficPolicy::Local if is_cluster_ip => (choice.local_action(), choice.local_action()),
            // Short-circuit (D11): whoever is on this node reaches every endpoint.
            TrafficPolicy::Local => (choice.cluster_action(), choice.local_action()),
        }
    }

    /// Whose source address is replaced (D11).
    fn masquerade(&self, kind: FrontendKind) -> Masquerade {
        if matches!(kind, FrontendKind::ClusterIp(_)) {
            return match self.context.local_detector {
                _ if self.context.masquerade_all => Masquerade::Always,
                LocalDetector::None => Masquerade::Never,
                _ => Masquerade::OffCluster,
            };
        }
        match self.policy(kind) {
            TrafficPolicy::Cluster => Masquerade::Always,
            TrafficPolicy::Local => Masquerade::NodeOnly,
        }
    }

    fn policy(&self, kind: FrontendKind) -> TrafficPolicy {
        match kind {
            FrontendKind::ClusterIp(_) => self.service.internal_traffic_policy,
            _ => self.service.external_traffic_policy,
        }
    }
}

/// Adds a reason once.
fn note(report: &mut Report, reason: Reason) {
    if !report.contains(&reason) {
        report.push(reason);
    }
}
