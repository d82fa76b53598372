//! Server-side apply and managedFields (KEP-555).

use serde_json::Value;

use crate::decode::{Decoded, FieldValidation};
use crate::schema::Gvk;
use crate::status::Failure;

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the default one from the User-Agent.
    pub manager: &'a str,
    /// Subresource written through, empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339 time with seconds, such as `2026-11-23T12:00:00Z`.
    pub now: &'a str,
}

/// Parses an apply body: YAML, of which JSON is a part. Failures are 400.
pub fn parse(_body: &[u8], _validation: FieldValidation) -> Result<Decoded, Failure> {
    todo!()
}

/// Sets `new.metadata.managedFields` after a create (`live` is `None`), update or patch by
/// `writer`. Call it after defaulting and before allocation (what the server fills in later has
/// no owner). `new` may carry managedFields of its own: they replace the live ones, an empty list
/// clears all ownership. A write that changes nothing keeps the old times.
pub fn track_update(_live: Option<&Value>, _new: &mut Value, _gvk: Gvk<'_>, _writer: &Writer<'_>) {
    todo!()
}

/// Merges an applied configuration into `live` (`None`: the object does not exist yet). The answer
/// is the whole new object with its managedFields, not yet defaulted or validated; an apply that
/// changes nothing returns an object equal to `live`. Failures are 409 with all conflicts, or
/// 500 for fields the schema does not know (as the real server answers).
pub fn apply(
    _live: Option<&Value>,
    _config: &Value,
    _gvk: Gvk<'_>,
    _writer: &Writer<'_>,
    _force: bool,
) -> Result<Value, Failure> {
    todo!()
}
