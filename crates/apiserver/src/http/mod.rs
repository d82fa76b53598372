//! HTTP: from a connection to an answer.
//!
//! ```text
//!  accept ─▶ TLS ─▶ serve: authenticate ─▶ authorize ─▶ path ─┬─▶ discovery, health, metrics
//!                                                             ├─▶ proxy (log, exec, port-forward)
//!                                                             └─▶ input ─▶ registry ─▶ output
//! ```

pub(crate) mod accept;
mod call;
pub(crate) mod duration;
mod gzip;
mod health;
mod inflight;
mod input;
mod metrics;
pub(crate) mod negotiate;
mod output;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod reply;
mod resource;
mod serve;
mod server;

pub(crate) use call::Call;
pub(crate) use inflight::Inflight;
pub(crate) use metrics::Metrics;
pub(crate) use server::Server;
