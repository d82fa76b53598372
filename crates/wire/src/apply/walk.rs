//! How values divide into fields that have owners: which parts are leaves, maps or lists with
//! keys, and which fields a value sets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::{Element, FieldSet};
use crate::schema::{Field, ListKind, Scalar, Schema, Shape, Type};
use crate::structural::{Additional, Structural};

/// How a value is owned.
#[derive(Clone, Copy)]
pub(super) enum Part<'s> {
    /// As a whole.
    Leaf(Below<'s>),
    /// Field by field.
    Struct(Fields<'s>),
    /// Key by key.
    Map(Below<'s>),
    /// Entry by entry.
    List(&'s ListKind, Below<'s>),
    /// As the value is: objects key by key, all else as a whole.
    Open,
}

/// What the values of a field, a list or a map look like.
#[derive(Clone, Copy)]
pub(super) enum Below<'s> {
    Compiled(&'s Shape),
    Custom(&'s Structural),
    /// Nobody has said.
    Open,
}

/// What fields there are.
#[derive(Clone, Copy)]
pub(super) enum Fields<'s> {
    Compiled(&'s Type),
    Custom(&'s Structural),
    /// Of a whole custom resource.
    CustomObject(&'s Structural),
}

impl<'s> Part<'s> {
    /// An object of a kind that is compiled in.
    pub(super) fn object(ty: &'s Type) -> Self {
        Self::Struct(Fields::Compiled(ty))
    }

    /// A custom resource.
    pub(super) fn custom_object(schema: &'s Structural) -> Self {
        Self::Struct(Fields::CustomObject(schema))
    }

    /// The type of an object that has a compiled one.
    pub(super) fn compiled(self) -> Option<&'s Type> {
        match self {
            Self::Struct(Fields::Compiled(ty)) => Some(ty),
            _ => None,
        }
    }

    /// How a field's value is owned.
    fn of_field(field: &'s Field) -> Self {
        let below = Below::Compiled(&field.shape);
        match &field.shape {
            _ if field.atomic => Self::Leaf(below),
            Shape::List(_) if field.list == ListKind::Atomic => Self::Leaf(below),
            Shape::List(inner) => Self::List(&field.list, Below::Compiled(inner)),
            _ => Self::of(below),
        }
    }

    /// How an entry of a list or map is owned.
    pub(super) fn of(below: Below<'s>) -> Self {
        match below {
            Below::Compiled(shape) => match shape {
                Shape::Message(id) => match Schema::get().type_of(*id) {
                    ty if ty.atomic => Self::Leaf(below),
                    ty => Self::object(ty),
                },
                Shape::Map(inner) => Self::Map(Below::Compiled(inner)),
                Shape::List(_) | Shape::Scalar(..) | Shape::Or(..) => Self::Leaf(below),
            },
            Below::Custom(schema) if schema.is_atomic => Self::Leaf(below),
            Below::Custom(schema) => match Self::of_custom(schema) {
                Self::List(ListKind::Atomic, _) => Self::Leaf(below),
                part => part,
            },
            Below::Open => Self::Open,
        }
    }

    /// CR10. The parts of a value by its schema, whether they have owners of their own or not.
    fn of_custom(schema: &'s Structural) -> Self {
        let has_fields = !schema.properties.is_empty() || schema.is_embedded;
        match (schema.ty.as_str(), &schema.additional) {
            ("array", _) => {
                let items = schema.items.as_deref().map_or(Below::Open, Below::Custom);
                Self::List(&schema.list, items)
            }
            ("object" | "", _) if has_fields => Self::Struct(Fields::Custom(schema)),
            ("object", Additional::Schema(inner)) => Self::Map(Below::Custom(inner)),
            ("object", Additional::Any) => Self::Map(Below::Open),
            ("object" | "", _) if schema.preserves_unknown => Self::Open,
            ("object", _) => Self::Struct(Fields::Custom(schema)),
            _ => Self::Leaf(Below::Custom(schema)),
        }
    }

    /// The same for a value that is there.
    pub(super) fn for_value(self, value: &Value) -> Self {
        match (self, value) {
            (Self::Open, Value::Object(_)) => Self::Map(Below::Open),
            (Self::Open, _) => Self::Leaf(Below::Open),
            (part, _) => part,
        }
    }

    /// How the value of a key below is owned; `None` if there is no such field.
    pub(super) fn below(self, key: &str) -> Option<Self> {
        match self {
            Self::Struct(Fields::Compiled(ty)) => ty.field(key).map(Self::of_field),
            Self::Struct(Fields::Custom(schema)) if !schema.is_embedded => plain(schema, key),
            Self::Struct(Fields::Custom(schema) | Fields::CustomObject(schema)) => match key {
                "metadata" => Schema::get().named("meta", "ObjectMeta").map(Self::object),
                "apiVersion" | "kind" => Some(Self::Leaf(Below::Open)),
                key => plain(schema, key),
            },
            Self::Map(inner) => Some(Self::of(inner)),
            Self::Open => Some(Self::Open),
            Self::Leaf(_) | Self::List(..) => None,
        }
    }

    /// How the value at a step below is owned.
    pub(super) fn at(self, element: &Element) -> Option<Self> {
        match (self, element) {
            (Self::List(_, inner), Element::Key(_) | Element::Value(_) | Element::Index(_)) => {
                Some(Self::of(inner))
            }
            (_, Element::Field(name)) => self.below(name),
            _ => None,
        }
    }

    /// The default of a field that tells entries of a list apart.
    fn key_default(self, key: &str) -> Option<Value> {
        match self {
            Self::Struct(Fields::Compiled(ty)) => ty.field(key)?.default.map(Value::from),
            Self::Struct(Fields::Custom(schema)) => schema.properties.get(key)?.default.clone(),
            _ => None,
        }
    }
}

/// How a declared or additional field of a custom schema is owned.
fn plain<'s>(schema: &'s Structural, key: &str) -> Option<Part<'s>> {
    let open = schema.preserves_unknown || matches!(schema.additional, Additional::Any);
    match schema.below(key) {
        Some(below) => Some(Part::of(Below::Custom(below))),
        None => open.then_some(Part::Open),
    }
}

/// `apiVersion` and `kind` have no owner.
pub(super) fn is_type_meta(part: Part<'_>, key: &str) -> bool {
    let is_kind = match part {
        Part::Struct(Fields::Compiled(ty)) => ty.is_kind,
        Part::Struct(Fields::CustomObject(_)) => true,
        _ => false,
    };
    is_kind && matches!(key, "apiVersion" | "kind")
}

/// The step to an entry of a list. The error says which key it lacks.
pub(super) fn entry(item: &Value, kind: &ListKind, below: Below<'_>) -> Result<Element, String> {
    let ListKind::Map(keys) = kind else { return Ok(Element::Value(item.to_string())) };
    let mut found = Vec::new();
    let mut lacking = None;
    for key in keys {
        let default = || Part::of(below).key_default(key);
        match item.get(key).filter(|v| !v.is_null()).cloned().or_else(default) {
            Some(value) => found.push((key.as_str(), value)),
            None => lacking = Some(key),
        }
    }
    match lacking {
        // Keys that may be absent are, as long as one is there.
        Some(key) if found.is_empty() => Err(format!(
            "associative list with keys has an element that omits key field {key:?} (and doesn't \
             have default value)"
        )),
        _ => Ok(Element::keys(found.iter().map(|(k, v)| (*k, v)))),
    }
}

/// The fields that a configuration sets.
pub(super) fn fields_of(value: &Value, part: Part<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    collect(value, part, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, part: Part<'_>, path: &mut Vec<Element>, set: &mut FieldSet) {
    match (part.for_value(value), value) {
        (part @ (Part::Struct(_) | Part::Map(_)), Value::Object(map)) => {
            for (key, inner) in map.iter().filter(|(key, _)| !is_type_meta(part, key)) {
                path.push(Element::Field(key.clone()));
                if let Some(below) = part.below(key) {
                    collect(inner, below, path, set);
                }
                let empty = inner.as_object().is_some_and(serde_json::Map::is_empty);
                if inner.is_null() || empty || matches!(part, Part::Map(_)) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Part::List(kind, below), Value::Array(items)) => {
            for item in items {
                let Ok(element) = entry(item, kind, below) else { continue };
                path.push(element);
                collect(item, Part::of(below), path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Part::Leaf(_), _) => set.insert(path),
        _ => {}
    }
}

/// What is wrong with a configuration, as `.spec.x: field not declared in schema`.
pub(super) fn errors_of(value: &Value, part: Part<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    check(value, part, &mut String::new(), &mut errors);
    errors
}

fn check(value: &Value, part: Part<'_>, path: &mut String, errors: &mut Vec<String>) {
    let length = path.len();
    match (part.for_value(value), value) {
        (_, Value::Null) => {}
        (Part::Struct(_) | Part::Map(_), Value::Object(map)) => {
            for (key, inner) in map.iter().filter(|(key, _)| !is_type_meta(part, key)) {
                path.push_str(&Element::Field(key.clone()).to_string());
                match part.below(key) {
                    Some(below) => check(inner, below, path, errors),
                    None => errors.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(length);
            }
        }
        (Part::List(kind, below), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                match entry(item, kind, below) {
                    Err(why) => errors.push(format!("{path}: element {index}: {why}")),
                    Ok(element) if seen.contains(&element) => {
                        errors.push(format!("{path}: duplicate entries for key {element}"));
                    }
                    Ok(element) => {
                        path.push_str(&element.to_string());
                        check(item, Part::of(below), path, errors);
                        path.truncate(length);
                        seen.insert(element);
                    }
                }
            }
        }
        (Part::Leaf(below), _) => check_leaf(value, below, path, errors),
        (Part::Struct(_) | Part::Map(_), _) => {
            errors.push(format!("{path}: expected map, got {}", described(value)));
        }
        (Part::List(..), _) => {
            errors.push(format!("{path}: expected list, got {}", described(value)));
        }
        // A part is no longer open once there is a value.
        (Part::Open, _) => {}
    }
}

/// A leaf that is a scalar must be of its sort; the parts of an atomic value are checked like any
/// others.
fn check_leaf(value: &Value, below: Below<'_>, path: &mut String, errors: &mut Vec<String>) {
    let expected = match below {
        Below::Open => return,
        Below::Compiled(Shape::Message(id)) => {
            return check(value, Part::object(Schema::get().type_of(*id)), path, errors);
        }
        Below::Compiled(Shape::Map(inner)) => {
            return check(value, Part::Map(Below::Compiled(inner)), path, errors);
        }
        Below::Compiled(Shape::List(inner)) => {
            return check_items(value, Below::Compiled(inner), path, errors);
        }
        Below::Compiled(Shape::Or(object, other)) => {
            let below = if value.is_object() { object } else { other };
            return check_leaf(value, Below::Compiled(below), path, errors);
        }
        Below::Compiled(Shape::Scalar(scalar, _)) => match scalar {
            Scalar::Int32 | Scalar::Int64 | Scalar::Float64 => "integer",
            Scalar::Bool => "boolean",
            Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime => "string",
            _ => return,
        },
        Below::Custom(schema) => match Part::of_custom(schema) {
            Part::List(_, below) => return check_items(value, below, path, errors),
            part @ (Part::Struct(_) | Part::Map(_)) => return check(value, part, path, errors),
            _ if schema.is_int_or_string => return,
            _ => schema.ty.as_str(),
        },
    };
    let expected = match expected {
        "integer" | "number" if !value.is_number() => "numeric (int or float)",
        "boolean" if !value.is_boolean() => "boolean",
        "string" if !value.is_string() => "string",
        _ => return,
    };
    errors.push(format!("{path}: expected {expected}, got {}", described(value)));
}

fn check_items(value: &Value, below: Below<'_>, path: &mut String, errors: &mut Vec<String>) {
    let Some(items) = value.as_array() else {
        errors.push(format!("{path}: expected list, got {}", described(value)));
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let length = path.len();
        path.push_str(&Element::Index(index).to_string());
        check(item, Part::of(below), path, errors);
        path.truncate(length);
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Object(_) => "map".to_owned(),
        Value::Array(_) => "list".to_owned(),
        scalar => {
            format!("&{{{}}}", scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned))
        }
    }
}
