//! Which endpoints may get a new connection (semantics 4.5).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::{
    AddressType, Cluster, Conditions, Family, Hints, NodeContext, NodeName, Reason, Service,
    ServicePort,
};

/// Label that takes a slice out of the dataplane (D2).
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One endpoint of one Service port.
#[derive(Clone, Debug)]
struct Candidate {
    conditions: Conditions,
    node: Option<NodeName>,
    hints: Hints,
}

/// All endpoints of one Service port in one family, by address and port.
pub(crate) struct Candidates(BTreeMap<SocketAddr, Candidate>);

/// An endpoint that may get the connection.
pub(crate) struct Usable {
    pub(crate) address: SocketAddr,
    /// Nothing says that it runs on another node.
    pub(crate) may_be_here: bool,
}

/// The endpoints that may get a connection under one policy.
pub(crate) enum Chosen {
    /// These, and what narrowed the choice.
    Endpoints(Vec<Usable>, Option<Reason>),
    /// Nobody, anywhere.
    NobodyAnywhere,
    /// Somebody, but not on this node.
    NobodyHere,
}

impl Candidates {
    /// D2, D4, D5.
    pub(crate) fn of(
        cluster: &Cluster,
        service: &Service,
        port: &ServicePort,
        destination: IpAddr,
    ) -> Self {
        let family = AddressType::Ip(Family::of(destination));
        let mut found: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
        for slice in cluster.slices_of(&service.name()) {
            if slice.address_type != family || slice.meta.labels.contains_key(HEADLESS) {
                continue;
            }
            let matching = slice.ports.iter().filter(|slice_port| {
                slice_port.protocol == port.protocol && slice_port.name.as_ref() == Some(&port.name)
            });
            for number in matching.filter_map(|slice_port| slice_port.port) {
                for endpoint in &slice.endpoints {
                    let Some(address) = endpoint.addresses.first() else { continue };
                    let candidate = Candidate {
                        conditions: endpoint.conditions,
                        node: endpoint.node.clone(),
                        hints: endpoint.hints.clone(),
                    };
                    let address = SocketAddr::new(*address, number.get());
                    // D5: of two entries for one address, the one that does not terminate.
                    match found.get(&address) {
                        Some(known) if !known.conditions.terminating => {}
                        _ => drop(found.insert(address, candidate)),
                    }
                }
            }
        }
        Self(found)
    }

    /// Whether there is such an endpoint, in whatever condition.
    pub(crate) fn contains(&self, endpoint: SocketAddr) -> bool {
        self.0.contains_key(&endpoint)
    }

    /// D20, D21: any ready endpoint, narrowed by hints; else those that serve while terminating.
    pub(crate) fn for_cluster(&self, context: &NodeContext) -> Chosen {
        let ready: Vec<_> = self.0.iter().filter(|(_, one)| one.conditions.ready).collect();
        if ready.is_empty() {
            let fallback = self.usable(context, falls_back);
            return if fallback.is_empty() {
                Chosen::NobodyAnywhere
            } else {
                Chosen::Endpoints(fallback, Some(Reason::TerminatingFallback))
            };
        }
        // One endpoint without a hint switches the level off (semantics trap 19).
        let every_node_hint = ready.iter().all(|(_, one)| !one.hints.nodes.is_empty());
        let this_node = |one: &Candidate| one.hints.nodes.contains(&context.node);
        if every_node_hint && ready.iter().any(|(_, one)| this_node(one)) {
            let near = self.usable(context, |one| one.conditions.ready && this_node(one));
            return Chosen::Endpoints(near, Some(Reason::NodeHints));
        }
        let every_zone_hint = ready.iter().all(|(_, one)| !one.hints.zones.is_empty());
        let this_zone = |one: &Candidate| {
            context.zone.as_ref().is_some_and(|zone| one.hints.zones.contains(zone))
        };
        if every_zone_hint && ready.iter().any(|(_, one)| this_zone(one)) {
            let near = self.usable(context, |one| one.conditions.ready && this_zone(one));
            return Chosen::Endpoints(near, Some(Reason::ZoneHints));
        }
        Chosen::Endpoints(self.usable(context, |one| one.conditions.ready), None)
    }

    /// D22: this node's ready endpoints, else its terminating ones; hints do not matter.
    pub(crate) fn for_local(&self, context: &NodeContext) -> Chosen {
        // D9.
        let here = |one: &Candidate| one.node.as_ref() == Some(&context.node);
        let ready = self.usable(context, |one| here(one) && one.conditions.ready);
        if !ready.is_empty() {
            return Chosen::Endpoints(ready, None);
        }
        let fallback = self.usable(context, |one| here(one) && falls_back(one));
        if !fallback.is_empty() {
            return Chosen::Endpoints(fallback, Some(Reason::TerminatingFallback));
        }
        // D23.
        let somebody = self.0.values().any(|one| one.conditions.ready || falls_back(one));
        if somebody { Chosen::NobodyHere } else { Chosen::NobodyAnywhere }
    }

    fn usable(&self, context: &NodeContext, wanted: impl Fn(&Candidate) -> bool) -> Vec<Usable> {
        let wanted = self.0.iter().filter(|(_, one)| wanted(one));
        wanted
            .map(|(address, one)| Usable {
                address: *address,
                may_be_here: one.node.as_ref().is_none_or(|node| *node == context.node),
            })
            .collect()
    }
}

fn falls_back(one: &Candidate) -> bool {
    one.conditions.serving && one.conditions.terminating
}
