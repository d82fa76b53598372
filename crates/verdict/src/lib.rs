//! What should happen to a packet, and why.
//!
//! What it is: a small reference interpreter of Service semantics, written from the rules
//! (`spec/`, ids in the comments) and from nothing else. It is the oracle of every test and
//! the engine of explanations.
//!
//! What it is not: fast, or shared with what it judges. It never imports `plan`: an oracle
//! that shares code with the accused is no oracle.
//!
//! ```text
//!  Cluster, NodeContext, Packet ─▶ Destination ─▶ endpoints ─▶ source address ─▶ Verdict
//! ```

mod destination;
mod endpoints;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use model::{
    Cluster, LocalDetector, NodeContext, Outcome, Packet, Protocol, Reason, Service, TrafficPolicy,
    Verdict,
};

use crate::destination::Destination;
use crate::endpoints::{Candidates, Chosen, Usable};

/// Judges the first packet of a connection at the node of `context`.
///
/// Only the outcomes named here are right; of several destinations each is, and a balancer
/// must use all of them over time (D10).
pub fn judge(cluster: &Cluster, context: &NodeContext, packet: &Packet) -> Verdict {
    match destination::find(cluster, context, packet) {
        Destination::Elsewhere => {
            verdict(Outcome::Untouched(packet.destination.ip()), Reason::NotAService)
        }
        // Semantics 4.6: both only where packets leave or pass through the node.
        Destination::UndeclaredPort => verdict(Outcome::Rejected, Reason::UndeclaredPort),
        Destination::Unallocated => verdict(Outcome::Dropped, Reason::UnallocatedAddress),
        Destination::ClusterIp(service, port) => {
            let candidates = Candidates::of(cluster, service, port, packet.destination.ip());
            internal(&Trial { context, packet, service, candidates })
        }
        Destination::External(service, port, kind) => {
            let candidates = Candidates::of(cluster, service, port, packet.destination.ip());
            let trial = Trial { context, packet, service, candidates };
            if kind == destination::External::LoadBalancer && !source_allowed(&trial) {
                return verdict(Outcome::Dropped, Reason::SourceRange);
            }
            external(&trial)
        }
    }
}

/// The Service that a packet is for, by its destination: one of its ports is declared there.
pub fn service<'a>(
    cluster: &'a Cluster,
    context: &NodeContext,
    packet: &Packet,
) -> Option<&'a Service> {
    match destination::find(cluster, context, packet) {
        Destination::ClusterIp(service, _) | Destination::External(service, _, _) => Some(service),
        Destination::UndeclaredPort | Destination::Unallocated | Destination::Elsewhere => None,
    }
}

/// Whether the next packet of an established TCP connection to an endpoint is answered by a reset
/// (D35): its Service asks for that, and has no such endpoint any more, in whatever condition.
///
/// All other connections stay open. `packet` is the first of the connection, as the client sent it.
pub fn is_reset(
    cluster: &Cluster,
    context: &NodeContext,
    packet: &Packet,
    endpoint: SocketAddr,
) -> bool {
    match destination::find(cluster, context, packet) {
        Destination::ClusterIp(service, port) | Destination::External(service, port, _) => {
            let candidates = Candidates::of(cluster, service, port, packet.destination.ip());
            service.reset_connections
                && port.protocol == Protocol::Tcp
                && !candidates.contains(endpoint)
        }
        Destination::UndeclaredPort | Destination::Unallocated | Destination::Elsewhere => false,
    }
}

/// Everything that one judgement looks at.
struct Trial<'a> {
    context: &'a NodeContext,
    packet: &'a Packet,
    service: &'a Service,
    candidates: Candidates,
}

/// Where a packet comes from, as far as rules tell it apart (D13).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A process of this node.
    Node,
    /// A pod that the detector knows as local.
    Pod,
    /// Anything else, and everything when there is no detector.
    Outside,
}

/// Cluster IPs follow internalTrafficPolicy (D24).
fn internal(trial: &Trial<'_>) -> Verdict {
    let chosen = match trial.service.internal_traffic_policy {
        TrafficPolicy::Cluster => trial.candidates.for_cluster(trial.context),
        TrafficPolicy::Local => trial.candidates.for_local(trial.context),
    };
    let masquerade = trial.context.masquerade_all
        || match origin(trial) {
            Origin::Pod => false,
            // D11: without a detector nobody is known to be off-cluster.
            Origin::Node | Origin::Outside => has_detector(trial.context),
        };
    deliver(trial, chosen, masquerade)
}

/// All other destinations follow externalTrafficPolicy (D24).
fn external(trial: &Trial<'_>) -> Verdict {
    if trial.service.external_traffic_policy == TrafficPolicy::Cluster {
        // D11: whoever comes from outside is masqueraded, so that replies come back this way.
        return deliver(trial, trial.candidates.for_cluster(trial.context), true);
    }
    match origin(trial) {
        // D11: inside the cluster Local is short-circuited to all endpoints.
        Origin::Pod => deliver(trial, trial.candidates.for_cluster(trial.context), false),
        Origin::Node => deliver(trial, trial.candidates.for_cluster(trial.context), true),
        Origin::Outside => deliver(trial, trial.candidates.for_local(trial.context), false),
    }
}

fn deliver(trial: &Trial<'_>, chosen: Chosen, masquerade: bool) -> Verdict {
    let (to, reason) = match chosen {
        Chosen::Endpoints(to, reason) => (to, reason),
        // D23: refuse when nobody could answer anywhere, else stay silent (semantics 4.6).
        Chosen::NobodyAnywhere => return verdict(Outcome::Rejected, Reason::NoEndpoints),
        Chosen::NobodyHere => return verdict(Outcome::Dropped, Reason::NoLocalEndpoints),
    };
    let source = trial.packet.source.ip();
    let addresses: BTreeSet<SocketAddr> = to.iter().map(|endpoint| endpoint.address).collect();
    // The source is replaced on the way out of the node: what arrives for a pod on the host
    // network does not leave it, and its replies come this way by themselves.
    let stays = |endpoint: &&Usable| {
        !trial.packet.from_node && trial.context.node_addresses.contains(&endpoint.address.ip())
    };
    let masqueraded = to
        .iter()
        .filter(|endpoint| !stays(endpoint))
        // D12: an endpoint that reaches itself must see the node, or it would answer itself. Endpoints
        // written by hand often name no node: this one may be theirs.
        .filter(|one| masquerade || (one.may_be_here && one.address.ip() == source))
        .map(|endpoint| endpoint.address)
        .collect();
    Verdict { outcome: Outcome::Delivered { to: addresses, masqueraded }, reason }
}

/// D26, D7, D28.
fn source_allowed(trial: &Trial<'_>) -> bool {
    let Some(load_balancer) = trial.service.load_balancer() else { return true };
    let vip = trial.packet.destination.ip();
    let source = trial.packet.source.ip();
    let ranges = load_balancer.source_ranges.iter();
    let mut ranges = ranges.filter(|range| range.addr().is_ipv4() == vip.is_ipv4()).peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let node_inside = |range: &model::IpNet| {
        trial.context.node_addresses.iter().any(|address| range.contains(address))
    };
    ranges.any(|range| range.contains(&source) || (source == vip && node_inside(range)))
}

fn origin(trial: &Trial<'_>) -> Origin {
    if trial.packet.from_node {
        return Origin::Node;
    }
    let source = trial.packet.source.ip();
    let interface = &trial.packet.interface;
    let local = match &trial.context.local_detector {
        LocalDetector::ClusterCidr(networks) | LocalDetector::NodeCidr(networks) => {
            networks.iter().any(|network| network.contains(&source))
        }
        LocalDetector::BridgeInterface(name) => interface == name,
        LocalDetector::InterfacePrefix(prefix) => interface.starts_with(prefix.as_str()),
        LocalDetector::None => false,
    };
    if local { Origin::Pod } else { Origin::Outside }
}

/// A CIDR detector without a network of the packet's family knows nobody, but it is there.
fn has_detector(context: &NodeContext) -> bool {
    context.local_detector != LocalDetector::None
}

fn verdict(outcome: Outcome, reason: Reason) -> Verdict {
    Verdict { outcome, reason: Some(reason) }
}

/// Whether two addresses are of one family.
fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}
