//! `discovery/v1` EndpointSlice and `core/v1` Endpoints, parsed.

use std::net::IpAddr;

use crate::address::{Family, Port, Protocol};
use crate::meta::Meta;
use crate::name::{FewNames, Name, NodeName, PortName, ServiceName, SliceName};

/// An EndpointSlice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// Identity and labels.
    pub meta: Meta,
    /// Value of the label `kubernetes.io/service-name`, in the slice's Namespace.
    pub service: Option<ServiceName>,
    /// `addressType`.
    pub address_type: AddressType,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
}

impl EndpointSlice {
    /// Its name.
    pub fn name(&self) -> SliceName {
        SliceName { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }
}

/// `addressType`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AddressType {
    /// Addresses of one family.
    Ip(Family),
    /// DNS names; ignored by the dataplane (semantics D5).
    Fqdn,
}

/// One `ports` entry. The API never checks the number's range (semantics trap 7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlicePort {
    /// `None` when the field is absent: such a port is ignored by the dataplane.
    pub name: Option<PortName>,
    /// Transport.
    pub protocol: Protocol,
    /// `None` when absent or not in 1..=65535.
    pub port: Option<Port>,
    /// Copied from the Service.
    pub app_protocol: Option<String>,
}

/// One `endpoints` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Addresses that parse in the slice's family; the dataplane uses the first.
    pub addresses: Vec<IpAddr>,
    /// Ready, serving, terminating; absent values already resolved (semantics 3.2).
    pub conditions: Conditions,
    /// The node it runs on.
    pub node: Option<NodeName>,
    /// The zone it runs in.
    pub zone: Option<Name>,
    /// DNS host name.
    pub hostname: Option<Name>,
    /// The pod behind it.
    pub target: Option<Box<TargetRef>>,
    /// Topology hints.
    pub hints: Hints,
}

/// `conditions` with nil resolved: ready and serving to true, terminating to false.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Conditions {
    /// Gets new connections.
    pub ready: bool,
    /// Able to answer, whether or not it terminates.
    pub serving: bool,
    /// Being deleted.
    pub terminating: bool,
}

/// `targetRef`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TargetRef {
    /// Usually `Pod`.
    pub kind: Name,
    /// Namespace of the target.
    pub namespace: Name,
    /// Name of the target.
    pub name: Name,
    /// Uid of the target.
    pub uid: Name,
}

/// `hints` (KEP-2433, KEP-4444).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Hints {
    /// `forZones`.
    pub zones: FewNames,
    /// `forNodes`.
    pub nodes: FewNames,
}

/// A legacy Endpoints object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// Identity and labels.
    pub meta: Meta,
    /// `subsets`.
    pub subsets: Vec<EndpointsSubset>,
}

/// One `subsets` entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct EndpointsSubset {
    /// Ready addresses.
    pub addresses: Vec<EndpointsAddress>,
    /// Addresses that are not ready.
    pub not_ready_addresses: Vec<EndpointsAddress>,
    /// Ports of all of them.
    pub ports: Vec<SlicePort>,
}

/// One address of a subset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EndpointsAddress {
    /// The address.
    pub ip: IpAddr,
    /// DNS host name.
    pub hostname: Option<Name>,
    /// The node it runs on.
    pub node: Option<NodeName>,
    /// The pod behind it.
    pub target: Option<TargetRef>,
}
