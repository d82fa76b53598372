//! What the server does to its own objects: once before the first request, then for as long as it
//! runs (kube-apiserver's post-start hooks).
//!
//! What it is: loops over kinds that write through the registry as any client would.
//!
//! What it is not: it makes nothing that users make, and answers nobody.
//!
//! ```text
//!  bootstrap    objects that every cluster has ─┐
//!  roles        roles and bindings ─────────────┼─ once, then after every change ─▶ registry
//!  definitions  what definitions add ───────────┤
//!  repair       what allocation has written ────┘
//! ```

mod bootstrap;
mod definitions;
mod error;
mod pass;
mod repair;
mod roles;

use std::sync::Arc;

use crate::registry::Registry;

pub use error::BootstrapError;

/// Makes sure that the objects every cluster has exist, and starts the loops on the current
/// runtime. They end when the last `Arc` is dropped.
///
/// # Errors
///
/// The object that cannot be written, and why.
pub async fn start(registry: &Arc<Registry>) -> Result<(), BootstrapError> {
    bootstrap::run_once(registry).await?;
    roles::reconcile(registry).await?;
    bootstrap::spawn(registry);
    roles::spawn(registry);
    repair::spawn(registry);
    definitions::spawn(registry);
    Ok(())
}
