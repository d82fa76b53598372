//! `core/v1` ServiceAccount.

use serde_json::Value;

use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// All errors of a new ServiceAccount.
pub(crate) fn validate_create(account: &Value, _: &Env) -> Vec<FieldError> {
    meta::validate(account, true, text::dns_subdomain)
}

/// All errors of a changed ServiceAccount.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create(new, env));
    errors
}
