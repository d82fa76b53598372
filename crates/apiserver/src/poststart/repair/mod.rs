//! Repair of what allocation has written (semantics 2.4, 2.5).
//!
//! What it is: loops. One makes IPAddress objects agree with Services, one makes the pool of node
//! ports agree with them, one gives ServiceCIDRs their finalizer and condition, one lets Events
//! expire.
//!
//! What it is not: it never changes a Service. What only people can decide becomes an event (A22).

mod addresses;
mod age;
mod cidrs;
mod events;
mod ports;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::pass;
use crate::registry::Registry;

/// Starts the loops on the current runtime.
pub(crate) fn spawn(registry: &Arc<Registry>) {
    pass::spawn(registry, addresses::Repair::default());
    pass::spawn(registry, ports::Repair::default());
    pass::spawn(registry, cidrs::Lifecycle);
    pass::spawn(registry, events::Expiry);
}
