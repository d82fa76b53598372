//! `core/v1` ConfigMap.

use serde_json::Value;

use super::error::{each, forbidden, invalid, too_long};
use super::fields::{Fields, same};
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// All errors of a new ConfigMap.
pub(crate) fn validate_create(map: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(map, true, text::dns_subdomain);
    let binary = map.at("/binaryData");
    for (key, _) in map.map("/data") {
        let field = format!("data[{key}]");
        errors.extend(each(field.as_str(), key, text::config_key(key)));
        if binary.get(key).is_some() {
            errors.push(invalid(field, key, "duplicate of key present in binaryData"));
        }
    }
    for (key, _) in map.map("/binaryData") {
        errors.extend(each(format!("binaryData[{key}]"), key, text::config_key(key)));
    }
    let size = |(key, value): (&str, &Value)| key.len() + value.as_str().map_or(0, str::len);
    let bytes: usize = map.map("/data").map(size).sum();
    let binary_bytes: usize =
        map.map("/binaryData").map(|(_, value)| value.as_str().map_or(0, decoded_len)).sum();
    if bytes + binary_bytes > DATA_BYTES {
        errors.push(too_long("", DATA_BYTES));
    }
    errors
}

/// All errors of a changed ConfigMap.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(frozen(new, old, &["data", "binaryData"]));
    errors.extend(validate_create(new, env));
    errors
}

/// Errors of a change of an object with `immutable: true`.
pub(super) fn frozen(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    if !old.flag("/immutable") {
        return Vec::new();
    }
    let text = "field is immutable when `immutable` is set";
    let mut errors = Vec::new();
    if !new.flag("/immutable") {
        errors.push(forbidden("immutable", text));
    }
    for field in fields {
        let pointer = format!("/{field}");
        if !same(new.at(&pointer), old.at(&pointer)) {
            errors.push(forbidden(*field, text));
        }
    }
    errors
}

/// Length of base64 text when decoded.
pub(super) fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// Sum of all values.
pub(super) const DATA_BYTES: usize = 1024 * 1024;
