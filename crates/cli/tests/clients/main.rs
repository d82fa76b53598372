//! Clients that other people wrote, against the API server that the shipped binary runs.
//!
//! ```text
//!  test ─▶ portolan apiserver ◀─ HTTPS ─ Python kubernetes, Node @kubernetes/client-node, kube-rs
//! ```
//!
//! `scripts/setup` installs the clients that are not Rust; without them their tests are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod custom;
mod harness;
mod kube_rs;
mod node;
mod protobuf;
mod python;
