//! Events: one kind of object under two API groups, kept in the `core/v1` shape.

use serde_json::{Value, json};

use super::error::{each, invalid, required};
use super::fields::{Fields, set};
use super::{meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// Fields of `core/v1` that are always written, even when empty.
pub(crate) fn default(event: &mut Value, _: &Env) {
    fill(event, &[("eventTime", Value::Null), ("firstTimestamp", Value::Null)]);
    fill(event, &[("lastTimestamp", Value::Null), ("source", json!({}))]);
    fill(event, &[("reportingComponent", json!("")), ("reportingInstance", json!(""))]);
    fill(event, &[("involvedObject", json!({}))]);
}

/// Fields of `events.k8s.io/v1` that are always written, even when empty.
pub(crate) fn default_new(event: &mut Value, _: &Env) {
    fill(event, &[("eventTime", Value::Null)]);
}

/// From the shape of `events.k8s.io/v1` to that of `core/v1`.
pub(crate) fn to_core(event: &mut Value) {
    rename(event, "v1", RENAMED.iter().map(|(core, new)| (*new, *core)));
    let fields = ["firstTimestamp", "lastTimestamp", "eventTime"];
    fill(event, &fields.map(|field| (field, Value::Null)));
    fill(event, &["reportingComponent", "reportingInstance"].map(|field| (field, json!(""))));
    fill(event, &["source", "involvedObject"].map(|field| (field, json!({}))));
}

/// From the shape of `core/v1` to that of `events.k8s.io/v1`.
pub(crate) fn from_core(event: &mut Value) {
    rename(event, "events.k8s.io/v1", RENAMED.iter().copied());
    let Some(fields) = event.as_object_mut() else { return };
    fields.retain(|key, value| {
        let optional = ["reportingController", "reportingInstance", "action", "reason", "note"];
        value.as_str() != Some("") || !optional.contains(&key.as_str())
    });
}

/// All errors of a new event of `core/v1`.
pub(crate) fn validate_create(event: &Value, _: &Env) -> Vec<FieldError> {
    validate_namespace(event, "/involvedObject", "involvedObject")
}

/// All errors of a changed event of `core/v1`.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create(new, env));
    errors
}

/// All errors of a new event of `events.k8s.io/v1`, whichever shape it has by now.
pub(crate) fn validate_create_new(event: &Value, env: &Env) -> Vec<FieldError> {
    let mut event = event.clone();
    to_core(&mut event);
    let mut errors = validate_create(&event, env);
    errors.extend(meta::validate(&event, true, text::dns_subdomain));
    if event.text("/eventTime").is_empty() {
        errors.push(required("eventTime", ""));
    }
    let controller = event.text("/reportingComponent");
    if controller.is_empty() {
        errors.push(required("reportingController", ""));
    }
    errors.extend(each("reportingController", controller, text::qualified_name(controller)));
    for field in ["reportingInstance", "action", "reason"] {
        let value = event.text(&format!("/{field}"));
        if value.is_empty() {
            errors.push(required(field, ""));
        } else if value.len() > WORD_BYTES {
            let text = format!("can have at most {WORD_BYTES} characters");
            errors.push(invalid(field, "", text));
        }
    }
    if event.text("/message").len() > NOTE_BYTES {
        let text = format!("can have at most {NOTE_BYTES} characters");
        errors.push(invalid("message", "", text));
    }
    let kind = event.text("/type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(invalid("type", "", format!("has invalid value: {kind}")));
    }
    errors
}

/// All errors of a changed event of `events.k8s.io/v1`.
pub(crate) fn validate_update_new(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create_new(new, env));
    errors
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(event: &Value) -> Vec<(&'static str, String)> {
    let mut fields = reference(event, "/involvedObject", &OBJECT_FIELDS);
    let source = event.text("/source/component");
    let component = event.text("/reportingComponent");
    let source = if source.is_empty() { component } else { source };
    fields.push(("reason", event.text("/reason").to_owned()));
    fields.push(("reportingComponent", component.to_owned()));
    fields.push(("source", source.to_owned()));
    fields.push(("type", event.text("/type").to_owned()));
    fields
}

/// Fields that field selectors may name in `events.k8s.io/v1`.
pub(crate) fn selectable_fields_new(event: &Value) -> Vec<(&'static str, String)> {
    let mut core = event.clone();
    to_core(&mut core);
    let mut fields = reference(&core, "/involvedObject", &REGARDING_FIELDS);
    fields.push(("reason", core.text("/reason").to_owned()));
    fields.push(("reportingController", core.text("/reportingComponent").to_owned()));
    fields.push(("type", core.text("/type").to_owned()));
    fields
}

fn validate_namespace(event: &Value, pointer: &str, field: &str) -> Vec<FieldError> {
    let own = event.text("/metadata/namespace");
    let object = event.text(&format!("{pointer}/namespace"));
    let agree = if object.is_empty() { ["", "default"].contains(&own) } else { own == object };
    if agree {
        return Vec::new();
    }
    vec![invalid(format!("{field}.namespace"), object, "does not match event.namespace")]
}

fn fill(event: &mut Value, empty: &[(&str, Value)]) {
    let Some(fields) = event.as_object_mut() else { return };
    for (name, value) in empty {
        fields.entry(*name).or_insert_with(|| value.clone());
    }
}

fn rename(
    event: &mut Value,
    api_version: &str,
    pairs: impl Iterator<Item = (&'static str, &'static str)>,
) {
    set(event, "/apiVersion", api_version);
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn reference(
    event: &Value,
    pointer: &str,
    names: &[(&'static str, &str)],
) -> Vec<(&'static str, String)> {
    let value = |field: &str| event.text(&format!("{pointer}/{field}")).to_owned();
    names.iter().map(|(name, field)| (*name, value(field))).collect()
}

/// `core/v1` name, `events.k8s.io/v1` name.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];
const OBJECT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject.kind", "kind"),
    ("involvedObject.namespace", "namespace"),
    ("involvedObject.name", "name"),
    ("involvedObject.uid", "uid"),
    ("involvedObject.apiVersion", "apiVersion"),
    ("involvedObject.resourceVersion", "resourceVersion"),
    ("involvedObject.fieldPath", "fieldPath"),
];
const REGARDING_FIELDS: [(&str, &str); 7] = [
    ("regarding.kind", "kind"),
    ("regarding.namespace", "namespace"),
    ("regarding.name", "name"),
    ("regarding.uid", "uid"),
    ("regarding.apiVersion", "apiVersion"),
    ("regarding.resourceVersion", "resourceVersion"),
    ("regarding.fieldPath", "fieldPath"),
];
const WORD_BYTES: usize = 128;
const NOTE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_hold_the_same() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "involvedObject": { "kind": "Service" },
            "reason": "Tested", "message": "hello", "source": { "component": "vec" },
            "firstTimestamp": null, "lastTimestamp": null, "count": 1, "type": "Normal",
            "eventTime": null, "reportingComponent": "", "reportingInstance": "",
        });
        let mut new = core.clone();
        from_core(&mut new);
        let expected = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "regarding": { "kind": "Service" }, "reason": "Tested", "note": "hello",
            "deprecatedSource": { "component": "vec" }, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null, "deprecatedCount": 1, "type": "Normal",
            "eventTime": null,
        });
        assert_eq!(new, expected);
        to_core(&mut new);
        assert_eq!(new, core);
    }
}
