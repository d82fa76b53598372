//! The server as its clients see it: over HTTPS, with nothing replaced but the kubelet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod custom;
mod fuzz;
mod gzip;
mod harness;
mod kubectl;
mod kubelet;
mod limits;
mod objects;
mod requests;
mod rights;
