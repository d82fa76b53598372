//! The server as its clients see it: over HTTPS, with nothing replaced but the kubelet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod custom;
mod harness;
mod kubectl;
mod kubelet;
mod objects;
mod requests;
mod rights;
