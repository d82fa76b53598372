//! Cluster DNS.
//!
//! What it is: the names that Kubernetes promises (DNS-Based Service Discovery 1.1.0:
//! Services, headless endpoints, named ports, reverse names) and the names of nodes,
//! answered from a [`model::Cluster`] by the pure [`Zone`]; around it a hickory server
//! for UDP and TCP.
//!
//! What it is not: a recursive resolver. Names outside the cluster go to an upstream
//! server when one is given and are refused otherwise.
//!
//! ```text
//!  cluster source ─▶ model::Cluster ─▶ Zone ─▶ ArcSwap ─▶ Server ◀─▶ pods, nodes
//!                                                            └─▶ upstream
//! ```

mod server;
mod zone;

pub use server::{BindError, Server, Settings};
pub use zone::{Answer, Code, Data, RecordType, Resource, Zone};
