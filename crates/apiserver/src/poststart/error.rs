//! What can go wrong before the first request.

/// Why an object cannot be made.
#[derive(thiserror::Error, Debug)]
#[error("cannot write {object}: {message}")]
pub struct BootstrapError {
    /// Resource and name.
    pub object: String,
    /// What the registry said.
    pub message: String,
}
