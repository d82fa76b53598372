//! Every decision of Portolan as pure functions over the model.
//!
//! What it is: the verbs. Given a [`model::Cluster`] (and the time, where time
//! matters) each function returns what to do and why; the same input gives the
//! same answer, byte for byte.
//!
//! What it is not: it does nothing. It reads no clock, draws no random number,
//! writes no log and knows no JSON.
//!
//! ```text
//!             ┌─ service, node_view ──────────────▶ NodeView  ─▶ nft
//!             ├─ adverts ─────────────────────────▶ Adverts   ─▶ announce
//!  Cluster ──▶├─ slices, endpoints, mirroring ─┐
//!             ├─ deployment, replica_set       ├──▶ Reconciled (Write, …) ─▶ cluster
//!             ├─ schedule, load_balancer       │
//!             └─ namespace, garbage, node_health
//!  ranges ───▶  allocate ─────────────────────────▶ address, port ─▶ apiserver
//! ```

mod adverts;
pub mod allocate;
mod choice;
mod claims;
mod deployment;
mod deployment_status;
mod endpoints;
mod events;
mod garbage;
mod load_balancer;
mod mirroring;
mod namespace;
mod node_cidrs;
mod node_health;
mod node_view;
mod packing;
mod reconciled;
mod replica_set;
mod rollout;
mod schedule;
mod selected;
mod service;
mod slices;
mod template;
mod time;
mod topology;
mod touched;

pub use adverts::adverts;
pub use deployment::deployment;
pub use endpoints::endpoints;
pub use garbage::{Inventory, garbage};
pub use load_balancer::{AddressPool, load_balancer};
pub use mirroring::mirroring;
pub use namespace::namespace;
pub use node_cidrs::{BadClusterCidrs, ClusterCidrs, node_cidrs};
pub use node_health::node_health;
pub use node_view::{
    AgentSettings, DetectorMode, NodePortAddresses, Planner, affected, context, node_view,
};
pub use reconciled::Reconciled;
pub use replica_set::{Expectations, replica_set};
pub use schedule::schedule;
pub use service::service;
pub use slices::slices;
pub use touched::{Touched, touched};
