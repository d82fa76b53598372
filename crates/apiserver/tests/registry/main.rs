//! Requests against a registry over a real store.

mod allocation;
mod bootstrap;
mod lists;
mod pods;
mod support;
mod writes;
