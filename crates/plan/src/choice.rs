//! Which endpoints a new connection may go to (D5, D9, D20 to D23).
//!
//! The Service's `trafficDistribution` is not read here: it has become hints on the endpoints (D25).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    Action, AddressType, Backend, Cluster, Conditions, Endpoint, EndpointSlice, Family, Hints,
    NodeContext, Protocol, Reason, Report, ServiceName, ServicePort,
};

/// Keeps a slice away from the dataplane (D2).
const HEADLESS: &str = "service.kubernetes.io/headless";

/// An endpoint of one Service port, before choosing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub(crate) backend: Backend,
    /// Whether it runs on this node for sure (D9), unlike [`Backend::local`].
    pub(crate) here: bool,
    pub(crate) conditions: Conditions,
    pub(crate) hints: Hints,
}

impl Candidate {
    fn is_ready(&self) -> bool {
        self.conditions.ready
    }

    /// Being deleted, but still answering (KEP-1669).
    fn is_fallback(&self) -> bool {
        !self.is_ready() && self.conditions.serving && self.conditions.terminating
    }
}

/// The endpoints of a Service port in one family, sorted, each address and port once.
///
/// Slice ports are matched by name and protocol; `targetPort` plays no part (D4). Of two entries for
/// the same address and port the one that does not terminate wins (D5).
pub(crate) fn candidates(
    cluster: &Cluster,
    context: &NodeContext,
    service: &ServiceName,
    family: Family,
    port: &ServicePort,
) -> Vec<Candidate> {
    let mut found: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
    for slice in cluster.slices_of(service).filter(|slice| is_usable(slice, family)) {
        let numbers = slice.ports.iter().filter(|candidate| {
            candidate.name.as_ref() == Some(&port.name) && candidate.protocol == port.protocol
        });
        for number in numbers.filter_map(|candidate| candidate.port) {
            for endpoint in &slice.endpoints {
                let Some(candidate) = candidate(endpoint, number.get(), context) else { continue };
                let address = candidate.backend.address;
                let is_better =
                    found.get(&address).is_none_or(|known| rank(&candidate) > rank(known));
                if is_better {
                    found.insert(address, candidate);
                }
            }
        }
    }
    found.into_values().collect()
}

/// Whether the dataplane looks at a slice for this family (D2, D5).
fn is_usable(slice: &EndpointSlice, family: Family) -> bool {
    slice.address_type == AddressType::Ip(family) && !slice.meta.labels.contains_key(HEADLESS)
}

fn candidate(endpoint: &Endpoint, port: u16, context: &NodeContext) -> Option<Candidate> {
    let address = SocketAddr::new(*endpoint.addresses.first()?, port);
    let here = endpoint.node.as_ref() == Some(&context.node);
    Some(Candidate {
        backend: Backend { address, local: here || endpoint.node.is_none() },
        here,
        conditions: endpoint.conditions,
        hints: endpoint.hints.clone(),
    })
}

/// Which of two entries for the same address and port counts.
fn rank(candidate: &Candidate) -> (bool, bool, bool, bool) {
    let conditions = candidate.conditions;
    (!conditions.terminating, conditions.ready, conditions.serving, candidate.here)
}

/// The endpoints of one Service port that are usable from one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    /// Under policy Cluster; empty when nothing is usable anywhere (D20, D21).
    pub(crate) cluster: Arc<[Backend]>,
    /// Under policy Local (D22).
    pub(crate) local: Arc<[Backend]>,
    /// Why the Cluster set is what it is.
    pub(crate) report: Report,
    local_ready: Vec<IpAddr>,
    serving: Arc<[SocketAddr]>,
    all: Arc<[SocketAddr]>,
}

impl Choice {
    /// Where connections that exist may go on, whatever the policy and the hints say about new ones
    /// (D35, D36). An SCTP association, or a TCP connection of a Service that resets them, ends with
    /// its endpoint only.
    pub(crate) fn lasting(&self, protocol: Protocol, resets: bool) -> Arc<[SocketAddr]> {
        match protocol {
            Protocol::Tcp if !resets => Arc::default(),
            Protocol::Udp => Arc::clone(&self.serving),
            Protocol::Tcp | Protocol::Sctp => Arc::clone(&self.all),
        }
    }

    /// What to do under policy Cluster.
    pub(crate) fn cluster_action(&self) -> Action {
        if self.cluster.is_empty() {
            return Action::Reject(Reason::NoEndpoints);
        }
        Action::Balance(Arc::clone(&self.cluster))
    }

    /// What to do under policy Local: endpoints elsewhere make the difference between refusing and
    /// staying silent (D23).
    pub(crate) fn local_action(&self) -> Action {
        if !self.local.is_empty() {
            return Action::Balance(Arc::clone(&self.local));
        }
        if self.cluster.is_empty() {
            return Action::Reject(Reason::NoEndpoints);
        }
        Action::Drop(Reason::NoLocalEndpoints)
    }

    /// Addresses of ready endpoints on this node.
    pub(crate) fn local_ready(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.local_ready.iter().copied()
    }
}

/// Chooses for both policies.
pub(crate) fn choose(candidates: &[Candidate], context: &NodeContext) -> Choice {
    let ready: Vec<&Candidate> = candidates.iter().filter(|one| one.is_ready()).collect();
    let fallback: Vec<&Candidate> = candidates.iter().filter(|one| one.is_fallback()).collect();
    let mut report = Report::new();
    let cluster = if !ready.is_empty() {
        let level = hint_level(&ready, context);
        report.extend(level.reason());
        backends(ready.iter().copied().filter(|one| level.admits(one, context)))
    } else {
        if !fallback.is_empty() {
            report.push(Reason::TerminatingFallback);
        }
        backends(fallback.iter().copied())
    };
    let is_local = |one: &&Candidate| one.here;
    let local_ready = backends(ready.iter().copied().filter(is_local));
    let local_addresses = local_ready.iter().map(|backend| backend.address.ip()).collect();
    let local = if local_ready.is_empty() {
        backends(fallback.iter().copied().filter(is_local))
    } else {
        local_ready
    };
    let addresses = |wanted: fn(&Candidate) -> bool| {
        let wanted = candidates.iter().filter(|one| wanted(one));
        wanted.map(|one| one.backend.address).collect()
    };
    let serving = addresses(|one| one.conditions.serving || one.is_ready());
    let all = addresses(|_| true);
    Choice { cluster, local, report, local_ready: local_addresses, serving, all }
}

fn backends<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Arc<[Backend]> {
    candidates.map(|candidate| candidate.backend).collect()
}

/// How far topology hints narrow the Cluster set (D20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HintLevel {
    Node,
    Zone,
    None,
}

/// A level counts when every ready endpoint has hints of it and one of them names us; one endpoint
/// without a hint disables the level.
fn hint_level(ready: &[&Candidate], context: &NodeContext) -> HintLevel {
    let decides = |level: HintLevel, has_hint: fn(&Hints) -> bool| {
        ready.iter().all(|one| has_hint(&one.hints))
            && ready.iter().any(|one| level.admits(one, context))
    };
    if decides(HintLevel::Node, |hints| !hints.nodes.is_empty()) {
        HintLevel::Node
    } else if decides(HintLevel::Zone, |hints| !hints.zones.is_empty()) {
        HintLevel::Zone
    } else {
        HintLevel::None
    }
}

impl HintLevel {
    fn admits(self, candidate: &Candidate, context: &NodeContext) -> bool {
        let hints = &candidate.hints;
        match self {
            Self::Node => hints.nodes.contains(&context.node),
            Self::Zone => context.zone.as_ref().is_some_and(|zone| hints.zones.contains(zone)),
            Self::None => true,
        }
    }

    fn reason(self) -> Option<Reason> {
        match self {
            Self::Node => Some(Reason::NodeHints),
            Self::Zone => Some(Reason::ZoneHints),
            Self::None => None,
        }
    }
}
