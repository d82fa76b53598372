//! endpoints: rules to be filled in.

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

pub(crate) fn warnings(_: &Value, _: Option<&Value>) -> Vec<String> {
    Vec::new()
}

pub(crate) const DEPRECATION: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
