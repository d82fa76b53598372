//! Protobuf bodies of the served kinds: `k8s\0`, `runtime.Unknown`, message.

use serde_json::Value;

/// Why bytes are not a message, or an object has no message form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No type of this name in the schema.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
}

/// Whether bytes carry the protobuf magic.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(b"k8s\0")
}

/// Decodes a `k8s\0` envelope. The kind is taken from the envelope.
pub fn decode(_body: &[u8]) -> Result<Value, Error> {
    todo!()
}

/// Encodes any object of a known kind, a list of them, a `Status`, a `Table` or a
/// `PartialObjectMetadata` into its `k8s\0` envelope.
pub fn encode(_object: &Value) -> Result<Vec<u8>, Error> {
    todo!()
}

/// One frame of a protobuf watch stream: a 4-byte big-endian length, then `metav1.WatchEvent`.
pub fn watch_frame(_event: &str, _object: &Value) -> Result<Vec<u8>, Error> {
    todo!()
}
