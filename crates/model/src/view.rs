//! What one node's kernel has to do: the result of planning, input of every dataplane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Port, Protocol};
use crate::name::{Name, NodeName, PortName, ServiceName};
use crate::reason::{Reason, Report};
use crate::service::Affinity;

/// The node that a view is made for, and the agent's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeContext {
    /// Name of the Node object.
    pub node: NodeName,
    /// Zone of the node.
    pub zone: Option<Name>,
    /// Addresses on which node ports answer (D30).
    pub node_addresses: BTreeSet<IpAddr>,
    /// How traffic of this cluster's pods is told from traffic from outside (D13).
    pub local_detector: LocalDetector,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
}

/// How "comes from a pod" is detected (D13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalDetector {
    /// Source in one of the cluster's pod networks.
    ClusterCidr(Vec<IpNet>),
    /// Source in this node's podCIDRs.
    NodeCidr(Vec<IpNet>),
    /// Arrives on this bridge.
    BridgeInterface(String),
    /// Arrives on an interface whose name starts so.
    InterfacePrefix(String),
    /// No detection.
    None,
}

/// Everything a node's dataplane has to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// The node and its settings.
    pub context: NodeContext,
    /// ServiceCIDRs: unallocated addresses in them are dropped (semantics 4.6).
    pub service_cidrs: BTreeSet<IpNet>,
    /// One entry per Service, planned independently of the others.
    pub services: BTreeMap<ServiceName, Arc<ServiceView>>,
}

/// One Service on one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its cluster IPs, for refusing undeclared ports.
    pub cluster_ips: Vec<IpAddr>,
    /// Where clients may knock.
    pub frontends: Vec<Frontend>,
    /// HTTP health check for external load balancers: node port and local ready endpoints.
    pub health_check: Option<(Port, usize)>,
    /// Why it looks as it does.
    pub report: Report,
}

/// One address (or node port) and port that clients connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Which kind of destination.
    pub kind: FrontendKind,
    /// Transport.
    pub protocol: Protocol,
    /// Destination port (the node port for [`FrontendKind::NodePort`]).
    pub port: Port,
    /// Name of the Service port.
    pub port_name: PortName,
    /// For traffic from pods of this node (by detector) and from the node itself.
    ///
    /// Differs from `external` only under policy Local on external destinations (D11 short-circuit),
    /// which are [`Masquerade::NodeOnly`].
    pub internal: Action,
    /// For all other traffic.
    pub external: Action,
    /// Where connections that exist may go on (D35, D36): for UDP the endpoints that still serve,
    /// for SCTP, and TCP with `resets`, those that still exist, usable from here or not. Sorted;
    /// empty for other TCP, which notices by itself when its peer is gone.
    pub lasting: Arc<[SocketAddr]>,
    /// Whether TCP connections to endpoints that are not `lasting` are reset (D35); false for other
    /// protocols.
    pub resets: bool,
    /// Whose source address is replaced by the node's.
    pub masquerade: Masquerade,
    /// `sessionAffinity: ClientIP`.
    pub affinity: Option<Affinity>,
    /// Allowed sources; `None` allows everyone (D26, D7: already of this family).
    pub source_ranges: Option<Vec<IpNet>>,
}

/// Kind of destination (semantics 4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    /// A cluster IP.
    ClusterIp(IpAddr),
    /// A `spec.externalIPs` entry.
    ExternalIp(IpAddr),
    /// A load balancer address of ipMode VIP.
    LoadBalancer(IpAddr),
    /// The node's own addresses of this family.
    NodePort(crate::address::Family),
}

/// What to do with a new connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Pick one uniformly at random. Sorted, without doubles, never empty.
    Balance(Arc<[Backend]>),
    /// Refuse at once (ICMP port unreachable).
    Reject(Reason),
    /// Ignore silently.
    Drop(Reason),
}

/// An endpoint as a dataplane sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    /// Address and port of the pod.
    pub address: SocketAddr,
    /// Whether it runs on this node, or may because nothing names its node. If it then reaches
    /// itself, it must see another address (D12).
    pub local: bool,
}

/// Whose source address is replaced (D11). Hairpin is masqueraded in every case (D12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// Nobody's (policy Local).
    Never,
    /// Sources that the detector does not know as local pods.
    OffCluster,
    /// Everybody's.
    Always,
    /// Traffic from outside keeps its source; the node's own processes are masqueraded (ETP Local).
    NodeOnly,
}
