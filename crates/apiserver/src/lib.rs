//! The embedded Kubernetes API server.
//!
//! What it is: HTTPS, authentication, discovery, storage, watch and tables over the
//! table of kinds in `wire`; addresses and node ports come from `plan`.
//!
//! What it is not: it knows no rule of any kind by heart; those stand in `wire`.
//!
//! ```text
//!  TLS ─▶ http (authenticate, route, decode) ─▶ api::Request ─▶ registry ─▶ store (redb)
//!                                      poststart (own objects) ─▶ │           │
//!  bytes ◀─ http (JSON, table, protobuf, watch frames) ◀─ api::Answer ◀────── watch cache
//! ```

mod alloc;
pub mod api;
mod audit;
mod auth;
mod authz;
pub mod config;
mod definitions;
mod discovery;
mod encode;
mod http;
mod id;
pub mod inherit;
mod meta;
mod percent;
pub mod poststart;
mod proxy;
mod refusal;
pub mod registry;
mod resources;
mod reviews;
pub mod run;
mod store;
pub mod tls;
mod watch;
