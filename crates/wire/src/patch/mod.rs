//! JSON patch, merge patch and strategic merge patch.

use serde_json::Value;

use crate::decode::{Decoded, FieldValidation};
use crate::schema::Gvk;
use crate::status::Failure;

/// Kind of a patch body (apply is in `crate::apply`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own, with merge keys and directives.
    Strategic,
}

/// Parses a patch body. Failures are 400.
pub fn parse(_kind: PatchKind, _body: &[u8]) -> Result<Value, Failure> {
    todo!()
}

/// Patches `current` and decodes the result as `gvk`. Failures are 400, 422 or 500 as the real
/// server answers. The result has not been defaulted or validated.
pub fn patch(
    _kind: PatchKind,
    _current: &Value,
    _patch: &Value,
    _gvk: Gvk<'_>,
    _validation: FieldValidation,
) -> Result<Decoded, Failure> {
    todo!()
}
