//! Node, Namespace and ServiceCIDR, parsed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::meta::{Meta, Timestamp};
use crate::name::{Name, NodeName};
use crate::placement::Resources;

/// A Node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Identity and labels.
    pub meta: Meta,
    /// `status.addresses` of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Taints, as `key=value:effect`; the value may be empty.
    pub taints: Vec<String>,
    /// Condition Ready.
    pub ready: NodeCondition,
    /// `status.allocatable`: what pods may request, together.
    pub allocatable: Resources,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> NodeName {
        self.meta.name.clone()
    }

    /// `status.allocatable.cpu` in thousandths of a core, when stated.
    pub fn allocatable_cpu_millis(&self) -> Option<u64> {
        self.allocatable.get("cpu").copied()
    }

    /// Label `topology.kubernetes.io/zone`.
    pub fn zone(&self) -> Option<Name> {
        self.meta.labels.get("topology.kubernetes.io/zone").map(|zone| zone.as_str().into())
    }
}

/// Condition Ready of a Node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeCondition {
    /// Status True.
    Ready,
    /// Status False.
    NotReady,
    /// Status Unknown or no condition: the node has not reported.
    Unknown {
        /// When it last reported.
        since: Timestamp,
    },
}

/// A Namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Identity; `deleting` is set while it terminates.
    pub meta: Meta,
}

/// A ServiceCIDR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceCidr {
    /// Identity.
    pub meta: Meta,
    /// `spec.cidrs`, one or two.
    pub cidrs: Vec<IpNet>,
    /// Condition Ready, absent counts as ready (semantics 2.2).
    pub ready: bool,
}
