//! The server as its clients see it: over HTTPS, with nothing replaced but the kubelet.

mod harness;
mod kubectl;
mod kubelet;
mod objects;
mod requests;
