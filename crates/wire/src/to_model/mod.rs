//! Objects to model.
//!
//! As tolerant as the dataplane must be (semantics D5): a bad endpoint, port or address is left
//! out, never the whole object unless nothing sensible remains. Objects may be raw manifests:
//! defaults are applied first.

use std::fmt;
use std::sync::Arc;

use model::Object;
use serde_json::Value;

/// An object that cannot be used at all, beside which everything else goes on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct Rejected {
    /// Kind, namespace and name, such as `Service default/web`.
    pub object: String,
    /// What is wrong and with which field.
    pub reason: String,
}

/// An object of any kind that the model knows.
///
/// # Errors
/// The kind is none of the model's, or the object is beyond use.
pub fn object(value: &Value) -> Result<Object, Rejected> {
    let _ = (value, Arc::new(0), fmt::Error);
    todo!()
}
