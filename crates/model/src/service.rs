//! `core/v1` Service, parsed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{Family, NodePort, Port, Protocol};
use crate::meta::{Labels, Meta};
use crate::name::{PortName, ServiceName};

/// A Service (semantics 1.1). Values are defaulted and valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Identity, labels, annotations.
    pub meta: Meta,
    /// `spec.type` with what only that type has.
    pub kind: ServiceType,
    /// `spec.clusterIPs`.
    pub cluster_ips: ClusterIps,
    /// `spec.ipFamilies`, the first is the primary one.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; empty means that no endpoints are made automatically.
    pub selector: Labels,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `spec.externalTrafficPolicy`; Cluster where the API leaves it empty.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.sessionAffinity: ClientIP` with its timeout.
    pub session_affinity: Option<Affinity>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<NodePort>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// `spec.trafficDistribution`.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Annotation `portolan.dev/reset-connections: "true"`: TCP connections to endpoints that no
    /// longer exist are reset.
    pub reset_connections: bool,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> ServiceName {
        ServiceName { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }

    /// Whether it is `clusterIP: None`.
    pub fn is_headless(&self) -> bool {
        matches!(self.cluster_ips, ClusterIps::Headless)
    }

    /// The part only a LoadBalancer has.
    pub fn load_balancer(&self) -> Option<&LoadBalancer> {
        match &self.kind {
            ServiceType::LoadBalancer(load_balancer) => Some(load_balancer),
            _ => None,
        }
    }
}

/// `spec.type`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceType {
    /// Reachable inside the cluster only.
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on an external address.
    LoadBalancer(LoadBalancer),
    /// A DNS alias (CNAME target without trailing dot); no dataplane at all.
    ExternalName(String),
}

impl ServiceType {
    /// The API's spelling.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer(_) => "LoadBalancer",
            Self::ExternalName(_) => "ExternalName",
        }
    }
}

/// What only `type: LoadBalancer` has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoadBalancer {
    /// `spec.loadBalancerClass`; `None` is the default implementation.
    pub class: Option<String>,
    /// `spec.loadBalancerIP` when it parses: a hint to the allocator.
    pub requested: Option<IpAddr>,
    /// `spec.loadBalancerSourceRanges`, or the legacy annotation. Empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// `spec.allocateLoadBalancerNodePorts`.
    pub allocate_node_ports: bool,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
}

/// One `status.loadBalancer.ingress` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ingress {
    /// An address and how the load balancer delivers to nodes.
    Ip(IpAddr, IpMode),
    /// A DNS name; produces no rules (semantics D8).
    Hostname(String),
}

/// `ipMode` (KEP-1860).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpMode {
    /// Packets arrive with the address as destination: nodes handle it.
    Vip,
    /// The load balancer proxies to nodes: nodes must not handle it.
    Proxy,
}

/// `spec.clusterIPs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterIps {
    /// `None`: headless.
    Headless,
    /// Not allocated (ExternalName, or a manifest that no API server has seen).
    Unassigned,
    /// One or two addresses, one per family, primary first.
    Assigned(Vec<IpAddr>),
}

impl ClusterIps {
    /// The assigned addresses; empty when headless or unassigned.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Assigned(addresses) => addresses,
            Self::Headless | Self::Unassigned => &[],
        }
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyPolicy {
    /// One family.
    SingleStack,
    /// Two if the cluster has two.
    PreferDualStack,
    /// Two or an error.
    RequireDualStack,
}

/// One `spec.ports` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// May be empty when it is the only port.
    pub name: PortName,
    /// Transport.
    pub protocol: Protocol,
    /// The Service's own port.
    pub port: Port,
    /// Port of the pods.
    pub target: TargetPort,
    /// Port on every node.
    pub node_port: Option<NodePort>,
    /// Opaque to the dataplane; copied to slices.
    pub app_protocol: Option<String>,
}

/// `targetPort`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPort {
    /// A number.
    Number(Port),
    /// A container port's name, looked up per pod.
    Name(PortName),
}

/// `externalTrafficPolicy` and `internalTrafficPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficPolicy {
    /// Any endpoint.
    Cluster,
    /// Endpoints of the receiving node only.
    Local,
}

/// `sessionAffinity: ClientIP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// Seconds since the last new connection, 1 to 86400.
    pub timeout_seconds: u32,
}

/// `trafficDistribution`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficDistribution {
    /// Deprecated alias of [`Self::PreferSameZone`].
    PreferClose,
    /// Prefer endpoints of the client's zone.
    PreferSameZone,
    /// Prefer endpoints of the client's node, then of its zone.
    PreferSameNode,
}
