//! Packets and what should happen to them: the nouns of `verdict` and of stories.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::address::Protocol;
use crate::name::NodeName;
use crate::reason::Reason;

/// The first packet of a connection, seen at the node that handles it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The node whose dataplane sees it.
    pub node: NodeName,
    /// Whether a process of that node sent it (output hook) rather than forwarded.
    pub from_node: bool,
    /// Interface it arrived on; empty for `from_node`.
    pub interface: String,
    /// Transport.
    pub protocol: Protocol,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
}

/// What should happen, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// All outcomes that are right.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<Reason>,
}

/// What happens to a new connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Goes to one of these, seen there from `source`.
    Delivered {
        /// Each is right; a balancer must use all of them over time.
        to: BTreeSet<SocketAddr>,
        /// Whether the source address is replaced by the node's, per destination that differs
        /// (hairpin): destinations in this set see the node as the source.
        masqueraded: BTreeSet<SocketAddr>,
    },
    /// Refused at once.
    Rejected,
    /// Ignored silently.
    Dropped,
    /// Not ours: routed as if we were not there, to this address.
    Untouched(IpAddr),
}
