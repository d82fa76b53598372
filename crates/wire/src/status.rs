//! `metav1.Status` and the field errors inside it.

use serde_json::{Value, json};

/// Why one field is wrong: one `Status.details.causes` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// Path such as `spec.ports[0].port`.
    pub field: String,
    /// Machine-readable kind of the error.
    pub reason: CauseReason,
    /// The cause's message, without the field: `Invalid value: 0: must be between 1 and 65535`.
    pub message: String,
}

/// `Status.details.causes[].reason` (apimachinery field.ErrorType).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CauseReason {
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueTooLong`.
    TooLong,
    /// `FieldValueTooMany`.
    TooMany,
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
    /// `FieldValueNotFound`.
    NotFound,
    /// `InternalError`.
    Internal,
}

/// An answer that is a failure.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `reason`, such as `NotFound`; empty when the real server leaves it out.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `details`, `Null` when absent.
    pub details: Value,
}

impl Failure {
    /// The `metav1.Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_str().into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
