//! Structural schemas: what the objects of a CustomResourceDefinition look like (KEP-1002).
//!
//! ```text
//!  openAPIV3Schema ─ check (is it structural?) ─▶ Structural ─┬─ prune, default  ─▶ Value
//!                                                             └─ validate ─▶ FieldErrors
//! ```
//!
//! What it is: the schema, parsed once, and the pure functions over it. Ownership of fields
//! (`crate::apply`) walks the same tree. What it is not: rules in CEL
//! (`x-kubernetes-validations`) are carried in the definition and not evaluated.

mod check;
mod compare;
mod default;
mod format;
mod prune;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::rules::fields::Fields;
use crate::schema::ListKind;

pub(crate) use check::{Scope, check};
pub(crate) use prune::prune_object;
pub(crate) use validate::{validate, validate_embedded, validate_lists};

/// A schema, or a part of one.
#[derive(Clone, Default, Debug)]
pub struct Structural {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty for any.
    pub(crate) ty: String,
    /// Whether null is a value.
    pub(crate) nullable: bool,
    /// What an absent value becomes.
    pub(crate) default: Option<Value>,
    /// Known fields.
    pub(crate) properties: BTreeMap<String, Self>,
    /// Other fields.
    pub(crate) additional: Additional,
    /// Entries of a list.
    pub(crate) items: Option<Box<Self>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub(crate) preserves_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub(crate) is_embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub(crate) is_int_or_string: bool,
    /// `x-kubernetes-list-type` and its keys.
    pub(crate) list: ListKind,
    /// `x-kubernetes-map-type: atomic`.
    pub(crate) is_atomic: bool,
    /// What else values must be like.
    pub(crate) checks: Checks,
}

/// `additionalProperties`.
#[derive(Clone, Default, Debug)]
pub(crate) enum Additional {
    /// There are none.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this schema.
    Schema(Box<Structural>),
}

/// Conditions on values that do not change their shape.
#[derive(Clone, Default, Debug)]
pub(crate) struct Checks {
    pub(crate) format: String,
    pub(crate) values: Vec<Value>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length: Range,
    pub(crate) items: Range,
    pub(crate) properties: Range,
    pub(crate) unique_items: bool,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) required: Vec<String>,
    pub(crate) all_of: Vec<Structural>,
    pub(crate) any_of: Vec<Structural>,
    pub(crate) one_of: Vec<Structural>,
    pub(crate) not: Option<Box<Structural>>,
}

/// A bound of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) value: f64,
    pub(crate) is_exclusive: bool,
}

/// Bounds of a length or count, both inclusive.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Range {
    pub(crate) least: Option<u64>,
    pub(crate) most: Option<u64>,
}

/// A regular expression; `None` inside when it is not one.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    pub(crate) regex: Option<Regex>,
}

impl Structural {
    /// From `openAPIV3Schema`, which [`check`] has found to be structural. What is not is read as
    /// well as it goes: stored definitions of other servers must not stop this one.
    pub fn parse(schema: &Value) -> Self {
        let flag = |name: &str| schema[name].as_bool().unwrap_or(false);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let additional = match &schema["additionalProperties"] {
            Value::Bool(true) => Additional::Any,
            value @ Value::Object(_) => Additional::Schema(Box::new(Self::parse(value))),
            _ => Additional::None,
        };
        Self {
            ty: schema["type"].as_str().unwrap_or_default().to_owned(),
            nullable: flag("nullable"),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            properties: properties.map(|(name, part)| (name.clone(), Self::parse(part))).collect(),
            additional,
            items: schema["items"].as_object().map(|_| Box::new(Self::parse(&schema["items"]))),
            preserves_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            is_embedded: flag("x-kubernetes-embedded-resource"),
            is_int_or_string: flag("x-kubernetes-int-or-string"),
            list: list_kind(schema),
            is_atomic: schema["x-kubernetes-map-type"] == "atomic",
            checks: Checks::parse(schema),
        }
    }

    /// The schema of kinds that declare none: everything is kept.
    pub fn anything() -> Self {
        Self { ty: "object".to_owned(), preserves_unknown: true, ..Self::default() }
    }

    /// The schema of a field; `None` if there is no such field.
    pub(crate) fn below(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }
}

impl Checks {
    fn parse(schema: &Value) -> Self {
        let bound = |value: &str, exclusive: &str| {
            let is_exclusive = schema[exclusive].as_bool().unwrap_or(false);
            schema[value].as_f64().map(|value| Bound { value, is_exclusive })
        };
        let range = |least: &str, most: &str| {
            let bound = |name: &str| schema[name].as_i64().and_then(|n| u64::try_from(n).ok());
            Range { least: bound(least), most: bound(most) }
        };
        let schemas = |name: &str| -> Vec<Structural> {
            schema[name].as_array().into_iter().flatten().map(Structural::parse).collect()
        };
        let required = schema["required"].as_array().into_iter().flatten();
        let pattern = schema["pattern"].as_str().filter(|text| !text.is_empty());
        Self {
            format: schema["format"].as_str().unwrap_or_default().to_owned(),
            values: schema["enum"].as_array().cloned().unwrap_or_default(),
            maximum: bound("maximum", "exclusiveMaximum"),
            minimum: bound("minimum", "exclusiveMinimum"),
            multiple_of: schema["multipleOf"].as_f64(),
            length: range("minLength", "maxLength"),
            items: range("minItems", "maxItems"),
            properties: range("minProperties", "maxProperties"),
            unique_items: schema["uniqueItems"].as_bool().unwrap_or(false),
            pattern: pattern
                .map(|text| Pattern { text: text.to_owned(), regex: Regex::new(text).ok() }),
            required: required.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: schema["not"].as_object().map(|_| Box::new(Structural::parse(&schema["not"]))),
        }
    }
}

fn list_kind(schema: &Value) -> ListKind {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.texts("/x-kubernetes-list-map-keys");
            ListKind::Map(keys.into_iter().map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}
