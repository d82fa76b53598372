//! The loops against the embedded API server.

mod agent;
mod controller;
mod dns;
mod lease;
mod support;
