//! event: rules to be filled in.

use serde_json::Value;

use crate::kinds::Env;
use crate::status::FieldError;

pub(crate) fn default(_: &mut Value, _: &Env) {}

pub(crate) fn validate_create(_: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn selectable_fields(_: &Value) -> Vec<(&'static str, String)> {
    Vec::new()
}

pub(crate) fn to_core(_: &mut Value) {}

pub(crate) fn from_core(_: &mut Value) {}

pub(crate) fn default_new(_: &mut Value, _: &Env) {}

pub(crate) fn validate_create_new(_: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn validate_update_new(_: &Value, _: &Value, _: &Env) -> Vec<FieldError> {
    Vec::new()
}

pub(crate) fn selectable_fields_new(_: &Value) -> Vec<(&'static str, String)> {
    Vec::new()
}
