//! The loops against the embedded API server.

mod agent;
mod controller;
mod lease;
mod support;
