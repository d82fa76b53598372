//! Constructors of field errors with upstream's texts (apimachinery `util/validation/field`).

use serde_json::Value;

use crate::status::{CauseReason, FieldError, quote};

/// The value is malformed.
pub(crate) fn invalid(
    field: impl Into<String>,
    value: impl Into<Value>,
    why: impl AsRef<str>,
) -> FieldError {
    let message = format!("Invalid value: {}: {}", shown(&value.into()), why.as_ref());
    FieldError { field: field.into(), reason: CauseReason::Invalid, message }
}

/// The value is missing. `why` may be empty.
pub(crate) fn required(field: impl Into<String>, why: &str) -> FieldError {
    let message = explained("Required value", why);
    FieldError { field: field.into(), reason: CauseReason::Required, message }
}

/// The value occurs twice.
pub(crate) fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
    let message = format!("Duplicate value: {}", shown(&value.into()));
    FieldError { field: field.into(), reason: CauseReason::Duplicate, message }
}

/// The value occurs twice; `shown` is how upstream prints it.
pub(crate) fn duplicate_shown(field: impl Into<String>, shown: &str) -> FieldError {
    let message = format!("Duplicate value: {shown}");
    FieldError { field: field.into(), reason: CauseReason::Duplicate, message }
}

/// The value is malformed; `shown` is how upstream prints it.
pub(crate) fn invalid_shown(field: impl Into<String>, shown: &str, why: &str) -> FieldError {
    let message = format!("Invalid value: {shown}: {why}");
    FieldError { field: field.into(), reason: CauseReason::Invalid, message }
}

/// The value is none of the known ones. They are listed in the given order.
pub(crate) fn not_supported(
    field: impl Into<String>,
    value: impl Into<Value>,
    supported: &[&str],
) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|value| quote(value)).collect();
    let message = format!(
        "Unsupported value: {}: supported values: {}",
        shown(&value.into()),
        supported.join(", ")
    );
    FieldError { field: field.into(), reason: CauseReason::NotSupported, message }
}

/// The value may not be given here.
pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> FieldError {
    let message = explained("Forbidden", why);
    FieldError { field: field.into(), reason: CauseReason::Forbidden, message }
}

/// The text has too many bytes.
pub(crate) fn too_long(field: impl Into<String>, bytes: usize) -> FieldError {
    let message = format!("Too long: may not be more than {bytes} bytes");
    FieldError { field: field.into(), reason: CauseReason::TooLong, message }
}

/// The list has too many items.
pub(crate) fn too_many(field: impl Into<String>, actual: usize, limit: usize) -> FieldError {
    let message = format!("Too many: {actual}: must have at most {limit} items");
    FieldError { field: field.into(), reason: CauseReason::TooMany, message }
}

/// The value is not there.
pub(crate) fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
    let message = format!("Not found: {}", shown(&value.into()));
    FieldError { field: field.into(), reason: CauseReason::NotFound, message }
}

/// The value may not change.
pub(crate) fn immutable(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
    invalid(field, value, IMMUTABLE)
}

/// One error per text, all about the same value.
pub(crate) fn each(
    field: impl Into<String>,
    value: impl Into<Value>,
    why: Vec<String>,
) -> Vec<FieldError> {
    let (field, value) = (field.into(), value.into());
    why.into_iter().map(|why| invalid(field.clone(), value.clone(), why)).collect()
}

/// Text of [`immutable`].
pub(crate) const IMMUTABLE: &str = "field is immutable";

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        value => value.to_string(),
    }
}

fn explained(text: &str, why: &str) -> String {
    if why.is_empty() { text.to_owned() } else { format!("{text}: {why}") }
}
