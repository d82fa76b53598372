//! namespace: rules to be filled in.

use serde_json::Value;

use crate::kinds::Env;
use crate::status::FieldError;

pub(crate) fn default(_: &mut Value, _: &Env) {}

pub(crate) fn prepare_create(_: &mut Value, _: &Env) {}

pub(crate) fn prepare_update(_: &mut Value, _: &Value, _: &Env) {}

pub(crate) fn validate_create(_: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_status(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn selectable_fields(_: &Value) -> Vec<(&'static str, String)> {
    Vec::new()
}
