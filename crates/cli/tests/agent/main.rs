//! The shipped agent as a process in a network namespace of its own, against the shipped API server:
//! who it is, what it survives, what it may do, and when it ends.

mod api;
mod capabilities;
mod configuration;
mod credentials;
mod host;
mod kernel;
mod outages;
mod place;
mod process;
mod relay;
mod rights;
