//! Requests against a registry over a real store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod allocation;
mod bootstrap;
mod lists;
mod pods;
mod support;
mod writes;
