//! Pod, as far as Services need it.

use std::net::IpAddr;

use crate::address::{Port, Protocol};
use crate::meta::{Meta, Timestamp};
use crate::name::{Name, NodeName, PodName, PortName};
use crate::placement::Placement;

/// A Pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Identity and labels.
    pub meta: Meta,
    /// `spec.nodeName`.
    pub node: Option<NodeName>,
    /// Where it may run.
    pub placement: Placement,
    /// `spec.tolerations`, as `key=value:effect`, and with operator Exists as `key:effect`. An empty
    /// key tolerates every key, an empty effect every effect.
    pub tolerations: Vec<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostname`.
    pub hostname: Option<Name>,
    /// `spec.subdomain`.
    pub subdomain: Option<Name>,
    /// Ports of containers and of restartable init containers.
    pub ports: Vec<ContainerPort>,
    /// `status.podIPs`, primary first.
    pub ips: Vec<IpAddr>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Condition Ready is True.
    pub ready: bool,
    /// When condition Ready last changed.
    pub ready_since: Timestamp,
    /// Message of condition PodScheduled while it is False with reason Unschedulable.
    pub unschedulable: Option<String>,
}

impl Pod {
    /// Its name.
    pub fn name(&self) -> PodName {
        PodName { namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }
}

/// One container port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPort {
    /// May be empty.
    pub name: PortName,
    /// Transport.
    pub protocol: Protocol,
    /// Number.
    pub port: Port,
}

/// `status.phase`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodPhase {
    /// Accepted, not all containers run yet.
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// A container failed and will not be restarted.
    Failed,
    /// The node does not answer.
    Unknown,
}

impl PodPhase {
    /// Whether it will never run again.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
