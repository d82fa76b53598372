//! Repair of what allocation has written (semantics 2.4, 2.5).
//!
//! What it is: loops. One makes IPAddress objects agree with Services, one makes the pool of node
//! ports agree with them, one gives ServiceCIDRs their finalizer and condition, one lets Events
//! expire.
//!
//! What it is not: it never changes a Service. What only people can decide becomes an event (A22).

mod addresses;
mod cidrs;
mod events;
mod ports;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::registry::Registry;
use crate::registry::own;

/// Starts the loops on the current runtime.
pub(crate) fn spawn(registry: &Arc<Registry>) {
    own::spawn(registry, addresses::Repair::default());
    own::spawn(registry, ports::Repair::default());
    own::spawn(registry, cidrs::Lifecycle);
    own::spawn(registry, events::Expiry);
}

/// Whole seconds since a time in `metadata`; 0 when it cannot be read.
fn seconds_since(object: &Value, field: &str, now: Timestamp) -> i64 {
    let then = meta::text(object, field).parse::<Timestamp>();
    then.map_or(0, |then| now.duration_since(then).as_secs())
}
