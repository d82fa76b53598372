//! A Kubernetes API as a source of changes and a sink of writes, over kube-rs.
//!
//! What it is: the only crate that speaks to an API server. It lists and watches
//! ([`source`], [`Client::watch_raw`], [`Client::watch_metadata`]), carries out
//! [`model::Write`]s ([`Sink`]), finds out which resources exist
//! ([`Client::resources`]), renews leases ([`lease`]) and asks for service account
//! tokens ([`Client::request_token`]).
//!
//! What it is not: it decides nothing and remembers nothing about the cluster. It
//! works against any Kubernetes API server, not only against our own.
//!
//! ```text
//!  API server ─ list, watch ─▶ Raw ─ wire::to_model ─▶ Change ─▶ Batch ─▶ daemon
//!  API server ◀─ request ─ Call ◀─ wire::from_model ─ model::Write ◀─ Sink ◀─ daemon
//! ```
//!
//! A watch never ends by itself: a lost server is reconnected to with a growing
//! delay, and nothing is said to be gone before a new list was complete (invariant 5
//! of the architecture).

mod client;
mod discovery;
pub mod lease;
mod metadata;
mod passage;
mod raw;
mod sink;
mod source;
mod token;

pub use client::{Client, ConnectError, RequestError};
pub use metadata::{MetadataEvent, MetadataWatch};
pub use passage::{Exchange, Observer};
pub use raw::{RawEvent, RawWatch, Selectors};
pub use sink::{Sink, WriteError, Written};
pub use source::{Batch, Rejected, Source, SourceOptions, resource_of, source};
pub use token::{Token, TokenRequest};
