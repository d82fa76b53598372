//! Whether a schema is structural, and free of what definitions may not use (CR2;
//! apiextensions `schema/validation.go` and `apis/apiextensions/validation`).

use regex::Regex;
use serde_json::Value;

use super::{Structural, prune_object, validate};
use crate::rules::error::{forbidden, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::status::FieldError;

/// Where in a schema a part of it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// The whole object.
    Root,
    /// A list's entries.
    Item,
    /// A field's value, or additional ones.
    Field,
    /// Inside `allOf`, `anyOf`, `oneOf` or `not`: conditions only.
    Condition,
}

/// All errors of a schema at a path.
pub(crate) fn check(schema: &Value, scope: Scope, path: &str) -> Vec<FieldError> {
    let mut errors = unsupported(schema, path);
    errors.extend(extensions(schema, path));
    match scope {
        Scope::Condition => errors.extend(condition(schema, path)),
        _ => errors.extend(shape(schema, scope, path)),
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(why) = Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(invalid(format!("{path}.pattern"), pattern, why));
    }
    for (name, part) in schema.map("/properties") {
        let scope = if scope == Scope::Condition { scope } else { Scope::Field };
        errors.extend(check(part, scope, &format!("{path}.properties[{name}]")));
    }
    if schema["items"].is_object() {
        let scope = if scope == Scope::Condition { scope } else { Scope::Item };
        errors.extend(check(&schema["items"], scope, &format!("{path}.items")));
    }
    if schema["additionalProperties"].is_object() {
        let scope = if scope == Scope::Condition { scope } else { Scope::Field };
        let path = format!("{path}.additionalProperties");
        errors.extend(check(&schema["additionalProperties"], scope, &path));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, part) in schema[name].as_array().into_iter().flatten().enumerate() {
            if scope != Scope::Condition && is_int_or_string(schema, name, part) {
                continue;
            }
            errors.extend(check(part, Scope::Condition, &format!("{path}.{name}[{index}]")));
        }
    }
    if schema["not"].is_object() {
        errors.extend(check(&schema["not"], Scope::Condition, &format!("{path}.not")));
    }
    errors
}

/// What no schema may contain.
fn unsupported(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in
        ["definitions", "dependencies", "patternProperties", "additionalItems", "id", "$ref"]
    {
        if schema.has(&format!("/{name}")) {
            errors.push(forbidden(format!("{path}.{name}"), &format!("{name} is not supported")));
        }
    }
    if schema.flag("/uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(forbidden(format!("{path}.uniqueItems"), why));
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(forbidden(format!("{path}.items"), why));
    }
    if schema["additionalProperties"] == false {
        let why = "additionalProperties cannot be set to false";
        errors.push(forbidden(format!("{path}.additionalProperties"), why));
    }
    let has_properties = schema.map("/properties").next().is_some();
    if has_properties && schema.has("/additionalProperties") {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(forbidden(format!("{path}.additionalProperties"), why));
    }
    let ty = schema.text("/type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(not_supported(format!("{path}.type"), ty, &TYPES));
    }
    errors
}

/// `x-kubernetes-*`.
fn extensions(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let preserve = "/x-kubernetes-preserve-unknown-fields";
    if schema.has(preserve) && !schema.flag(preserve) {
        let why = "must be true or undefined";
        errors.push(invalid(format!("{path}.x-kubernetes-preserve-unknown-fields"), false, why));
    }
    let field = |name: &str| format!("{path}.x-kubernetes-{name}");
    let ty = schema.text("/type");
    let list = schema.text("/x-kubernetes-list-type");
    if !list.is_empty() && !["atomic", "set", "map"].contains(&list) {
        errors.push(not_supported(field("list-type"), list, &["atomic", "map", "set"]));
    }
    if !list.is_empty() && ty != "array" {
        let type_field = format!("{path}.type");
        let why = "must be array if x-kubernetes-list-type is specified";
        errors.push(match ty {
            "" => required(type_field, why),
            ty => invalid(type_field, ty, why),
        });
    }
    let keys = schema.texts("/x-kubernetes-list-map-keys");
    if list == "map" && keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(required(field("list-map-keys"), why));
    }
    if list != "map" && !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list {
            "" => required(field("list-type"), why),
            list => invalid(field("list-type"), list, why),
        });
    }
    if list == "map" {
        errors.extend(map_keys(schema, &keys, path));
    }
    let map = schema.text("/x-kubernetes-map-type");
    if !map.is_empty() && !["atomic", "granular"].contains(&map) {
        errors.push(not_supported(field("map-type"), map, &["atomic", "granular"]));
    }
    errors
}

/// The keys of a list of maps are scalars that every entry has.
fn map_keys(schema: &Value, keys: &[&str], path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let items = &schema["items"];
    if items["type"] != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(invalid(format!("{path}.items.type"), items.text("/type"), why));
    }
    for (index, key) in keys.iter().enumerate() {
        let property = &items["properties"][*key];
        if !property.is_object() {
            let field = format!("{path}.x-kubernetes-list-map-keys[{index}]");
            errors.push(invalid(field, *key, "entries must all be names of item properties"));
            continue;
        }
        if matches!(property.text("/type"), "array" | "object") {
            let field = format!("{path}.items.properties[{key}].type");
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(invalid(field, property.text("/type"), why));
        }
        let is_required = items.texts("/required").contains(key);
        if !is_required && !property.has("/default") {
            let field = format!("{path}.items.properties[{key}].default");
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default \
                       or be a required property";
            errors.push(required(field, why));
        }
    }
    errors
}

/// What makes a schema structural: a type for every part.
fn shape(schema: &Value, scope: Scope, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ty = schema.text("/type");
    let type_field = || format!("{path}.type");
    let preserves = schema.flag("/x-kubernetes-preserve-unknown-fields");
    let is_int_or_string = schema.flag("/x-kubernetes-int-or-string");
    let is_embedded = schema.flag("/x-kubernetes-embedded-resource");
    if is_embedded && ty != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match ty {
            "" => required(type_field(), why),
            ty => invalid(type_field(), ty, why),
        });
    } else if ty.is_empty() && !is_int_or_string && !preserves {
        let why = match scope {
            Scope::Root => "must not be empty at the root",
            Scope::Item => "must not be empty for specified array items",
            _ => "must not be empty for specified object fields",
        };
        errors.push(required(type_field(), why));
    }
    if is_int_or_string && !ty.is_empty() {
        let why = "must be empty if x-kubernetes-int-or-string is true";
        errors.push(invalid(type_field(), ty, why));
    }
    if scope == Scope::Root && !ty.is_empty() && ty != "object" {
        errors.push(invalid(type_field(), ty, "must be object at the root"));
    }
    if ty == "array" && !schema.has("/items") {
        errors.push(required(format!("{path}.items"), "must be specified"));
    }
    if is_embedded && !preserves && schema.map("/properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(required(format!("{path}.properties"), why));
    }
    if scope == Scope::Root || is_embedded {
        errors.extend(metadata(&schema["properties"]["metadata"], path));
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        errors.extend(default_errors(default, schema, scope, path));
    }
    errors
}

/// The schema of `metadata` may only restrict names.
fn metadata(metadata: &Value, path: &str) -> Vec<FieldError> {
    let path = format!("{path}.properties[metadata]");
    let mut errors = Vec::new();
    if metadata.has("/type") && metadata["type"] != "object" {
        errors.push(invalid(format!("{path}.type"), metadata.text("/type"), "must be object"));
    }
    let only = "must not specify anything other than name and generateName, but metadata is \
                implicitly specified";
    if metadata.map("/properties").any(|(name, _)| !["name", "generateName"].contains(&name)) {
        errors.push(forbidden(&path, only));
    }
    errors
}

/// A default must be a value of its own schema.
fn default_errors(default: &Value, schema: &Value, scope: Scope, path: &str) -> Vec<FieldError> {
    let field = format!("{path}.default");
    if scope == Scope::Root {
        return vec![forbidden(field, "must not be set at the root")];
    }
    let parsed = Structural::parse(schema);
    let mut pruned = default.clone();
    let unknown = prune_object(&mut pruned, &parsed);
    if !unknown.0.is_empty() && default.is_object() && !parsed.is_embedded {
        let why = format!("must not have unknown fields: {}", unknown.0.join(", "));
        return vec![invalid(field, default.clone(), why)];
    }
    let mut filled = default.clone();
    parsed.fill(&mut filled);
    validate(&filled, None, &parsed, &field)
}

/// Conditions say nothing about the shape.
fn condition(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["additionalProperties", "default", "nullable", "title", "description", "type"] {
        let is_set = match &schema[name] {
            Value::Null => false,
            Value::Bool(set) => *set || name == "additionalProperties",
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        if is_set {
            errors.push(forbidden(format!("{path}.{name}"), "must be empty to be structural"));
        }
    }
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if schema.flag(&format!("/{name}")) {
            errors.push(forbidden(format!("{path}.{name}"), "must be false to be structural"));
        }
    }
    errors
}

/// The one pattern with types in conditions: what an int-or-string spells out.
fn is_int_or_string(schema: &Value, name: &str, part: &Value) -> bool {
    let is_marked = schema.flag("/x-kubernetes-int-or-string");
    let is_pair = |any_of: &Value| {
        let types: Vec<&str> =
            any_of.as_array().into_iter().flatten().map(|part| part.text("/type")).collect();
        types == ["integer", "string"]
    };
    match name {
        "anyOf" => is_marked && is_pair(&schema["anyOf"]),
        "allOf" => is_marked && is_pair(&part["anyOf"]),
        _ => false,
    }
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
