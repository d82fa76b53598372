//! `networking.k8s.io/v1` IPAddress: one allocated cluster IP.

use serde_json::Value;

use super::error::{each, immutable, required};
use super::fields::Fields;
use super::{ip, meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// All errors of a new IPAddress, whose name is the address in canonical form (S16).
pub(crate) fn validate_create(address: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(address, false, ip::canonical_address);
    let field = "spec.parentRef";
    let parent = address.at("/spec/parentRef");
    if parent.is_null() {
        errors.push(required(field, ""));
        return errors;
    }
    let group = parent.text("/group");
    if !group.is_empty() {
        errors.extend(each(format!("{field}.group"), group, text::dns_subdomain(group)));
    }
    for name in ["resource", "name"] {
        let value = parent.text(&format!("/{name}"));
        let field = format!("{field}.{name}");
        if value.is_empty() {
            errors.push(required(field, ""));
        } else {
            errors.extend(each(field, value, text::path_segment(value)));
        }
    }
    let namespace = parent.text("/namespace");
    errors.extend(each(format!("{field}.namespace"), namespace, text::path_segment(namespace)));
    errors
}

/// All errors of a changed IPAddress.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create(new, env));
    let (now, before) = (new.at("/spec/parentRef"), old.at("/spec/parentRef"));
    if now != before {
        errors.push(immutable("spec.parentRef", now.clone()));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    #[test]
    fn the_name_is_canonical_and_the_parent_is_named() {
        // S16.
        use CauseReason::{Invalid, Required};
        let parent = json!({ "resource": "services", "namespace": "default", "name": "s" });
        let rows = [
            ("E27", "010.0.0.1", parent.clone(), "metadata.name", Invalid),
            ("E27", "2001:DB8::1", parent.clone(), "metadata.name", Invalid),
            ("E28", "10.0.0.1", Value::Null, "spec.parentRef", Required),
            ("E29", "10.0.0.1", json!({ "name": "s" }), "spec.parentRef.resource", Required),
            ("E30", "10.0.0.1", json!({ "resource": "s" }), "spec.parentRef.name", Required),
        ];
        for (row, name, parent, field, reason) in rows {
            let address = json!({ "metadata": { "name": name }, "spec": { "parentRef": parent } });
            let errors = validate_create(&address, &env());
            assert_eq!(outcome(&errors), [(field, reason)], "{row}");
        }
        let old = json!({ "metadata": { "name": "::1" }, "spec": { "parentRef": parent } });
        let mut new = old.clone();
        new["spec"]["parentRef"]["name"] = "t".into();
        let errors = validate_update(&new, &old, &env());
        assert_eq!(outcome(&errors), [("spec.parentRef", Invalid)], "E31");
    }
}
