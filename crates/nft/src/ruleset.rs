//! Tables as plain data, and the operations that lead from one to another.
//!
//! The same [`Ruleset`] is what [`crate::Layout`] wants, what the kernel is read
//! back as, and what [`crate::Fake`] holds.

use std::collections::BTreeMap;

use model::Family;

use crate::expr::{Expr, Name, Verdict};

/// Name of our table in each family.
pub const TABLE: &str = "portolan";

/// Our tables, by family. A family without a table is absent.
pub type Ruleset = BTreeMap<Family, Table>;

/// One table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Sets and maps.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
    /// Whether it is switched off (`NFT_TABLE_F_DORMANT`): no packet sees its chains.
    pub dormant: bool,
}

/// A set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// Its type.
    pub spec: SetSpec,
    /// Its elements; empty if they come from packets.
    pub elements: Elements,
    /// Whether the kernel holds elements that are not among these: it is cheaper to put others in
    /// their place than to read them ([`crate::Netfilter::read_for`]).
    pub unread: Unread,
}

/// Whether a set holds elements that have not been read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Unread {
    /// It does not.
    #[default]
    None,
    /// It may.
    Possible,
    /// It does.
    Certain,
}

/// Elements of a set (data [`Data::None`]) or map.
pub type Elements = BTreeMap<Key, Data>;

/// The type of a set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetSpec {
    /// Fields of the key.
    pub key: Vec<Field>,
    /// What it maps to.
    pub data: DataSpec,
    /// Whether elements are ranges of keys.
    pub interval: bool,
    /// Whether packets add elements, which then time out.
    pub dynamic: bool,
    /// Whether packets add elements, which count the packets that found them and stay.
    pub counter: bool,
}

impl SetSpec {
    /// Whether its elements come from packets.
    pub fn is_filled_by_packets(&self) -> bool {
        self.dynamic || self.counter
    }
}

/// What a map maps to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataSpec {
    /// Nothing: a set.
    None,
    /// Fields.
    Fields(Vec<Field>),
    /// Verdicts.
    Verdict,
}

/// One field of a key or of data; numbers are those of the `nft` program's `enum datatypes`, so
/// that it can print our sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `inet_proto`.
    Proto,
    /// `inet_service`: a port.
    Port,
    /// `mark`: any 32-bit number in host order.
    Number,
    /// A type that we do not use.
    Foreign(u32),
}

impl Field {
    /// Bytes of the value.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Number => 4,
            Self::Ipv6 => 16,
            Self::Proto => 1,
            Self::Port => 2,
            Self::Foreign(_) => 0,
        }
    }

    /// Bytes in registers: the value, filled to 32 bits.
    pub fn padded(self) -> u32 {
        self.bytes().next_multiple_of(4)
    }
}

/// Key of an element, as it lies in registers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The key, or the first key of a range.
    pub start: Box<[u8]>,
    /// The last key of a range (inclusive, each field by itself).
    pub end: Option<Box<[u8]>>,
}

impl Key {
    /// A single key.
    pub fn new(bytes: &[u8]) -> Self {
        Self { start: bytes.into(), end: None }
    }
}

/// What a key maps to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Data {
    /// Nothing: an element of a set.
    None,
    /// Bytes, as they lie in registers.
    Value(Box<[u8]>),
    /// A verdict.
    Verdict(Verdict),
}

/// What an element has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets as the kernel handles them: what it joins or leaves joined counts as one.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// How long an element of a dynamic map lives, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// From its last renewal.
    pub whole: u64,
    /// From now.
    pub left: u64,
}

/// A chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Where packets enter it; `None` for a chain that others jump to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// A list of expressions.
pub type Rule = Vec<Expr>;

/// How a base chain is hooked in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// `filter` or `nat`.
    pub kind: ChainKind,
    /// Where in the stack.
    pub hook: Hook,
    /// Order at the hook: lower comes first.
    pub priority: i32,
    /// What becomes of packets that no rule decides about; ours accept them.
    pub policy: Policy,
}

/// Policy of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They are dropped.
    Drop,
}

/// Type of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection.
    Nat,
}

/// `enum nf_inet_hooks` of `linux/netfilter.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// Arrived, before routing.
    Prerouting,
    /// For this node.
    Input,
    /// Through this node.
    Forward,
    /// From a process of this node.
    Output,
    /// About to leave.
    Postrouting,
}

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Creates our table of a family, or wakes it if it is dormant.
    AddTable(Family),
    /// Deletes it with all that it holds.
    DeleteTable(Family),
    /// Creates an empty chain, or changes the policy of one that is there.
    AddChain(Family, Name, Option<Base>),
    /// Deletes all rules of a chain.
    FlushChain(Family, Name),
    /// Deletes an empty chain.
    DeleteChain(Family, Name),
    /// Appends a rule to a chain.
    AddRule(Family, Name, Rule),
    /// Creates an empty set.
    AddSet(Family, Name, SetSpec),
    /// Deletes all elements of a set, of which there may be none.
    FlushSet(Family, Name),
    /// Deletes a set that no rule uses.
    DeleteSet(Family, Name),
    /// Adds elements that are not there yet.
    AddElements(Family, Name, Vec<(Key, Data)>),
    /// Add elements that time out, of a dynamic map.
    AddTimed(Family, Name, Vec<(Key, Data, Life)>),
    /// Adds elements, of a set that counts, which have counted so much already.
    AddCounted(Family, Name, Vec<(Key, Traffic)>),
    /// Deletes elements that are there.
    DeleteElements(Family, Name, Vec<Key>),
}
