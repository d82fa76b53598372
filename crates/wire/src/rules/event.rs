//! Events: one kind of object under two API groups, kept in the `core/v1` shape.

use serde_json::{Value, json};

use super::error::{each, immutable, invalid, required};
use super::fields::{Fields, same, set};
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
    let mut errors = validate_any(event, "reportingComponent");
    if errors.is_empty() {
        // Only the name of every object is checked: it is a part of a path.
        errors = meta::validate(event, true, text::path_segment);
    }
    errors
}

/// All errors of a changed event of `core/v1`.
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_any(new, "reportingComponent"));
    errors
}

/// All errors of a new event of `events.k8s.io/v1`, whichever shape it has by now.
pub(crate) fn validate_create_new(event: &Value, _: &Env) -> Vec<FieldError> {
    let mut event = event.clone();
    to_core(&mut event);
    let mut errors = validate_any(&event, "reportingController");
    errors.extend(meta::validate(&event, true, text::dns_subdomain));
    errors.extend(validate_series(&event));
    if event.text("/eventTime").is_empty() {
        errors.push(required("eventTime", ""));
    }
    let kind = event.text("/type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(invalid("type", "", format!("has invalid value: {kind}")));
    }
    let source = event.at("/source");
    let given = [
        ("firstTimestamp", event.has("/firstTimestamp")),
        ("lastTimestamp", event.has("/lastTimestamp")),
        ("count", event.int("/count") != 0),
        ("source", !(source.text("/component").is_empty() && source.text("/host").is_empty())),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        errors.push(invalid(field, "", "needs to be unset"));
    }
    errors
}

/// All errors of a changed event of `events.k8s.io/v1`: only its series and metadata change.
pub(crate) fn validate_update_new(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let (mut new, mut old) = (new.clone(), old.clone());
    to_core(&mut new);
    to_core(&mut old);
    errors.extend(validate_any(&new, "reportingController"));
    if new.at("/series") != old.at("/series") {
        errors.extend(validate_series(&new));
    }
    for (field, shown) in FIXED {
        let pointer = format!("/{field}");
        if !same(new.at(&pointer), old.at(&pointer)) {
            errors.push(immutable(shown, new.at(&pointer).clone()));
        }
    }
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

/// What both groups require (`legacyValidateEvent`): an event that has an `eventTime` is one of
/// the new kind, whatever group it comes through.
fn validate_any(event: &Value, controller_field: &str) -> Vec<FieldError> {
    let own = event.text("/metadata/namespace");
    let object = event.text("/involvedObject/namespace");
    let is_new = !event.text("/eventTime").is_empty();
    let agree = match (is_new, object.is_empty()) {
        (false, true) => ["", "default"].contains(&own),
        (false, false) => own == object,
        (true, true) => ["default", "kube-system"].contains(&own),
        (true, false) => true,
    };
    let mut errors = Vec::new();
    if !agree {
        let field = "involvedObject.namespace";
        errors.push(invalid(field, object, "does not match event.namespace"));
    }
    if !is_new {
        return errors;
    }
    let controller = event.text("/reportingComponent");
    if controller.is_empty() {
        errors.push(required(controller_field, ""));
    }
    errors.extend(each(controller_field, controller, text::qualified_name(controller)));
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
    errors
}

fn validate_series(event: &Value) -> Vec<FieldError> {
    let series = event.at("/series");
    let mut errors = Vec::new();
    if series.is_null() {
        return errors;
    }
    if series.int("/count") < 2 {
        errors.push(invalid("series.count", "", "should be at least 2"));
    }
    if series.text("/lastObservedTime").is_empty() {
        errors.push(required("series.lastObservedTime", ""));
    }
    errors
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
/// Fields of `core/v1` that do not change through `events.k8s.io/v1`, and what errors call them.
const FIXED: [(&str, &str); 13] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
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

    fn errors(event: &Value, validate: fn(&Value, &Env) -> Vec<FieldError>) -> Vec<String> {
        let errors = validate(event, &crate::rules::tests::env());
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    fn core() -> Value {
        json!({
            "metadata": { "name": "e", "namespace": "n" },
            "involvedObject": { "kind": "Service", "namespace": "n", "name": "s" },
        })
    }

    #[test]
    fn an_event_with_a_time_is_of_the_new_kind_in_either_group() {
        let mut event = core();
        assert!(errors(&event, validate_create).is_empty());
        event["eventTime"] = "2024-05-05T05:05:05.000000Z".into();
        event["reportingComponent"] = "a b".into();
        let found = errors(&event, validate_create);
        assert!(found[0].starts_with("reportingComponent: Invalid value: \"a b\""), "{found:?}");
        let required = ["reportingInstance", "action", "reason"];
        assert_eq!(found[1..], required.map(|field| format!("{field}: Required value")));
        let found = errors(&event, validate_create_new);
        assert!(found[0].starts_with("reportingController: "), "{found:?}");
        event["involvedObject"]["namespace"] = "other".into();
        assert!(errors(&event, validate_create)[0].starts_with("reportingComponent"));
    }

    #[test]
    fn an_event_without_a_name_is_refused() {
        let mut event = core();
        event["metadata"]["name"] = Value::Null;
        let wanted = "metadata.name: Required value: name or generateName is required";
        assert_eq!(errors(&event, validate_create), [wanted]);
        event["metadata"]["name"] = "Anything.but_a/slash".into();
        let wanted = "metadata.name: Invalid value: \"Anything.but_a/slash\": may not contain '/'";
        assert_eq!(errors(&event, validate_create), [wanted]);
    }

    #[test]
    fn new_events_have_no_deprecated_fields_and_change_in_their_series_only() {
        let old = json!({
            "metadata": { "name": "e", "namespace": "n", "resourceVersion": "1" },
            "regarding": { "kind": "Service", "namespace": "n", "name": "s" },
            "eventTime": "2024-05-05T05:05:05.000000Z", "reportingController": "a.b/c",
            "reportingInstance": "i", "action": "A", "reason": "R", "type": "Normal", "note": "n",
        });
        assert!(errors(&old, validate_create_new).is_empty());
        let mut event = old.clone();
        event["deprecatedCount"] = 3.into();
        event["series"] = json!({ "count": 1 });
        assert_eq!(
            errors(&event, validate_create_new),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let mut new = old.clone();
        new["note"] = "other".into();
        new["series"] = json!({ "count": 2, "lastObservedTime": "2024-05-05T05:05:06.000000Z" });
        let found = validate_update_new(&new, &old, &crate::rules::tests::env());
        let fields: Vec<&str> = found.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["message"]);
    }
}
