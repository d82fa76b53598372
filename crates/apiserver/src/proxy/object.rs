//! The pod, node, Service or Endpoints that a path names.

use wire::status::{self, Failure};

use crate::http::Server;

/// An object that a path names.
pub(super) fn object(
    server: &Server,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<serde_json::Value, Failure> {
    let stored = wire::kinds::find("", "v1", plural)
        .and_then(|row| server.registry.get(row, namespace, name))
        .ok_or_else(|| status::not_found("", plural, name))?;
    serde_json::from_slice(&stored.json).map_err(|error| status::internal(&error.to_string()))
}
