//! The rules: constant ones, and one chain per way to pick an endpoint.
//!
//! ```text
//!  prerouting, output (filter)   source-ranges: drop who may not knock (D26)
//!  prerouting, output (nat)      services ─▶ frontends-*, node-ports-* ─▶ mark-*, pick ─▶ pick-*
//!  input, forward, output        refusals; cluster-addresses (not in input) ─▶ refuse
//!                                resets, of connections that exist (D35)
//!  postrouting (nat)             masquerade: marked, or a pod that talks to itself
//! ```
//!
//! Rules that count are in `counts`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use model::{Family, LocalDetector, Protocol};

use super::counts::Tally;
use super::draw::{Entry, List, Mark, Pick};
use super::packet::{
    address_words, arrives_on, destination, dnatted, established, from_outside, from_this_node,
    frontend, goto, in_network, invalid, jump, load, marked, new_connection, node_port,
    protocol_is, rule, set_mark, source, within,
};
use super::{affinity, counts, resets, sets};

use crate::expr::{Expr, Found, Name, Reg, RejectWith, Verdict};
use crate::ruleset::{Base, Chain, ChainKind, Hook, Policy, Rule};

/// What the rules depend on, besides picks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fixed {
    pub(crate) detector: LocalDetector,
    pub(crate) service_cidrs: BTreeSet<IpNet>,
    pub(crate) mark: u32,
    pub(crate) drop_invalid: bool,
    pub(crate) localhost_node_ports: bool,
    /// Whether a Service asks for resets.
    pub(crate) resets: bool,
    /// Whether to count.
    pub(crate) counters: bool,
}

impl Fixed {
    /// Answers to ::1 that come from a pod's interface have no route, whatever the settings: it is
    /// strictly an address of the loopback interface (`rt6_need_strict`). IPv4 has `route_localnet`.
    pub(crate) fn serves_localhost(&self, family: Family) -> bool {
        self.localhost_node_ports && family == Family::V4
    }

    /// The end of a new connection that gets no endpoint.
    fn refusal(&self, tally: Tally) -> Expr {
        if self.counters { goto(tally.set()) } else { counts::unanswered(tally) }
    }
}

/// The chains of one family's table that exist whatever the Services.
pub(crate) fn constant(family: Family, fixed: &Fixed) -> BTreeMap<Name, Chain> {
    let filter = ChainKind::Filter;
    let nat = ChainKind::Nat;
    let new = |last: Expr| rule([new_connection()], last);
    let to = |chain: &'static str| vec![vec![goto(chain)]];
    let mut check_source = vec![new(goto("source-ranges"))];
    let mut check_refusals = vec![new(goto("refusals"))];
    let mut check_cluster = vec![new(jump("refusals")), new(goto("cluster-addresses"))];
    if fixed.resets {
        let check_gone = rule([established()], goto("resets"));
        check_refusals.push(check_gone.clone());
        check_cluster.push(check_gone);
        let check_stray = rule([new_connection(), resets::goes_on()], jump("strays"));
        check_source.insert(0, check_stray);
    }
    let mut arriving = check_source.clone();
    if fixed.serves_localhost(family) {
        arriving.splice(0..0, martians(family));
    }
    let mut forward = check_cluster.clone();
    if fixed.drop_invalid {
        forward.insert(0, rule([invalid()], Expr::Verdict(Verdict::Drop)));
    }
    let mut leaving = postrouting(family, fixed.mark);
    if fixed.counters {
        check_refusals.insert(0, counts::arriving());
        check_cluster.insert(0, counts::passing());
        forward.insert(usize::from(fixed.drop_invalid), counts::passing());
        leaving.insert(0, counts::connecting());
    }
    let base = |kind, hook, priority, rules| {
        let policy = Policy::Accept;
        Chain { base: Some(Base { kind, hook, priority, policy }), rules }
    };
    let chain = |rules| Chain { base: None, rules };
    let chains = [
        ("prerouting-filter", base(filter, Hook::Prerouting, BEFORE_DNAT, arriving)),
        ("output-before-dnat", base(filter, Hook::Output, BEFORE_DNAT, check_source)),
        ("prerouting", base(nat, Hook::Prerouting, DNAT, to("services"))),
        ("output", base(nat, Hook::Output, DNAT, to("services"))),
        ("input", base(filter, Hook::Input, FILTER, check_refusals)),
        ("forward", base(filter, Hook::Forward, FILTER, forward)),
        ("output-filter", base(filter, Hook::Output, FILTER, check_cluster)),
        ("postrouting", base(nat, Hook::Postrouting, SNAT, leaving)),
        ("source-ranges", chain(source_ranges(family, fixed))),
        ("services", chain(services(family, fixed))),
        ("node-ports", chain(node_ports())),
        ("refusals", chain(refusals(family, fixed))),
        ("resets", chain(resets::rules(family, fixed))),
        ("strays", chain(resets::strays(family, fixed))),
        ("refuse", chain(refuse(family))),
        ("cluster-addresses", chain(cluster_addresses(family, &fixed.service_cidrs))),
        ("masquerade-and-unmark", chain(vec![rule([set_mark(fixed.mark, false)], MASQUERADE)])),
        ("mark-masquerade", chain(vec![set_mark(fixed.mark, true)])),
        (
            "mark-masquerade-node",
            chain(vec![[from_this_node(), set_mark(fixed.mark, true)].concat()]),
        ),
        ("mark-masquerade-off-cluster", chain(off_cluster(family, fixed))),
    ];
    let chains = chains.into_iter().map(|(name, chain)| (Name::Borrowed(name), chain));
    let delivered = base(nat, Hook::Input, SNAT, vec![counts::connecting()]);
    let counts = fixed.counters.then(|| counts::chains(family, fixed));
    let counts = counts.into_iter().flatten().map(|(name, rules)| (name, chain(rules)));
    let counts = counts.chain(fixed.counters.then_some(("input-after-dnat".into(), delivered)));
    let entries = [false, true]
        .into_iter()
        .flat_map(|node_port| Mark::ALL.map(|masquerade| Entry { node_port, masquerade }));
    let entries = entries.map(|entry| (entry.name(), chain(entry.rules(family, fixed))));
    chains.chain(entries).chain(counts).collect()
}

/// The rule that leads to the chain of a pick.
pub(crate) fn to_pick(family: Family, pick: Pick) -> Rule {
    rule([pick.key(family), vec![within(pick.name(), pick.key_at(family))]], goto(pick.name()))
}

impl Entry {
    /// Who finds no endpoint in its list is left to the filter chains.
    fn rules(self, family: Family, fixed: &Fixed) -> Vec<Rule> {
        let pick = |local| goto(List { node_port: self.node_port, local }.chain());
        let mark = match self.masquerade {
            Mark::Never => None,
            Mark::Always => Some("mark-masquerade"),
            Mark::OffCluster => Some("mark-masquerade-off-cluster"),
            Mark::NodeOnly => Some("mark-masquerade-node"),
        };
        let mut rules: Vec<Rule> = mark.into_iter().map(|mark| vec![jump(mark)]).collect();
        if self.has_local_list() {
            let near = local_pods(family, &fixed.detector).into_iter().chain([from_this_node()]);
            rules.extend(near.map(|source| rule([source], pick(false))));
        }
        rules.push(vec![pick(self.has_local_list())]);
        rules
    }
}

impl Pick {
    pub(crate) fn rules(self, family: Family) -> Vec<Rule> {
        if self.affinity > 0 {
            return affinity::rules(self, family);
        }
        let words = address_words(family);
        let endpoint = Reg(2 * words + 2);
        let dnat = Expr::Dnat { family, address: endpoint, port: endpoint.plus(words) };
        let draw = |modulus| {
            let numbered = load(self.from.endpoints(false), self.key_at(family), endpoint);
            vec![Expr::Numgen { modulus, to: endpoint }, numbered]
        };
        let rule = |modulus| rule([self.key(family), draw(modulus)], dnat.clone());
        self.moduli().map(rule).collect()
    }

    /// Loads the key of the frontend so that it ends right before the endpoint's registers.
    fn key(self, family: Family) -> Rule {
        if self.from.node_port {
            node_port(self.key_at(family)).to_vec()
        } else {
            frontend(family, self.key_at(family))
        }
    }

    fn key_at(self, family: Family) -> Reg {
        let words = address_words(family);
        if self.from.node_port { Reg(2 * words) } else { Reg(words) }
    }
}

/// Rules that match traffic of local pods (D13); none when nothing can tell.
fn local_pods(family: Family, detector: &LocalDetector) -> Vec<Rule> {
    match detector {
        LocalDetector::ClusterCidr(nets) | LocalDetector::NodeCidr(nets) => nets
            .iter()
            .filter(|net| Family::of(net.addr()) == family)
            .map(|net| in_network(source(family, Reg(0)), *net))
            .collect(),
        LocalDetector::BridgeInterface(name) => vec![arrives_on(name, false)],
        LocalDetector::InterfacePrefix(prefix) => vec![arrives_on(prefix, true)],
        LocalDetector::None => Vec::new(),
    }
}

/// Marks everything that is not known to come from a local pod; nothing without a detector.
fn off_cluster(family: Family, fixed: &Fixed) -> Vec<Rule> {
    if fixed.detector == LocalDetector::None {
        return Vec::new();
    }
    let pods = local_pods(family, &fixed.detector).into_iter();
    let mut rules: Vec<Rule> =
        pods.map(|pod| rule([pod], Expr::Verdict(Verdict::Return))).collect();
    rules.push(set_mark(fixed.mark, true));
    rules
}

/// Every Service's destinations. Node ports are addresses like others: no socket is opened (D32).
fn services(family: Family, fixed: &Fixed) -> Vec<Rule> {
    let address = Reg(0);
    let to =
        |entry: Entry, key, at| rule([key, vec![within(entry.name(), at)]], goto(entry.name()));
    let frontends = Mark::ALL.into_iter().map(|masquerade| {
        to(Entry { node_port: false, masquerade }, frontend(family, address), address)
    });
    let on_node = on_node(family, fixed).into_iter();
    frontends.chain(on_node.map(|on_node| rule([on_node], goto("node-ports")))).collect()
}

/// Matches of the destinations on which node ports answer; none overwrites the others' result.
fn on_node(family: Family, fixed: &Fixed) -> Vec<Rule> {
    of_this_node(family, fixed, &destination(family, Reg(0)))
}

/// Matches of addresses, loaded by `address`, on which node ports answer.
pub(super) fn of_this_node(family: Family, fixed: &Fixed, address: &Expr) -> Vec<Rule> {
    let mut matches = vec![vec![address.clone(), within(sets::NODE_ADDRESSES, Reg(0))]];
    if fixed.serves_localhost(family) {
        matches.push(in_network(address.clone(), LOOPBACK));
    }
    matches
}

/// D31: with `route_localnet` the kernel no longer throws away what arrives from outside for, or as
/// if from, a loopback address. So we do, before destinations change: answers of endpoints are for
/// an address of the node until they have been translated back.
fn martians(family: Family) -> Vec<Rule> {
    let drop = Expr::Verdict(Verdict::Drop);
    [destination(family, Reg(0)), source(family, Reg(0))]
        .map(|address| rule([from_outside(), in_network(address, LOOPBACK)], drop.clone()))
        .into()
}

/// RFC 1122 section 3.2.1.3.
pub(super) const LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));

/// Of a node address.
fn node_ports() -> Vec<Rule> {
    let ports = Mark::ALL.into_iter().map(|masquerade| {
        let entry = Entry { node_port: true, masquerade };
        rule([node_port(Reg(0)).to_vec(), vec![within(entry.name(), Reg(0))]], goto(entry.name()))
    });
    ports.collect()
}

/// Of new connections, so a change of the ranges concerns the next one (D29).
fn source_ranges(family: Family, fixed: &Fixed) -> Vec<Rule> {
    let key = Reg(0);
    let client = key.plus(address_words(family) + 2);
    let forbidden =
        Expr::Lookup { set: sets::ALLOWED_SOURCES, from: key, then: Found::ContinueIfAbsent };
    let restricted = vec![within(sets::RESTRICTED, key), source(family, client), forbidden];
    vec![rule([frontend(family, key), restricted], fixed.refusal(Tally::Forbidden))]
}

fn refusals(family: Family, fixed: &Fixed) -> Vec<Rule> {
    let address = Reg(0);
    let port = address.plus(address_words(family));
    let of_frontend =
        |set, last| rule([frontend(family, address), vec![within(set, address)]], last);
    let of_port = |on_node: &Rule, set, last| {
        rule([on_node.clone(), node_port(port).to_vec(), vec![within(set, port)]], last)
    };
    let (reject, drop) = (fixed.refusal(Tally::Refused), fixed.refusal(Tally::Dropped));
    let mut rules =
        vec![of_frontend(sets::REJECTED, reject.clone()), of_frontend(sets::DROPPED, drop.clone())];
    for on_node in on_node(family, fixed) {
        rules.push(of_port(&on_node, sets::REJECTED_PORTS, reject.clone()));
        rules.push(of_port(&on_node, sets::DROPPED_PORTS, drop.clone()));
    }
    rules
}

/// Undeclared ports of cluster IPs are refused, addresses of nobody dropped (semantics 4.6).
fn cluster_addresses(family: Family, cidrs: &BTreeSet<IpNet>) -> Vec<Rule> {
    let to = destination(family, Reg(0));
    let known = vec![to.clone(), within(sets::CLUSTER_IPS, Reg(0))];
    let mut rules = vec![rule([known], goto("refuse"))];
    let cidrs = cidrs.iter().filter(|net| Family::of(net.addr()) == family);
    let drop = Expr::Verdict(Verdict::Drop);
    rules.extend(cidrs.map(|net| rule([in_network(to.clone(), *net)], drop.clone())));
    rules
}

/// TCP by a reset, everything else by port unreachable.
///
/// ICMP errors do not refuse TCP "at once": the kernel sends six in a row to one client and then
/// one per second, and an ICMPv6 error that arrives while `connect` still holds the socket, as over
/// veth, only takes effect when the client repeats itself after a second.
fn refuse(family: Family) -> Vec<Rule> {
    vec![
        rule([protocol_is(Protocol::Tcp)], Expr::Reject { with: RejectWith::TcpReset }),
        vec![Expr::Reject { with: RejectWith::PortUnreachable(family) }],
    ]
}

fn postrouting(family: Family, mark: u32) -> Vec<Rule> {
    let pair = Reg(0);
    let to_itself = vec![
        source(family, pair),
        destination(family, pair.plus(address_words(family))),
        within(sets::HAIRPIN, pair),
    ];
    vec![
        rule([marked(mark)], goto("masquerade-and-unmark")),
        rule([dnatted(), to_itself], goto("masquerade-and-unmark")),
    ]
}

/// Keeps the client's port if it is free, which is what makes connection churn fast.
///
/// A server that closes first remembers `node:port` in TIME_WAIT for a minute. It takes a new
/// connection from there only if its sequence number or its timestamp is a later one (RFC 6191).
/// It is when the same client port stands behind it again, because clients count up. Behind fully
/// random ports, as kube-proxy asks for, nearly always another client port stands, and as soon as
/// most of the 64,000 ports rest there, connections wait for repeated SYNs: one busy client falls to
/// a tenth of its rate (`examples/churn.rs`).
///
/// Several busy clients of one endpoint still slow each other down, to a fifth when two of them use
/// up all their ports. Where the port of the one is the other's (conntrack keeps it for two minutes
/// after the last packet), the kernel draws a random one, behind which another connection rests.
/// Sequence numbers and timestamps begin anew at random for each pair of addresses and ports, so half
/// of these SYNs look old and are dropped (`TcpExtPAWSTimewait`). Ranges of ports per client do not
/// help, as ports within them are drawn at random too; only the same port for the same client port
/// would. That is `NF_NAT_RANGE_PROTO_OFFSET`, whose base masquerade does not initialise, and two
/// clients with the usual 28,000 ports are all that 64,000 ports have room for.
///
/// Two packets that are translated at the same instant can be given the same port; one of them is
/// then dropped and repeated. With kept ports that takes two clients with the same port to the same
/// endpoint within microseconds. Two UDP packets of one socket are given the same port in any case,
/// and the kernel makes one connection of them.
const MASQUERADE: Expr = Expr::Masquerade;

/// Hook priorities: `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC` of
/// `linux/netfilter_ipv4.h`, the same for IPv6.
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;
/// Source ranges look at the address that the client knows.
const BEFORE_DNAT: i32 = DNAT - 10;
