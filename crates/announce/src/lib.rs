//! Announcing load balancer addresses on the external network.
//!
//! What it is: the node that owns an address answers ARP (RFC 826) and Neighbour
//! Discovery (RFC 4861) for it, and tells the network when it takes it over. Nodes
//! hear each other through small multicast heartbeats, so that a dead owner is
//! replaced within a second without asking the API server.
//!
//! What it is not: it does not choose owners (`plan::adverts` does, from the set of
//! living nodes given here), and it puts no address on any interface.
//!
//! ```text
//!  heartbeats ─▶ Membership ─▶ alive ─▶ plan::adverts ─▶ owned
//!                                                          │
//!  ARP, NDP requests ─────────▶ Responder ◀───────────────┘
//!                                  └─▶ replies, gratuitous announcements
//! ```
//!
//! [`Membership`] and [`Responder`] are machines: bytes and ticks in, bytes and timers
//! out. `run.rs` owns the sockets; nothing else does I/O.

mod frame;
mod membership;
mod responder;
mod run;
mod socket;

pub use frame::{Frame, MacAddress, Query};
pub use membership::{Alive, Heartbeat, Membership, State, Timing};
pub use responder::Responder;
pub use run::{Announcer, Error, Settings};
