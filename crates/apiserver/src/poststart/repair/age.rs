//! How old something is.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;

/// Whole seconds since a time in `metadata`; 0 when it cannot be read.
pub(super) fn seconds_since(object: &Value, field: &str, now: Timestamp) -> i64 {
    let then = meta::text(object, field).parse::<Timestamp>();
    then.map_or(0, |then| now.duration_since(then).as_secs())
}
