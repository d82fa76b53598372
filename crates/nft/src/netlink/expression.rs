//! Expressions as nested attributes, and back.

use model::Family;

use super::abi::*;
use super::{Attributes, Writer, protocol_family};
use crate::expr::{
    CmpOp, CtKey, Expr, FibAddress, Found, Header, MetaKey, Reg, RejectWith, Verdict,
};

/// Writes one `NFTA_LIST_ELEM` of a rule's expressions.
pub(crate) fn encode(writer: &mut Writer, expr: &Expr) {
    writer.nested(NFTA_LIST_ELEM, |writer| {
        writer.string(NFTA_EXPR_NAME, kind(expr));
        writer.nested(NFTA_EXPR_DATA, |writer| body(writer, expr));
    });
}

/// Reads the expression inside an `NFTA_LIST_ELEM`. What we cannot have written becomes
/// [`Expr::Foreign`].
pub(crate) fn decode(element: Attributes<'_>) -> Expr {
    let name = element.string(NFTA_EXPR_NAME).unwrap_or_default();
    let data = element.nested(NFTA_EXPR_DATA).unwrap_or_else(|| Attributes::of(&[]));
    known(name, data).unwrap_or_else(|| Expr::Foreign(name.to_owned()))
}

/// Writes the `nft_verdict_attributes` of a verdict.
pub(crate) fn encode_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    writer.nested(NFTA_DATA_VERDICT, |writer| {
        writer.attribute(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            writer.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// Reads them.
pub(crate) fn decode_verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.nested(NFTA_DATA_VERDICT)?;
    let code = i32::from_be_bytes(verdict.get(NFTA_VERDICT_CODE)?.try_into().ok()?);
    let chain = || verdict.string(NFTA_VERDICT_CHAIN).map(|name| name.to_owned().into());
    match code {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => chain().map(Verdict::Jump),
        NFT_GOTO => chain().map(Verdict::Goto),
        _ => None,
    }
}

fn kind(expr: &Expr) -> &str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::SetMark { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::FibType { .. } => "fib",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Lookup { .. } => "lookup",
        Expr::Remember { .. } | Expr::Forget { .. } | Expr::Count { .. } => "dynset",
        Expr::Numgen { .. } => "numgen",
        Expr::Dnat { .. } => "nat",
        Expr::Masquerade => "masq",
        Expr::Reject { .. } => "reject",
        Expr::Foreign(name) => name,
    }
}

fn body(writer: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Payload { .. } | Expr::Meta { .. } | Expr::Ct { .. } | Expr::FibType { .. } => {
            loading(writer, expr);
        }
        Expr::SetMark { from } => {
            writer.number(NFTA_META_KEY, NFT_META_MARK);
            writer.number(NFTA_META_SREG, register(*from));
        }
        Expr::Cmp { from, op, value } => {
            writer.number(NFTA_CMP_SREG, register(*from));
            let op = match op {
                CmpOp::Equal => NFT_CMP_EQ,
                CmpOp::Different => NFT_CMP_NEQ,
            };
            writer.number(NFTA_CMP_OP, op);
            constant(writer, NFTA_CMP_DATA, value);
        }
        Expr::Bitwise { from, to, mask, xor } => {
            writer.number(NFTA_BITWISE_SREG, register(*from));
            writer.number(NFTA_BITWISE_DREG, register(*to));
            writer.number(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            constant(writer, NFTA_BITWISE_MASK, mask);
            constant(writer, NFTA_BITWISE_XOR, xor);
        }
        Expr::Immediate { to, value } => {
            writer.number(NFTA_IMMEDIATE_DREG, register(*to));
            constant(writer, NFTA_IMMEDIATE_DATA, value);
        }
        Expr::Verdict(verdict) => {
            writer.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            writer.nested(NFTA_IMMEDIATE_DATA, |writer| encode_verdict(writer, verdict));
        }
        Expr::Lookup { .. } | Expr::Remember { .. } | Expr::Forget { .. } | Expr::Count { .. } => {
            with_set(writer, expr)
        }
        Expr::Numgen { modulus, to } => {
            writer.number(NFTA_NG_DREG, register(*to));
            writer.number(NFTA_NG_MODULUS, *modulus);
            writer.number(NFTA_NG_TYPE, NFT_NG_RANDOM);
        }
        Expr::Dnat { family, address, port } => {
            writer.number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
            writer.number(NFTA_NAT_FAMILY, protocol_family(*family).into());
            writer.number(NFTA_NAT_REG_ADDR_MIN, register(*address));
            writer.number(NFTA_NAT_REG_PROTO_MIN, register(*port));
        }
        Expr::Reject { with: RejectWith::TcpReset } => {
            writer.number(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST);
        }
        Expr::Reject { with: RejectWith::PortUnreachable(family) } => {
            writer.number(NFTA_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
            writer.attribute(NFTA_REJECT_ICMP_CODE, &[port_unreachable(*family)]);
        }
        Expr::Masquerade | Expr::Foreign(_) => {}
    }
}

fn loading(writer: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Payload { header, offset, len, to } => {
            let base = match header {
                Header::Network => NFT_PAYLOAD_NETWORK_HEADER,
                Header::Transport => NFT_PAYLOAD_TRANSPORT_HEADER,
            };
            writer.number(NFTA_PAYLOAD_DREG, register(*to));
            writer.number(NFTA_PAYLOAD_BASE, base);
            writer.number(NFTA_PAYLOAD_OFFSET, *offset);
            writer.number(NFTA_PAYLOAD_LEN, *len);
        }
        Expr::Meta { key, to } => {
            let key = match key {
                MetaKey::Mark => NFT_META_MARK,
                MetaKey::IifName => NFT_META_IIFNAME,
                MetaKey::L4Proto => NFT_META_L4PROTO,
            };
            writer.number(NFTA_META_DREG, register(*to));
            writer.number(NFTA_META_KEY, key);
        }
        Expr::Ct { key, to } => {
            let (key, direction) = match key {
                CtKey::State => (NFT_CT_STATE, None),
                CtKey::Status => (NFT_CT_STATUS, None),
                CtKey::Direction => (NFT_CT_DIRECTION, None),
                CtKey::Protocol => (NFT_CT_PROTOCOL, None),
                CtKey::OriginalDestination(Family::V4) => (NFT_CT_DST_IP, ORIGINAL),
                CtKey::OriginalDestination(Family::V6) => (NFT_CT_DST_IP6, ORIGINAL),
                CtKey::OriginalPort => (NFT_CT_PROTO_DST, ORIGINAL),
                CtKey::ReplySource(Family::V4) => (NFT_CT_SRC_IP, REPLY),
                CtKey::ReplySource(Family::V6) => (NFT_CT_SRC_IP6, REPLY),
                CtKey::ReplySourcePort => (NFT_CT_PROTO_SRC, REPLY),
            };
            writer.number(NFTA_CT_DREG, register(*to));
            writer.number(NFTA_CT_KEY, key);
            if let Some(direction) = direction {
                writer.attribute(NFTA_CT_DIRECTION, direction);
            }
        }
        Expr::FibType { of, to } => {
            let flags = match of {
                FibAddress::Source => NFTA_FIB_F_SADDR,
                FibAddress::Destination => NFTA_FIB_F_DADDR,
            };
            writer.number(NFTA_FIB_DREG, register(*to));
            writer.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            writer.number(NFTA_FIB_FLAGS, flags);
        }
        _ => {}
    }
}

fn with_set(writer: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Lookup { set, from, then } => {
            writer.string(NFTA_LOOKUP_SET, set);
            writer.number(NFTA_LOOKUP_SREG, register(*from));
            match then {
                Found::Continue => {}
                Found::ContinueIfAbsent => writer.number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV),
                Found::Load(to) => writer.number(NFTA_LOOKUP_DREG, register(*to)),
                Found::Execute => writer.number(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
            }
        }
        Expr::Remember { map, key, data, timeout } => {
            writer.string(NFTA_DYNSET_SET_NAME, map);
            writer.number(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
            writer.number(NFTA_DYNSET_SREG_KEY, register(*key));
            writer.number(NFTA_DYNSET_SREG_DATA, register(*data));
            writer.attribute(NFTA_DYNSET_TIMEOUT, &timeout.to_be_bytes());
        }
        Expr::Forget { map, key, data } => {
            writer.string(NFTA_DYNSET_SET_NAME, map);
            writer.number(NFTA_DYNSET_OP, NFT_DYNSET_OP_DELETE);
            writer.number(NFTA_DYNSET_SREG_KEY, register(*key));
            // Maps must name a data register that has been loaded, though deleting reads none.
            writer.number(NFTA_DYNSET_SREG_DATA, register(*data));
        }
        Expr::Count { set, key } => {
            writer.string(NFTA_DYNSET_SET_NAME, set);
            writer.number(NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD);
            writer.number(NFTA_DYNSET_SREG_KEY, register(*key));
        }
        _ => {}
    }
}

fn known(name: &str, data: Attributes<'_>) -> Option<Expr> {
    match name {
        "payload" | "meta" | "ct" | "fib" => known_loading(name, data),
        "cmp" => Some(Expr::Cmp {
            from: data.register(NFTA_CMP_SREG)?,
            op: match data.number(NFTA_CMP_OP)? {
                NFT_CMP_EQ => CmpOp::Equal,
                NFT_CMP_NEQ => CmpOp::Different,
                _ => return None,
            },
            value: data.constant(NFTA_CMP_DATA)?,
        }),
        "bitwise" => Some(Expr::Bitwise {
            from: data.register(NFTA_BITWISE_SREG)?,
            to: data.register(NFTA_BITWISE_DREG)?,
            mask: data.constant(NFTA_BITWISE_MASK)?,
            xor: data.constant(NFTA_BITWISE_XOR)?,
        }),
        "immediate" if data.number(NFTA_IMMEDIATE_DREG)? == NFT_REG_VERDICT => {
            decode_verdict(data.nested(NFTA_IMMEDIATE_DATA)?).map(Expr::Verdict)
        }
        "immediate" => Some(Expr::Immediate {
            to: data.register(NFTA_IMMEDIATE_DREG)?,
            value: data.constant(NFTA_IMMEDIATE_DATA)?,
        }),
        "lookup" | "dynset" => known_with_set(name, data),
        "numgen" => Some(Expr::Numgen {
            modulus: data.number(NFTA_NG_MODULUS)?,
            to: data.register(NFTA_NG_DREG)?,
        })
        .filter(|_| data.number(NFTA_NG_TYPE) == Some(NFT_NG_RANDOM))
        .filter(|_| data.number(NFTA_NG_OFFSET).unwrap_or(0) == 0),
        "nat" => Some(Expr::Dnat {
            family: family(|known| {
                data.number(NFTA_NAT_FAMILY) == Some(protocol_family(known).into())
            })?,
            address: data.register(NFTA_NAT_REG_ADDR_MIN)?,
            port: data.register(NFTA_NAT_REG_PROTO_MIN)?,
        })
        .filter(|_| data.number(NFTA_NAT_TYPE) == Some(NFT_NAT_DNAT)),
        "masq" => (data.number(NFTA_MASQ_FLAGS).unwrap_or(0) == 0
            && data.number(NFTA_MASQ_REG_PROTO_MIN).is_none())
        .then_some(Expr::Masquerade),
        "reject" => known_reject(data).map(|with| Expr::Reject { with }),
        _ => None,
    }
}

fn known_reject(data: Attributes<'_>) -> Option<RejectWith> {
    match data.number(NFTA_REJECT_TYPE)? {
        NFT_REJECT_TCP_RST => Some(RejectWith::TcpReset),
        NFT_REJECT_ICMP_UNREACH => {
            let code = data.get(NFTA_REJECT_ICMP_CODE)?;
            family(|known| code == [port_unreachable(known)]).map(RejectWith::PortUnreachable)
        }
        _ => None,
    }
}

const ORIGINAL: Option<&[u8]> = Some(&[IP_CT_DIR_ORIGINAL]);
const REPLY: Option<&[u8]> = Some(&[IP_CT_DIR_REPLY]);

fn known_loading(name: &str, data: Attributes<'_>) -> Option<Expr> {
    match name {
        "payload" => Some(Expr::Payload {
            header: match data.number(NFTA_PAYLOAD_BASE)? {
                NFT_PAYLOAD_NETWORK_HEADER => Header::Network,
                NFT_PAYLOAD_TRANSPORT_HEADER => Header::Transport,
                _ => return None,
            },
            offset: data.number(NFTA_PAYLOAD_OFFSET)?,
            len: data.number(NFTA_PAYLOAD_LEN)?,
            to: data.register(NFTA_PAYLOAD_DREG)?,
        }),
        "meta" => match (data.number(NFTA_META_KEY)?, data.register(NFTA_META_DREG)) {
            (NFT_META_MARK, Some(to)) => Some(Expr::Meta { key: MetaKey::Mark, to }),
            (NFT_META_IIFNAME, Some(to)) => Some(Expr::Meta { key: MetaKey::IifName, to }),
            (NFT_META_L4PROTO, Some(to)) => Some(Expr::Meta { key: MetaKey::L4Proto, to }),
            (NFT_META_MARK, None) => Some(Expr::SetMark { from: data.register(NFTA_META_SREG)? }),
            _ => None,
        },
        "ct" => Some(Expr::Ct {
            key: match (data.number(NFTA_CT_KEY)?, data.get(NFTA_CT_DIRECTION)) {
                (NFT_CT_STATE, _) => CtKey::State,
                (NFT_CT_STATUS, _) => CtKey::Status,
                (NFT_CT_DIRECTION, _) => CtKey::Direction,
                (NFT_CT_PROTOCOL, _) => CtKey::Protocol,
                (NFT_CT_DST_IP, ORIGINAL) => CtKey::OriginalDestination(Family::V4),
                (NFT_CT_DST_IP6, ORIGINAL) => CtKey::OriginalDestination(Family::V6),
                (NFT_CT_PROTO_DST, ORIGINAL) => CtKey::OriginalPort,
                (NFT_CT_SRC_IP, REPLY) => CtKey::ReplySource(Family::V4),
                (NFT_CT_SRC_IP6, REPLY) => CtKey::ReplySource(Family::V6),
                (NFT_CT_PROTO_SRC, REPLY) => CtKey::ReplySourcePort,
                _ => return None,
            },
            to: data.register(NFTA_CT_DREG)?,
        }),
        _ => Some(Expr::FibType {
            of: match data.number(NFTA_FIB_FLAGS)? {
                NFTA_FIB_F_SADDR => FibAddress::Source,
                NFTA_FIB_F_DADDR => FibAddress::Destination,
                _ => return None,
            },
            to: data.register(NFTA_FIB_DREG)?,
        })
        .filter(|_| data.number(NFTA_FIB_RESULT) == Some(NFT_FIB_RESULT_ADDRTYPE)),
    }
}

fn known_with_set(name: &str, data: Attributes<'_>) -> Option<Expr> {
    if name == "lookup" {
        let inverted = data.number(NFTA_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0;
        return Some(Expr::Lookup {
            set: data.string(NFTA_LOOKUP_SET)?.to_owned().into(),
            from: data.register(NFTA_LOOKUP_SREG)?,
            then: match data.number(NFTA_LOOKUP_DREG) {
                None if inverted => Found::ContinueIfAbsent,
                None => Found::Continue,
                Some(NFT_REG_VERDICT) => Found::Execute,
                Some(_) => Found::Load(data.register(NFTA_LOOKUP_DREG)?),
            },
        });
    }
    let map = data.string(NFTA_DYNSET_SET_NAME)?.to_owned().into();
    let key = data.register(NFTA_DYNSET_SREG_KEY)?;
    match data.number(NFTA_DYNSET_OP)? {
        NFT_DYNSET_OP_DELETE => {
            Some(Expr::Forget { map, key, data: data.register(NFTA_DYNSET_SREG_DATA)? })
        }
        NFT_DYNSET_OP_ADD => Some(Expr::Count { set: map, key }),
        NFT_DYNSET_OP_UPDATE => Some(Expr::Remember {
            map,
            key,
            data: data.register(NFTA_DYNSET_SREG_DATA)?,
            timeout: u64::from_be_bytes(data.get(NFTA_DYNSET_TIMEOUT)?.try_into().ok()?),
        }),
        _ => None,
    }
}

impl Attributes<'_> {
    /// The kernel prints registers at 16 byte boundaries by their old names `NFT_REG_1` to
    /// `NFT_REG_4`.
    fn register(self, kind: u16) -> Option<Reg> {
        let number = self.number(kind)?;
        let number = match number {
            1..=4 => (number - 1) * 4,
            NFT_REG32_00.. => number - NFT_REG32_00,
            _ => return None,
        };
        u8::try_from(number).ok().map(Reg)
    }

    fn constant(self, kind: u16) -> Option<Vec<u8>> {
        self.nested(kind)?.get(NFTA_DATA_VALUE).map(<[u8]>::to_vec)
    }
}

fn constant(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nested(kind, |writer| writer.attribute(NFTA_DATA_VALUE, value));
}

fn register(reg: Reg) -> u32 {
    NFT_REG32_00 + u32::from(reg.0)
}

fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => ICMP_PORT_UNREACH,
        Family::V6 => ICMPV6_PORT_UNREACH,
    }
}

fn family(is: impl Fn(Family) -> bool) -> Option<Family> {
    Family::ALL.into_iter().find(|family| is(*family))
}
