//! What schemas do to objects.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::rules::tests::outcome;
use crate::status::CauseReason::{
    self, Invalid, NotSupported, Required, TooLong, TooMany, TypeInvalid,
};
use crate::status::FieldError;

fn widget() -> Value {
    json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 1, "maximum": 10, "format": "int32" },
                    "color": { "type": "string", "enum": ["red", "blue"], "default": "red" },
                    "name": { "type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$" },
                    "port": { "x-kubernetes-int-or-string": true },
                    "note": { "type": "string", "nullable": true },
                    "at": { "type": "string", "format": "date-time" },
                    "step": { "type": "number", "multipleOf": 0.5 },
                    "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 2,
                              "x-kubernetes-list-type": "set" },
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": { "type": "object", "required": ["name"], "properties": {
                            "name": { "type": "string" },
                            "protocol": { "type": "string", "default": "TCP" },
                        }},
                    },
                    "labels": { "type": "object", "maxProperties": 2,
                                "additionalProperties": { "type": "string" } },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                              "properties": { "known": { "type": "object" } } },
                    "template": { "type": "object", "x-kubernetes-embedded-resource": true,
                                  "x-kubernetes-preserve-unknown-fields": true },
                    "one": { "type": "object",
                             "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
                             "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
                },
            },
        },
    })
}

fn of(spec: Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {}, "spec": spec })
}

fn errors(spec: Value) -> Vec<FieldError> {
    validate(&of(spec), None, &Structural::parse(&widget()), "")
}

#[test]
fn the_example_is_structural() {
    assert_eq!(check(&widget(), Scope::Root, "s"), []);
}

#[test]
fn unknown_fields_go_and_are_named() {
    // CR5.
    let mut object = of(json!({
        "size": 1, "siz": 2, "ports": [{ "name": "a", "nam": "b" }], "labels": { "any": "x" },
        "free": { "x": { "y": 1 }, "known": { "gone": 1 } },
    }));
    let unknown = prune_object(&mut object, &Structural::parse(&widget()));
    assert_eq!(unknown.0, ["spec.free.known.gone", "spec.ports[0].nam", "spec.siz"]);
    let kept = of(json!({
        "size": 1, "ports": [{ "name": "a" }], "labels": { "any": "x" },
        "free": { "x": { "y": 1 }, "known": {} },
    }));
    assert_eq!(object, kept);
}

#[test]
fn defaults_fill_what_is_absent_or_a_null_that_may_not_be() {
    // CR6.
    let mut object = of(json!({
        "size": 1, "color": null, "note": null, "name": null, "ports": [{ "name": "a" }],
    }));
    Structural::parse(&widget()).fill(&mut object);
    let filled = json!({
        "size": 1, "color": "red", "note": null, "ports": [{ "name": "a", "protocol": "TCP" }],
    });
    assert_eq!(object, of(filled));
}

#[test]
fn good_values_are_taken() {
    let good = json!({ "size": 3, "port": "http", "step": 1.5, "at": "2026-01-02T03:04:05Z" });
    assert_eq!(errors(good), []);
}

type Row = (Value, &'static str, CauseReason, &'static str);

fn refused(rows: &[Row]) {
    for (spec, field, reason, message) in rows {
        let found = errors(spec.clone());
        assert_eq!(outcome(&found), [(*field, *reason)], "{spec}");
        assert_eq!(found[0].message, *message, "{spec}");
    }
}

#[test]
fn numbers_and_types_are_refused_with_path_and_reason() {
    // CR7.
    refused(&[
        (json!({}), "spec.size", Required, "Required value"),
        (
            json!({ "size": "3" }),
            "spec.size",
            TypeInvalid,
            "Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({ "size": 11 }),
            "spec.size",
            Invalid,
            "Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({ "size": 0 }),
            "spec.size",
            Invalid,
            "Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
    ]);
}

#[test]
fn texts_lists_and_maps_are_refused_with_path_and_reason() {
    // CR7.
    refused(&[
        (
            json!({ "size": 1, "color": "green" }),
            "spec.color",
            NotSupported,
            "Unsupported value: \"green\": supported values: \"red\", \"blue\"",
        ),
        (
            json!({ "size": 1, "name": "a" }),
            "spec.name",
            Invalid,
            "Invalid value: \"a\": spec.name in body should be at least 2 chars long",
        ),
        (
            json!({ "size": 1, "name": "abcde" }),
            "spec.name",
            TooLong,
            "Too long: may not be more than 4 bytes",
        ),
        (
            json!({ "size": 1, "name": "AB" }),
            "spec.name",
            Invalid,
            "Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            json!({ "size": 1, "port": true }),
            "spec.port",
            TypeInvalid,
            "Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({ "size": 1, "at": "now" }),
            "spec.at",
            TypeInvalid,
            "Invalid value: \"now\": spec.at in body must be of type date-time: \"now\"",
        ),
        (
            json!({ "size": 1, "step": 0.7 }),
            "spec.step",
            Invalid,
            "Invalid value: 0.7: spec.step in body should be a multiple of 0.5",
        ),
        (
            json!({ "size": 1, "tags": ["a", "b", "c"] }),
            "spec.tags",
            TooMany,
            "Too many: 3: must have at most 2 items",
        ),
        (
            json!({ "size": 1, "labels": { "a": 1 } }),
            "spec.labels.a",
            TypeInvalid,
            "Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\"",
        ),
        (
            json!({ "size": 1, "one": { "a": "x", "b": "y" } }),
            "<nil>",
            Invalid,
            "Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). \
             Found 2 valid alternatives",
        ),
    ]);
}

#[test]
fn entries_of_sets_and_maps_are_there_once() {
    // CR7.
    let object = of(json!({
        "size": 1, "tags": ["a", "a"], "ports": [{ "name": "p" }, { "name": "p" }],
    }));
    let errors = validate_lists(&object, &Structural::parse(&widget()), "");
    let duplicates = ["spec.ports[1]", "spec.tags[1]"].map(|field| (field, CauseReason::Duplicate));
    assert_eq!(outcome(&errors), duplicates);
    assert_eq!(errors[0].message, "Duplicate value: {\"name\":\"p\"}");
}

#[test]
fn an_embedded_object_says_what_it_is() {
    let object = of(json!({ "size": 1, "template": { "kind": "Pod" } }));
    let errors = validate_embedded(&object, &Structural::parse(&widget()));
    assert_eq!(outcome(&errors), [("spec.template.apiVersion", Required)]);
}

#[test]
fn what_was_wrong_before_may_stay() {
    // CR7.
    let old = of(json!({ "size": 99, "name": "ok" }));
    let mut new = old.clone();
    new["spec"]["name"] = "good".into();
    let schema = Structural::parse(&widget());
    assert_eq!(validate(&new, Some(&old), &schema, ""), []);
    new["spec"]["size"] = 98.into();
    assert_eq!(outcome(&validate(&new, Some(&old), &schema, "")), [("spec.size", Invalid)]);
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    // CR2.
    let rows = [
        (json!({}), "s.type", Required),
        (json!({ "type": "string" }), "s.type", Invalid),
        (json!({ "properties": { "a": {} }, "type": "object" }), "s.properties[a].type", Required),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array" } } }),
            "s.properties[a].items",
            Required,
        ),
        (
            json!({ "type": "object", "anyOf": [{ "type": "object" }] }),
            "s.anyOf[0].type",
            CauseReason::Forbidden,
        ),
        (json!({ "type": "object", "$ref": "x" }), "s.$ref", CauseReason::Forbidden),
        (
            json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "(" } } }),
            "s.properties[a].pattern",
            Invalid,
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "integer", "default": "x" } } }),
            "s.properties[a].default",
            TypeInvalid,
        ),
        (
            json!({ "type": "object", "properties": { "metadata": {
                "type": "object", "properties": { "labels": { "type": "object" } },
            }}}),
            "s.properties[metadata]",
            CauseReason::Forbidden,
        ),
        (
            json!({ "type": "object", "properties": { "a": {
                "type": "array", "x-kubernetes-list-type": "map",
                "items": { "type": "object" },
            }}}),
            "s.properties[a].x-kubernetes-list-map-keys",
            Required,
        ),
    ];
    for (schema, field, reason) in rows {
        assert_eq!(outcome(&check(&schema, Scope::Root, "s")), [(field, reason)], "{schema}");
    }
}

#[test]
fn the_spelt_out_int_or_string_is_structural() {
    let schema = json!({ "type": "object", "properties": { "a": {
        "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }],
    }}});
    assert_eq!(check(&schema, Scope::Root, "s"), []);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..12i64).prop_map(Value::from),
        "[a-e]{0,5}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "spec", "size", "color", "name", "ports", "labels", "free", "template", "one", "a", "other",
    ]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_twice_change_nothing_more(value in any_value()) {
        // CR5, CR6.
        let schema = Structural::parse(&widget());
        let mut once = of(value);
        prune_object(&mut once, &schema);
        schema.fill(&mut once);
        let mut twice = once.clone();
        let unknown = prune_object(&mut twice, &schema);
        schema.fill(&mut twice);
        prop_assert_eq!(unknown.0, Vec::<String>::new());
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn any_schema_is_checked_and_any_value_validated(schema in any_value(), value in any_value()) {
        check(&schema, Scope::Root, "s");
        validate(&value, None, &Structural::parse(&schema), "");
        validate(&value, None, &Structural::parse(&widget()), "");
    }
}
