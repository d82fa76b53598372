//! lease: rules to be filled in.

use serde_json::Value;

use crate::kinds::Env;
use crate::status::FieldError;

pub(crate) fn validate_create(_: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}
