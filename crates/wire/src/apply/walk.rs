//! How values divide into fields that have owners: which parts are leaves, maps or lists with
//! keys, and which fields a value sets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::{Element, FieldSet};
use crate::schema::{Field, ListKind, Scalar, Schema, Shape, Type};

/// How a value is owned.
#[derive(Clone, Copy)]
pub(super) enum Part<'s> {
    /// As a whole.
    Leaf(&'s Shape),
    /// Field by field.
    Struct(&'s Type),
    /// Key by key.
    Map(&'s Shape),
    /// Entry by entry.
    List(&'s ListKind, &'s Shape),
}

impl<'s> Part<'s> {
    /// How a field's value is owned.
    pub(super) fn of_field(field: &'s Field) -> Self {
        match &field.shape {
            _ if field.atomic => Self::Leaf(&field.shape),
            Shape::List(_) if field.list == ListKind::Atomic => Self::Leaf(&field.shape),
            Shape::List(inner) => Self::List(&field.list, inner),
            shape => Self::of_shape(shape),
        }
    }

    /// How an entry of a list or map is owned.
    pub(super) fn of_shape(shape: &'s Shape) -> Self {
        match shape {
            Shape::Message(id) => match Schema::get().type_of(*id) {
                ty if ty.atomic => Self::Leaf(shape),
                ty => Self::Struct(ty),
            },
            Shape::Map(inner) => Self::Map(inner),
            Shape::List(_) | Shape::Scalar(..) => Self::Leaf(shape),
        }
    }

    /// How the value of a key below is owned; `None` if there is no such field.
    pub(super) fn below(self, key: &str) -> Option<Self> {
        match self {
            Self::Struct(ty) => ty.field(key).map(Self::of_field),
            Self::Map(inner) => Some(Self::of_shape(inner)),
            Self::Leaf(_) | Self::List(..) => None,
        }
    }

    /// How the value at a step below is owned.
    pub(super) fn at(self, element: &Element) -> Option<Self> {
        match (self, element) {
            (Self::List(_, inner), Element::Key(_) | Element::Value(_) | Element::Index(_)) => {
                Some(Self::of_shape(inner))
            }
            (_, Element::Field(name)) => self.below(name),
            _ => None,
        }
    }
}

/// `apiVersion` and `kind` have no owner.
pub(super) fn is_type_meta(part: Part<'_>, key: &str) -> bool {
    matches!(part, Part::Struct(ty) if ty.is_kind) && matches!(key, "apiVersion" | "kind")
}

/// The step to an entry of a list. The error says which key it lacks.
pub(super) fn entry(item: &Value, kind: &ListKind, shape: &Shape) -> Result<Element, String> {
    let ListKind::Map(keys) = kind else { return Ok(Element::Value(item.to_string())) };
    let mut found = Vec::new();
    let mut lacking = None;
    for key in keys {
        let default = || {
            let Part::Struct(ty) = Part::of_shape(shape) else { return None };
            ty.field(key).and_then(|f| f.default).map(Value::from)
        };
        match item.get(key).filter(|v| !v.is_null()).cloned().or_else(default) {
            Some(value) => found.push((*key, value)),
            None => lacking = Some(*key),
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
    match (part, value) {
        (Part::Struct(_) | Part::Map(_), Value::Object(map)) => {
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
        (Part::List(kind, shape), Value::Array(items)) => {
            for item in items {
                let Ok(element) = entry(item, kind, shape) else { continue };
                path.push(element);
                collect(item, Part::of_shape(shape), path, set);
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
    match (part, value) {
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
        (Part::List(kind, shape), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                match entry(item, kind, shape) {
                    Err(why) => errors.push(format!("{path}: element {index}: {why}")),
                    Ok(element) if seen.contains(&element) => {
                        errors.push(format!("{path}: duplicate entries for key {element}"));
                    }
                    Ok(element) => {
                        path.push_str(&element.to_string());
                        check(item, Part::of_shape(shape), path, errors);
                        path.truncate(length);
                        seen.insert(element);
                    }
                }
            }
        }
        (Part::Leaf(shape), _) => check_leaf(value, shape, path, errors),
        (Part::Struct(_) | Part::Map(_), _) => {
            errors.push(format!("{path}: expected map, got {}", described(value)));
        }
        (Part::List(..), _) => {
            errors.push(format!("{path}: expected list, got {}", described(value)));
        }
    }
}

/// A leaf that is a scalar must be of its sort; the parts of an atomic value are checked like any
/// others.
fn check_leaf(value: &Value, shape: &Shape, path: &mut String, errors: &mut Vec<String>) {
    let expected = match shape {
        Shape::Message(id) => {
            return check(value, Part::Struct(Schema::get().type_of(*id)), path, errors);
        }
        Shape::Map(inner) => return check(value, Part::Map(inner), path, errors),
        Shape::List(inner) => {
            match value.as_array() {
                Some(items) => items.iter().enumerate().for_each(|(index, item)| {
                    let length = path.len();
                    path.push_str(&Element::Index(index).to_string());
                    check(item, Part::of_shape(inner), path, errors);
                    path.truncate(length);
                }),
                None => errors.push(format!("{path}: expected list, got {}", described(value))),
            }
            return;
        }
        Shape::Scalar(scalar, _) => match scalar {
            Scalar::Int32 | Scalar::Int64 if !value.is_number() => "numeric (int or float)",
            Scalar::Bool if !value.is_boolean() => "boolean",
            Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime
                if !value.is_string() =>
            {
                "string"
            }
            _ => return,
        },
    };
    errors.push(format!("{path}: expected {expected}, got {}", described(value)));
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
