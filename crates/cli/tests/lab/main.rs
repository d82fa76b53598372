//! The whole lab, with the shipped binary, the real kernel and the real kubectl.
//!
//! ```text
//!  test ─▶ portolan up --detach ─▶ kubectl, portolan exec ─▶ answers
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a failed test shows the logs of its lab")]

mod announcing;
mod bad_days;
mod endpoints;
mod harness;
mod kubectl;
mod leftovers;
mod lifecycle;
mod manifests;
mod names;
mod nodes;
mod reach;
mod rights;
