//! Fragments of rules: loading and comparing fields of a packet of one family.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{Family, Protocol};

use crate::expr::{
    CT_STATE_ESTABLISHED, CT_STATE_INVALID, CT_STATE_NEW, CT_STATUS_DNAT, CmpOp, CtKey, Expr,
    FibAddress, Found, Header, MetaKey, Name, RTN_LOCAL, Reg, Verdict,
};
use crate::ruleset::Rule;

/// Words of an address in registers.
pub(crate) fn address_words(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// Source address: RFC 791 section 3.1, RFC 8200 section 3.
pub(crate) fn source(family: Family, to: Reg) -> Expr {
    let (offset, len) = match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    Expr::Payload { header: Header::Network, offset, len, to }
}

/// Destination address.
pub(crate) fn destination(family: Family, to: Reg) -> Expr {
    let (offset, len) = match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    };
    Expr::Payload { header: Header::Network, offset, len, to }
}

/// `protocol . destination port`, two words: the key of a node port. Fragments are whole packets
/// here, because connection tracking puts them together first (D43).
pub(crate) fn node_port(to: Reg) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::L4Proto, to },
        Expr::Payload { header: Header::Transport, offset: 2, len: 2, to: to.plus(1) },
    ]
}

/// `destination . protocol . port`: the key of a frontend.
pub(crate) fn frontend(family: Family, to: Reg) -> Rule {
    let mut rule = vec![destination(family, to)];
    rule.extend(node_port(to.plus(address_words(family))));
    rule
}

/// The frontend that the connection was opened to: as [`frontend`], of every packet of it.
pub(crate) fn original_frontend(family: Family, to: Reg) -> Rule {
    let protocol = to.plus(address_words(family));
    vec![
        Expr::Ct { key: CtKey::OriginalDestination(family), to },
        Expr::Ct { key: CtKey::Protocol, to: protocol },
        Expr::Ct { key: CtKey::OriginalPort, to: protocol.plus(1) },
    ]
}

/// `address . port` of the endpoint that answers.
pub(crate) fn answering_endpoint(family: Family, to: Reg) -> Rule {
    vec![
        Expr::Ct { key: CtKey::ReplySource(family), to },
        Expr::Ct { key: CtKey::ReplySourcePort, to: to.plus(address_words(family)) },
    ]
}

/// `iifname != "lo"`.
pub(crate) fn from_outside() -> Rule {
    vec![
        Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
        Expr::Cmp { from: Reg(0), op: CmpOp::Different, value: interface("lo") },
    ]
}

/// `ct direction original`.
pub(crate) fn from_client() -> Rule {
    vec![
        Expr::Ct { key: CtKey::Direction, to: Reg(0) },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value: vec![ORIGINAL] },
    ]
}

/// `ip saddr/daddr in net`, through register 0.
pub(crate) fn in_network(load: Expr, net: IpNet) -> Rule {
    let (mask, value) = (octets(net.netmask()), octets(net.network()));
    let xor = vec![0; mask.len()];
    vec![
        load,
        Expr::Bitwise { from: Reg(0), to: Reg(0), mask, xor },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value },
    ]
}

/// `iifname == name`, or with `prefix` `iifname == name*`.
pub(crate) fn arrives_on(name: &str, prefix: bool) -> Rule {
    let value = if prefix { name.as_bytes().to_vec() } else { interface(name) };
    vec![
        Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value },
    ]
}

/// A whole interface name to compare with.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut value = name.as_bytes().to_vec();
    value.resize(libc::IFNAMSIZ, 0);
    value
}

/// `fib saddr type local`: sent by this node.
pub(crate) fn from_this_node() -> Rule {
    vec![
        Expr::FibType { of: FibAddress::Source, to: Reg(0) },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value: RTN_LOCAL.to_ne_bytes().to_vec() },
    ]
}

/// `ct state new`. Established connections and the ICMP errors about them (state related), which
/// conntrack translates back, are never looked at (D35, D42).
pub(crate) fn new_connection() -> Rule {
    ct_bit(CtKey::State, CT_STATE_NEW)
}

/// `ct state established`, in both directions.
pub(crate) fn established() -> Rule {
    ct_bit(CtKey::State, CT_STATE_ESTABLISHED)
}

/// `meta l4proto`.
pub(crate) fn protocol_is(protocol: Protocol) -> Rule {
    vec![
        Expr::Meta { key: MetaKey::L4Proto, to: Reg(0) },
        Expr::Cmp { from: Reg(0), op: CmpOp::Equal, value: vec![protocol.number()] },
    ]
}

/// `ct state invalid`.
pub(crate) fn invalid() -> Rule {
    ct_bit(CtKey::State, CT_STATE_INVALID)
}

/// `ct status dnat`: the mark of connections to Services, by which a host firewall can let them pass
/// as well (D40).
pub(crate) fn dnatted() -> Rule {
    ct_bit(CtKey::Status, CT_STATUS_DNAT)
}

/// `meta mark & bit != 0`.
pub(crate) fn marked(bit: u32) -> Rule {
    has_bit(Expr::Meta { key: MetaKey::Mark, to: Reg(0) }, bit)
}

/// `meta mark set meta mark | bit` or, to clear it, `& ~bit`.
pub(crate) fn set_mark(bit: u32, on: bool) -> Rule {
    let xor = if on { bit } else { 0 };
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: (!bit).to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        },
        Expr::SetMark { from: Reg(0) },
    ]
}

/// Goes on if the key that begins at `from` is in the set.
pub(crate) fn within(set: Name, from: Reg) -> Expr {
    Expr::Lookup { set, from, then: Found::Continue }
}

/// Replaces the key that begins at `from` by what the map holds, from register `to` on.
pub(crate) fn load(map: Name, from: Reg, to: Reg) -> Expr {
    Expr::Lookup { set: map, from, then: Found::Load(to) }
}

pub(crate) fn jump(chain: impl Into<Name>) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

pub(crate) fn goto(chain: impl Into<Name>) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

/// One rule out of fragments.
pub(crate) fn rule(fragments: impl IntoIterator<Item = Rule>, last: Expr) -> Rule {
    let mut rule: Rule = fragments.into_iter().flatten().collect();
    rule.push(last);
    rule
}

fn ct_bit(key: CtKey, bit: u32) -> Rule {
    has_bit(Expr::Ct { key, to: Reg(0) }, bit)
}

fn has_bit(load: Expr, bit: u32) -> Rule {
    vec![
        load,
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: bit.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expr::Cmp { from: Reg(0), op: CmpOp::Different, value: vec![0; 4] },
    ]
}

/// `IP_CT_DIR_ORIGINAL`.
const ORIGINAL: u8 = 0;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
