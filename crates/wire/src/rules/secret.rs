//! `core/v1` Secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::config_map::{DATA_BYTES, decoded_len, frozen};
use super::error::{each, immutable, invalid, required, too_long};
use super::fields::{self, Fields, remove, set};
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// Fills the type and moves `stringData` into `data`.
pub(crate) fn default(secret: &mut Value, _: &Env) {
    fields::default(secret, "/type", "Opaque");
    let Some(Value::Object(plain)) = remove(secret, "/stringData") else { return };
    if !secret.has("/data") && !plain.is_empty() {
        set(secret, "/data", Value::Object(serde_json::Map::new()));
    }
    let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) else { return };
    for (key, value) in plain {
        let text = value.as_str().unwrap_or("");
        data.insert(key, STANDARD.encode(text).into());
    }
}

/// All errors of a new Secret.
pub(crate) fn validate_create(secret: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(secret, true, text::dns_subdomain);
    let mut bytes = 0;
    for (key, value) in secret.map("/data") {
        errors.extend(each(format!("data[{key}]"), key, text::config_key(key)));
        bytes += value.as_str().map_or(0, decoded_len);
    }
    if bytes > DATA_BYTES {
        errors.push(too_long("data", DATA_BYTES));
    }
    errors.extend(validate_type(secret));
    errors
}

/// All errors of a changed Secret.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    if new.text("/type") != old.text("/type") {
        errors.push(immutable("type", new.text("/type")));
    }
    errors.extend(frozen(new, old, &["data"]));
    errors.extend(validate_create(new, env));
    errors
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(secret: &Value) -> Vec<(&'static str, String)> {
    vec![("type", secret.text("/type").to_owned())]
}

fn validate_type(secret: &Value) -> Vec<FieldError> {
    let data = secret.at("/data");
    let has = |key: &str| data.get(key).is_some();
    let keys: &[&str] = match secret.text("/type") {
        "kubernetes.io/service-account-token" => {
            let owner = secret.at("/metadata/annotations").get(ACCOUNT);
            if owner.and_then(Value::as_str).is_none_or(str::is_empty) {
                return vec![required(format!("metadata.annotations[{ACCOUNT}]"), "")];
            }
            &[]
        }
        "kubernetes.io/dockercfg" => return validate_registries(data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => return validate_registries(data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if has("username") || has("password") => &[],
        "kubernetes.io/basic-auth" => &["username", "password"],
        "kubernetes.io/ssh-auth" if data.text("/ssh-privatekey").is_empty() => {
            return vec![required("data[ssh-privatekey]", "")];
        }
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    let missing = keys.iter().filter(|key| !has(key));
    missing.map(|key| required(format!("data[{key}]"), "")).collect()
}

/// Credentials of image registries are a JSON object, which errors do not show.
fn validate_registries(data: &Value, key: &str) -> Vec<FieldError> {
    let field = format!("data[{key}]");
    let Some(encoded) = data.get(key).and_then(Value::as_str) else {
        return vec![required(field, "")];
    };
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    match serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        Ok(_) => Vec::new(),
        Err(error) => vec![invalid(field, "<secret contents redacted>", error.to_string())],
    }
}

const ACCOUNT: &str = "kubernetes.io/service-account.name";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::tests::env;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({ "data": { "a": "MQ==" }, "stringData": { "b": "2" } });
        default(&mut secret, &env());
        assert_eq!(secret, json!({ "data": { "a": "MQ==", "b": "Mg==" }, "type": "Opaque" }));
    }

    #[test]
    fn what_the_type_needs_must_be_there_and_well_formed() {
        let of = |kind: &str, key: &str, value: &str| {
            let data = json!({ key: STANDARD.encode(value) });
            let secret = json!({ "type": kind, "data": data });
            validate_type(&secret).into_iter().map(|error| error.message).collect::<Vec<_>>()
        };
        let docker = "kubernetes.io/dockerconfigjson";
        assert!(of(docker, ".dockerconfigjson", "{\"auths\":{}}").is_empty());
        assert_eq!(of(docker, "x", "{}"), ["Required value"]);
        let [why] = &of(docker, ".dockerconfigjson", "secret")[..] else { panic!() };
        assert!(why.starts_with("Invalid value: \"<secret contents redacted>\": "), "{why}");
        assert_eq!(of("kubernetes.io/ssh-auth", "ssh-privatekey", ""), ["Required value"]);
    }
}
