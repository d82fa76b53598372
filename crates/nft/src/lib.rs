//! NodeView to nftables over raw netlink, conntrack clean-up, and a fake kernel.
//!
//! What it is: the dataplane. It turns the plan of one node into two tables
//! (`ip portolan` and `ip6 portolan`), sends the kernel only what differs, as
//! one transaction, and reads the tables back to compare and repair them.
//!
//! What it is not: it chooses no endpoint and no policy ([`model::NodeView`]
//! says all of that), and it never runs the `nft` program.
//!
//! ```text
//!  NodeView ──▶ Layout ──▶ Vec<Op> ──▶ netlink bytes ──▶ kernel.rs ──▶ nf_tables
//!   (pure)      (pure)     (pure)          (pure)            │ read back
//!                 ▲                                          ▼
//!                 └──────────── diff(have, want) ◀─────── Ruleset
//! ```
//!
//! [`Fake`] takes the place of `kernel.rs` in tests: it holds the same tables
//! and traces packets through their rules.

mod conntrack;
mod counters;
mod damage;
mod dataplane;
mod diff;
mod error;
mod exchange;
pub mod expr;
mod fake;
mod firewall;
mod foreign;
mod kernel;
mod layout;
mod netlink;
mod readback;
mod repair;
mod requirements;
pub mod ruleset;
mod socket;
mod stale;
pub mod sysctl;
mod trace;
mod watch;

pub use conntrack::Cleanup;
pub use counters::{Counters, Counts, EndpointCounts, Meter, Retired};
pub use damage::{Change, Damage, Mended, Part, Parts, Scope};
pub use dataplane::{Affinity, Dataplane, Netfilter, Sent, Settings, Synced};
pub use diff::diff;
pub use error::Error;
pub use fake::Fake;
pub use firewall::{
    Firewall, FirewallChain, FirewallChainError, Opened, RuleTables, RuleWatch, SERVICES_COMMENT,
};
pub use foreign::ForeignTables;
pub use kernel::Kernel;
pub use layout::{Layout, Update};
pub use netlink::encoded;
pub use requirements::{Missing, NotForwarding, missing, not_forwarding};
pub use ruleset::{Op, Ruleset};
pub use stale::{Stale, Target};
pub use watch::Watch;
