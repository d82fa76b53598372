//! Resets of TCP connections to endpoints that are gone, for Services that ask for it (D35).
//!
//! Whether an endpoint exists is looked up for each packet that a client sends, so what is gone need
//! not be remembered, and a new process goes on where the last one ended. It costs packets of these
//! Services two lookups and all others one; without such a Service there are no rules. Connections
//! past a Service, straight to a pod, are not translated and never looked up.

use model::{Family, Protocol, ServiceView};

use super::chains::{Fixed, of_this_node};
use super::packet::{
    address_words, destination, dnatted, from_client, frontend, node_port, protocol_is, rule,
    within,
};
use super::sets;
use crate::expr::{CmpOp, CtKey, Expr, Found, Header, MetaKey, Name, Reg, RejectWith};
use crate::ruleset::Rule;

/// Whether a Service asks for it.
pub(super) fn resets(service: &ServiceView) -> bool {
    service.frontends.iter().any(|frontend| frontend.resets)
}

/// The rules for packets of established connections whose destination has been translated.
pub(super) fn rules(family: Family, fixed: &Fixed) -> Vec<Rule> {
    if !fixed.resets {
        return Vec::new();
    }
    let words = address_words(family);
    let frontend = [vec![original(family)], port(Reg(words))].concat();
    let mut rules = vec![reset(family, frontend, Reg(0), Reg(words + 2), false)];
    for on_node in of_this_node(family, fixed, &original(family)) {
        let node_port = [on_node, port(Reg(0))].concat();
        rules.push(reset(family, node_port, Reg(0), Reg(2), true));
    }
    rules
}

/// The rules for TCP packets that begin no connection and belong to none, before their destination is
/// translated: they would be sent to some other endpoint.
pub(super) fn strays(family: Family, fixed: &Fixed) -> Vec<Rule> {
    if !fixed.resets {
        return Vec::new();
    }
    let reset = |find: Rule| rule([find], Expr::Reject { with: RejectWith::TcpReset });
    let resetting = |set| within(set, Reg(0));
    let mut find = frontend(family, Reg(0));
    find.push(resetting(sets::RESETTING));
    let mut rules = vec![reset(find)];
    for on_node in of_this_node(family, fixed, &destination(family, Reg(0))) {
        let mut find = on_node;
        find.extend(node_port(Reg(0)));
        find.push(resetting(sets::RESETTING_PORTS));
        rules.push(reset(find));
    }
    rules
}

/// A TCP packet that begins no connection (RFC 9293 section 3.1: SYN is not set).
pub(super) fn goes_on() -> Rule {
    let mut rule = protocol_is(Protocol::Tcp);
    rule.extend([
        Expr::Payload { header: Header::Transport, offset: 13, len: 1, to: Reg(0) },
        Expr::Bitwise { from: Reg(0), to: Reg(0), mask: vec![SYN], xor: vec![0] },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value: vec![0] },
    ]);
    rule
}

/// `find` loads the key of a frontend to `key`; the endpoint's follows at `endpoint`.
fn reset(family: Family, find: Rule, key: Reg, endpoint: Reg, node_port: bool) -> Rule {
    let (resetting, existing) = if node_port {
        (sets::RESETTING_PORTS, sets::PORT_EXISTING)
    } else {
        (sets::RESETTING, sets::EXISTING)
    };
    let destination_port = Expr::Payload {
        header: Header::Transport,
        offset: 2,
        len: 2,
        to: endpoint.plus(address_words(family)),
    };
    let gone = vec![
        within(resetting, key),
        destination(family, endpoint),
        destination_port,
        absent(existing, key),
    ];
    let fragments = [dnatted(), from_client(), protocol_is(Protocol::Tcp), find, gone];
    rule(fragments, Expr::Reject { with: RejectWith::TcpReset })
}

/// `protocol . port`, as the client sent it.
fn port(to: Reg) -> Rule {
    vec![
        Expr::Meta { key: MetaKey::L4Proto, to },
        Expr::Ct { key: CtKey::OriginalPort, to: to.plus(1) },
    ]
}

fn original(family: Family) -> Expr {
    Expr::Ct { key: CtKey::OriginalDestination(family), to: Reg(0) }
}

fn absent(set: Name, from: Reg) -> Expr {
    Expr::Lookup { set, from, then: Found::ContinueIfAbsent }
}

/// Of the flags of a TCP header (RFC 9293 section 3.1).
const SYN: u8 = 0x02;
