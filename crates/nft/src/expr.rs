//! The expressions that rules are made of, by the names of `linux/netfilter/nf_tables.h`.
//!
//! A rule is a list of expressions that work on sixteen registers of 32 bits.
//! An expression that does not match ends the rule. Values lie in registers in
//! network order, except marks, counts and connection states, which the kernel
//! keeps in host order.

use std::borrow::Cow;

use model::Family;

/// Name of a chain, set or map.
pub type Name = Cow<'static, str>;

/// A 32-bit register, 0 to 15 (`NFT_REG32_00` to `NFT_REG32_15`). Longer values take the
/// following ones too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Reg(pub u8);

impl Reg {
    /// The register that many 32-bit words further.
    pub const fn plus(self, words: u8) -> Self {
        Self(self.0 + words)
    }
}

/// One expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expr {
    /// Loads bytes of a header.
    Payload {
        /// Which header.
        header: Header,
        /// Bytes from its beginning.
        offset: u32,
        /// Bytes to load.
        len: u32,
        /// Where to.
        to: Reg,
    },
    /// Loads what the kernel knows about the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where to.
        to: Reg,
    },
    /// Sets the packet mark (`meta mark set`).
    SetMark {
        /// Register with the new mark.
        from: Reg,
    },
    /// Loads what conntrack knows about the connection.
    Ct {
        /// What.
        key: CtKey,
        /// Where to.
        to: Reg,
    },
    /// Loads the type of an address by the routing table (`fib … type`).
    FibType {
        /// Which address.
        of: FibAddress,
        /// Where to (host order, `RTN_LOCAL` is 2).
        to: Reg,
    },
    /// Goes on only if the comparison holds.
    Cmp {
        /// Left side.
        from: Reg,
        /// Whether equal or different goes on.
        op: CmpOp,
        /// Right side.
        value: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        /// Operand.
        from: Reg,
        /// Result.
        to: Reg,
        /// As long as the operand.
        mask: Vec<u8>,
        /// As long as the operand.
        xor: Vec<u8>,
    },
    /// Loads a constant.
    Immediate {
        /// Where to.
        to: Reg,
        /// The constant.
        value: Vec<u8>,
    },
    /// Looks up a set or map.
    Lookup {
        /// Its name.
        set: Name,
        /// First register of the key.
        from: Reg,
        /// What to do with the answer.
        then: Found,
    },
    /// Adds an element of a dynamic map, or gives an existing one its full life again.
    Remember {
        /// Name of the map.
        map: Name,
        /// First register of the key.
        key: Reg,
        /// First register of the data (an existing element keeps its own).
        data: Reg,
        /// Life of the element from now, in milliseconds.
        timeout: u64,
    },
    /// Deletes an element of a dynamic map, if it is there.
    Forget {
        /// Name of the map.
        map: Name,
        /// First register of the key.
        key: Reg,
        /// Registers that could hold data; nothing is read from them.
        data: Reg,
    },
    /// Adds an element of a set that counts, if it is not there; it counts this packet. Goes on
    /// unless the set is full.
    Count {
        /// Name of the set.
        set: Name,
        /// First register of the key.
        key: Reg,
    },
    /// Draws a uniformly random number below `modulus` (`numgen random mod`).
    Numgen {
        /// Not 0.
        modulus: u32,
        /// Where to (host order).
        to: Reg,
    },
    /// Changes the destination of the connection.
    Dnat {
        /// Family of the address.
        family: Family,
        /// First register of the address.
        address: Reg,
        /// Register of the port.
        port: Reg,
    },
    /// Replaces the source of the connection by the address of the outgoing interface, and its
    /// port by another only if a tracked connection has it already.
    Masquerade,
    /// Refuses the packet.
    Reject {
        /// By which answer.
        with: RejectWith,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Something that we do not write; never equal to what we want.
    Foreign(String),
}

/// Which header [`Expr::Payload`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP or SCTP.
    Transport,
}

/// What [`Expr::Meta`] loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaKey {
    /// Packet mark, host order.
    Mark,
    /// Name of the incoming interface, 16 bytes filled with zeros; empty in the output hook.
    IifName,
    /// Protocol number, one byte.
    L4Proto,
}

/// What [`Expr::Ct`] loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtKey {
    /// State as a bit, host order ([`CT_STATE_NEW`]).
    State,
    /// `IPS_*` bits, host order ([`CT_STATUS_DNAT`]).
    Status,
    /// One byte: 0 if the packet goes the way of the connection's first.
    Direction,
    /// Where the client sent the connection's first packet: the address before translation,
    OriginalDestination(Family),
    /// and the port.
    OriginalPort,
    /// Protocol number, one byte; of the connection that an ICMP error is about.
    Protocol,
    /// Where answers come from: the endpoint's address, once the destination is translated,
    ReplySource(Family),
    /// and its port.
    ReplySourcePort,
}

/// Which address [`Expr::FibType`] asks about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibAddress {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// How [`Expr::Cmp`] compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CmpOp {
    /// Equal goes on.
    Equal,
    /// Different goes on.
    Different,
}

/// How [`Expr::Reject`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectWith {
    /// ICMP or ICMPv6 port unreachable.
    PortUnreachable(Family),
    /// A TCP reset (to TCP only).
    TcpReset,
}

/// What [`Expr::Lookup`] does with the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Goes on if the key is in the set.
    Continue,
    /// Goes on if the key is not in the set.
    ContinueIfAbsent,
    /// Loads the data; goes on if the key is in the map.
    Load(Reg),
    /// Executes the verdict of the map.
    Execute,
}

/// What happens to a packet, or where evaluation goes on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Ends the chain and all that lead to it.
    Accept,
    /// Throws the packet away.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// Evaluates a chain, then the next rule.
    Jump(Name),
    /// Evaluates a chain instead of the remaining rules.
    Goto(Name),
}

/// `NF_CT_STATE_BIT(IP_CT_NEW)`, `linux/netfilter/nf_conntrack_common.h`.
pub const CT_STATE_NEW: u32 = 1 << 3;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`, both directions.
pub const CT_STATE_ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_INVALID_BIT`, `linux/netfilter/nf_conntrack_common.h`.
pub const CT_STATE_INVALID: u32 = 1 << 0;
/// `IPS_DST_NAT`, `linux/netfilter/nf_conntrack_common.h`.
pub const CT_STATUS_DNAT: u32 = 1 << 5;
/// `RTN_LOCAL`, `linux/rtnetlink.h`.
pub const RTN_LOCAL: u32 = 2;
