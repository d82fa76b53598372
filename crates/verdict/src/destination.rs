//! What the destination of a packet is to Services (semantics 4.1 and 4.2).

use std::net::IpAddr;

use model::{Cluster, Ingress, IpMode, NodeContext, Packet, Service, ServicePort, ServiceType};

use crate::same_family;

/// The meaning of a destination address and port.
pub(crate) enum Destination<'a> {
    /// A declared port of a cluster IP.
    ClusterIp(&'a Service, &'a ServicePort),
    /// A declared port on an address that clients outside use.
    External(&'a Service, &'a ServicePort, External),
    /// Another port of a cluster IP.
    UndeclaredPort,
    /// An address of a ServiceCIDR that no Service owns.
    Unallocated,
    /// Nothing of ours.
    Elsewhere,
}

/// Kinds of external destinations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum External {
    /// `spec.externalIPs`.
    Listed,
    /// An ingress address of mode VIP.
    LoadBalancer,
    /// A port of every node.
    NodePort,
}

/// Label that hands a Service to another proxy (D1).
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

pub(crate) fn find<'a>(
    cluster: &'a Cluster,
    context: &NodeContext,
    packet: &Packet,
) -> Destination<'a> {
    let address = packet.destination.ip();
    let services = || cluster.services.values().map(|service| &**service).filter(|s| ours(s));
    if let Some(service) =
        services().find(|service| service.cluster_ips.addresses().contains(&address))
    {
        return match declared(service, packet) {
            Some(port) => Destination::ClusterIp(service, port),
            None => Destination::UndeclaredPort,
        };
    }
    // An address may be shared by Services on different ports. Whose it is when they claim the
    // same port, Kubernetes leaves open: here the oldest Service's, then the first's by name.
    let mut by_age: Vec<&Service> =
        services().filter(|service| serves_family(service, address)).collect();
    by_age.sort_by_key(|service| service.meta.created);
    for service in by_age {
        // D26: naming a load balancer address in externalIPs too does not open it.
        let kind = if has_vip(service, address) {
            External::LoadBalancer
        } else if service.external_ips.contains(&address) {
            External::Listed
        } else {
            continue;
        };
        if let Some(port) = declared(service, packet) {
            return Destination::External(service, port, kind);
        }
    }
    if context.node_addresses.contains(&address) {
        let found = services()
            .filter(|service| serves_family(service, address))
            .find_map(|service| Some((service, node_port(service, packet)?)));
        if let Some((service, port)) = found {
            return Destination::External(service, port, External::NodePort);
        }
    }
    if cluster.service_cidrs.values().flat_map(|cidr| &cidr.cidrs).any(|net| net.contains(&address))
    {
        return Destination::Unallocated;
    }
    Destination::Elsewhere
}

/// D1, D3: whose Services this dataplane serves.
fn ours(service: &Service) -> bool {
    !matches!(service.kind, ServiceType::ExternalName(_))
        && !service.cluster_ips.addresses().is_empty()
        && !service.meta.labels.contains_key(OTHER_PROXY)
}

/// D4: each family is a proxier of its own; a Service without a cluster IP of it has no ports
/// there.
fn serves_family(service: &Service, address: IpAddr) -> bool {
    service.cluster_ips.addresses().iter().any(|ip| same_family(*ip, address))
}

/// D8.
fn has_vip(service: &Service, address: IpAddr) -> bool {
    let vip = Ingress::Ip(address, IpMode::Vip);
    service.load_balancer().is_some_and(|load_balancer| load_balancer.ingress.contains(&vip))
}

fn declared<'a>(service: &'a Service, packet: &Packet) -> Option<&'a ServicePort> {
    service.ports.iter().find(|port| {
        port.protocol == packet.protocol && port.port.get() == packet.destination.port()
    })
}

fn node_port<'a>(service: &'a Service, packet: &Packet) -> Option<&'a ServicePort> {
    let typed = matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer(_));
    service.ports.iter().filter(|_| typed).find(|port| {
        let number = port.node_port.map(model::NodePort::get);
        port.protocol == packet.protocol && number == Some(packet.destination.port())
    })
}
