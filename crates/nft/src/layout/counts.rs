//! What is counted, by which rules, and whose it is.
//!
//! Packets make the elements that count them, so only what carries traffic costs memory, no change of
//! a Service touches a counter, and a new process goes on where the last one ended. The sets are
//! bounded; what finds no room is counted together ([`LEFT_OUT`]).
//!
//! ```text
//!  postrouting, input (nat)      count-connections: once for each new connection
//!  input, forward, output        count-packets: of both directions, each packet once
//!  source-ranges, refusals       count-forbidden, count-refused, count-dropped: and their end
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use model::{Action, Family, Frontend, NodeView, ServiceName};

use super::chains::{Fixed, of_this_node};
use super::draw::backends;
use super::packet::{
    address_words, answering_endpoint, dnatted, from_client, from_outside, frontend, goto, jump,
    original_frontend, rule, within,
};
use super::service::{Spot, parse_endpoint};
use super::sets;
use crate::expr::{CtKey, Expr, Name, Reg, Verdict};
use crate::ruleset::{Key, Rule};

/// What a set counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tally {
    /// New connections, by frontend and endpoint.
    Connections,
    /// Packets to endpoints, by frontend and endpoint.
    ToEndpoints,
    /// Their packets, on the way back.
    FromEndpoints,
    /// New connections that were refused, by frontend.
    Refused,
    /// New connections that were ignored, because the endpoints are elsewhere.
    Dropped,
    /// New connections from outside of the source ranges.
    Forbidden,
}

impl Tally {
    pub(crate) const ALL: [Self; 6] = [
        Self::Connections,
        Self::ToEndpoints,
        Self::FromEndpoints,
        Self::Refused,
        Self::Dropped,
        Self::Forbidden,
    ];

    /// Of the set, and of the chain that counts those that it ends.
    pub(crate) fn set(self) -> Name {
        Name::Borrowed(match self {
            Self::Connections => "count-connections",
            Self::ToEndpoints => "count-to-endpoints",
            Self::FromEndpoints => "count-from-endpoints",
            Self::Refused => "count-refused",
            Self::Dropped => "count-dropped",
            Self::Forbidden => "count-forbidden",
        })
    }

    /// Whether an endpoint follows the frontend in the key.
    pub(crate) fn has_endpoint(self) -> bool {
        matches!(self, Self::Connections | Self::ToEndpoints | Self::FromEndpoints)
    }

    /// The key in [`LEFT_OUT`].
    fn number(self) -> [u8; 4] {
        (self as u32).to_ne_bytes()
    }

    pub(crate) fn of_number(key: &Key) -> Option<Self> {
        Self::ALL.into_iter().find(|tally| tally.number() == *key.start)
    }
}

/// By [`Tally`]: what no element was left for.
pub(crate) const LEFT_OUT: Name = Name::Borrowed("count-left-out");

/// In `input`. What a process of this node sent to another has been counted when it left.
pub(super) fn arriving() -> Rule {
    rule([from_outside(), dnatted()], jump(PACKETS))
}

/// In `forward` and `output`.
pub(super) fn passing() -> Rule {
    rule([dnatted()], jump(PACKETS))
}

/// Where the source of a connection is translated, which happens once for each.
pub(super) fn connecting() -> Rule {
    rule([dnatted()], jump(CONNECTIONS))
}

/// Chains, beside the sets of which some have the names.
pub(super) fn chains(family: Family, fixed: &Fixed) -> Vec<(Name, Vec<Rule>)> {
    let back = Expr::Verdict(Verdict::Return);
    let towards = counted(family, Tally::ToEndpoints, &back);
    let towards = towards.into_iter().map(|counting| [from_client(), counting].concat());
    let packets = towards.chain(counted(family, Tally::FromEndpoints, &back)).collect();
    let ends = [Tally::Refused, Tally::Dropped, Tally::Forbidden].map(|tally| {
        let end = unanswered(tally);
        let counting = counted(family, tally, &end).into_iter();
        (tally.set(), counting.chain([vec![end]]).collect())
    });
    let others = [
        (PACKETS, if_ours(family, fixed, PACKET)),
        (PACKET, packets),
        (CONNECTIONS, if_ours(family, fixed, CONNECTION)),
        (CONNECTION, counted(family, Tally::Connections, &back).into()),
    ];
    others.into_iter().map(|(name, rules)| (name.into(), rules)).chain(ends).collect()
}

/// How a new connection without endpoint ends.
pub(super) fn unanswered(tally: Tally) -> Expr {
    match tally {
        Tally::Refused => goto("refuse"),
        _ => Expr::Verdict(Verdict::Drop),
    }
}

/// Others translate destinations as well.
fn if_ours(family: Family, fixed: &Fixed, chain: &'static str) -> Vec<Rule> {
    let address = Reg(0);
    let port = address.plus(address_words(family));
    let key = original_frontend(family, address);
    let mut rules = vec![rule([key.clone(), vec![within(sets::COUNTED, address)]], goto(chain))];
    let original = Expr::Ct { key: CtKey::OriginalDestination(family), to: address };
    for on_node in of_this_node(family, fixed, &original) {
        let counted = within(sets::COUNTED_PORTS, port);
        rules.push(rule([on_node, key[1..].to_vec(), vec![counted]], goto(chain)));
    }
    rules
}

/// Counts and ends: in the set or, if that is full, with all others.
fn counted(family: Family, tally: Tally, end: &Expr) -> [Rule; 2] {
    let key = Reg(0);
    let fields = if tally.has_endpoint() {
        let endpoint = answering_endpoint(family, key.plus(address_words(family) + 2));
        [original_frontend(family, key), endpoint].concat()
    } else {
        frontend(family, key)
    };
    let rest = vec![Expr::Immediate { to: key, value: tally.number().to_vec() }];
    [(fields, tally.set()), (rest, LEFT_OUT)]
        .map(|(fields, set)| rule([fields, vec![Expr::Count { set, key }]], end.clone()))
}

const PACKETS: &str = "count-packets";
const PACKET: &str = "count-packet";
const CONNECTIONS: &str = "count-connections";
const CONNECTION: &str = "count-connection";

/// Whose the elements are, by a view.
#[derive(Debug)]
pub(crate) struct Owners<'a> {
    frontends: BTreeMap<Spot, (&'a ServiceName, &'a Frontend)>,
    node_addresses: &'a BTreeSet<IpAddr>,
    localhost_node_ports: bool,
}

/// An element that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) service: &'a ServiceName,
    /// `None` for those that are gone.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Whether connections are sent to the endpoint, or were and may last.
    pub(crate) exists: bool,
}

impl<'a> Owners<'a> {
    /// The first by name owns what several Services claim, as in the tables.
    pub(crate) fn of(view: &'a NodeView, localhost_node_ports: bool) -> Self {
        let mut frontends = BTreeMap::new();
        for (name, service) in &view.services {
            for frontend in &service.frontends {
                frontends.entry(Spot::of(frontend)).or_insert((name, frontend));
            }
        }
        Self { frontends, node_addresses: &view.context.node_addresses, localhost_node_ports }
    }

    /// Whose element it is; `None` if its Service is gone.
    pub(crate) fn counted(&self, family: Family, tally: Tally, key: &Key) -> Option<Counted<'a>> {
        let (spot, rest) = Spot::parse(family, false, &key.start)?;
        let owner = self.frontends.get(&spot);
        let node_port = || self.frontends.get(&self.node_port(spot)?);
        let (service, frontend) = *owner.or_else(node_port)?;
        let endpoint = parse_endpoint(family, rest).filter(|endpoint| endpoint.port() != 0);
        let endpoint = endpoint.filter(|_| tally.has_endpoint());
        let exists = endpoint.is_some_and(|endpoint| leads_to(frontend, endpoint));
        Some(Counted { service, endpoint, exists })
    }

    fn node_port(&self, spot: Spot) -> Option<Spot> {
        let Spot::Frontend(address, protocol, port) = spot else { return None };
        let loopback = self.localhost_node_ports && address.is_loopback();
        let served = loopback || self.node_addresses.contains(&address);
        served.then_some(Spot::NodePort(Family::of(address), protocol, port))
    }
}

fn leads_to(frontend: &Frontend, endpoint: SocketAddr) -> bool {
    let among = |action: &Action| {
        let found = backends(action).binary_search_by_key(&endpoint, |one| one.address);
        found.is_ok()
    };
    among(&frontend.internal) || among(&frontend.external) || frontend.lasting.contains(&endpoint)
}

/// The key that stands for all endpoints of a frontend that are gone; packets never have it.
pub(crate) fn of_gone(family: Family, key: &Key) -> Key {
    let endpoint = usize::from(address_words(family) + 1) * 4;
    let mut bytes = key.start.to_vec();
    let begin = bytes.len().saturating_sub(endpoint);
    bytes[begin..].fill(0);
    Key::new(&bytes)
}
