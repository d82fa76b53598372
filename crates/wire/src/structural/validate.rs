//! Whether values are as a schema says, with the paths, reasons and texts that kube-openapi's
//! validation gives (CR7).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::compare::equal;
use super::format;
use super::{Bound, Checks, Structural};
use crate::rules::error::{duplicate, invalid, required, too_long, too_many};
use crate::schema::ListKind;
use crate::status::{CauseReason, FieldError, quote};

/// All errors of a value at a path (empty at the root). Parts that are as they were in `old` are
/// not looked at: what was stored under another schema may stay (KEP-4008).
pub(crate) fn validate(
    value: &Value,
    old: Option<&Value>,
    schema: &Structural,
    path: &str,
) -> Vec<FieldError> {
    let mut outcome = Outcome::default();
    outcome.changed(value, old, schema, path);
    outcome.errors
}

/// Entries of sets and maps that occur twice (apiextensions `schema/listtype`).
pub(crate) fn validate_lists(value: &Value, schema: &Structural, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, path, &mut |value, schema, path| {
        if let (Value::Array(items), list) = (value, &schema.list) {
            errors.extend(duplicates(items, list, path));
        }
    });
    errors
}

/// What embedded objects lack (apiextensions `schema/objectmeta`).
pub(crate) fn validate_embedded(value: &Value, schema: &Structural) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, "", &mut |value, schema, path| {
        if !schema.is_embedded || !value.is_object() || path.is_empty() {
            return;
        }
        for name in ["apiVersion", "kind"] {
            if value[name].as_str().unwrap_or_default().is_empty() {
                errors.push(required(format!("{path}.{name}"), "must not be empty"));
            }
        }
    });
    errors
}

/// Calls `visit` for every value that has a schema.
fn walk(
    value: &Value,
    schema: &Structural,
    path: &str,
    visit: &mut impl FnMut(&Value, &Structural, &str),
) {
    visit(value, schema, path);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(below) = schema.below(name) {
                    walk(value, below, &join(path, name), visit);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                walk(item, below, &format!("{path}[{index}]"), visit);
            }
        }
        _ => {}
    }
}

fn duplicates(items: &[Value], list: &ListKind, path: &str) -> Vec<FieldError> {
    let key_of = |item: &Value| -> Option<Value> {
        match list {
            ListKind::Atomic => None,
            ListKind::Set => Some(item.clone()),
            ListKind::Map(keys) => {
                let keys =
                    keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Some(Value::Object(keys.collect()))
            }
        }
    };
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(key) = key_of(item)
            && !seen.insert(key.to_string())
        {
            errors.push(duplicate(format!("{path}[{index}]"), key));
        }
    }
    errors
}

/// Errors, and how many checks have been passed: of several alternatives the one that comes
/// nearest is reported.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: usize,
}

impl Outcome {
    fn of(value: &Value, schema: &Structural, path: &str) -> Self {
        let mut outcome = Self::default();
        outcome.changed(value, None, schema, path);
        outcome
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }

    fn changed(&mut self, value: &Value, old: Option<&Value>, schema: &Structural, path: &str) {
        if old == Some(value) {
            return;
        }
        let before = self.errors.len();
        self.ty(value, schema, path);
        if value.is_null() {
            self.values(value, &schema.checks, path);
            return;
        }
        self.alternatives(value, &schema.checks, path);
        match value {
            Value::String(text) => self.text(text, schema, path),
            Value::Number(_) => self.number(value, schema, path),
            Value::Array(items) => self.items(items, old, schema, path),
            _ => {}
        }
        self.values(value, &schema.checks, path);
        if let Value::Object(fields) = value {
            self.fields(fields, old, schema, path);
        }
        self.matches += usize::from(self.errors.len() == before);
    }

    fn ty(&mut self, value: &Value, schema: &Structural, path: &str) {
        let wanted: &[&str] = match schema.ty.as_str() {
            _ if schema.is_int_or_string => &["integer", "string"],
            "" => return,
            ty => &[ty],
        };
        if value.is_null() && schema.nullable {
            return;
        }
        let found = type_name(value);
        let is_whole = || value.as_f64().is_some_and(|number| number.fract() == 0.0);
        let fits = wanted.iter().any(|wanted| match (*wanted, found) {
            ("integer", "number") => is_whole(),
            ("number", "integer") => true,
            (wanted, found) => wanted == found,
        });
        if !fits {
            self.errors.push(type_invalid(path, &wanted.join(","), found));
        }
    }

    fn alternatives(&mut self, value: &Value, checks: &Checks, path: &str) {
        if !checks.any_of.is_empty() {
            let tried = checks.any_of.iter().map(|schema| Self::of(value, schema, path));
            let tried: Vec<Self> = tried.collect();
            if !tried.iter().any(Self::is_valid) {
                self.root(format!("{} must validate at least one schema (anyOf)", quote(path)));
                nearest(tried).into_iter().for_each(|failed| self.merge(failed));
            }
        }
        if !checks.one_of.is_empty() {
            let tried = checks.one_of.iter().map(|schema| Self::of(value, schema, path));
            let tried: Vec<Self> = tried.collect();
            let valid = tried.iter().filter(|outcome| outcome.is_valid()).count();
            if valid != 1 {
                let found = match valid {
                    0 => "Found none valid".to_owned(),
                    valid => format!("Found {valid} valid alternatives"),
                };
                let path = quote(path);
                self.root(format!("{path} must validate one and only one schema (oneOf). {found}"));
                if valid == 0 {
                    nearest(tried).into_iter().for_each(|failed| self.merge(failed));
                }
            }
        }
        self.all_of(value, checks, path);
        if let Some(not) = &checks.not
            && Self::of(value, not, path).is_valid()
        {
            self.root(format!("{} must not validate the schema (not)", quote(path)));
        }
    }

    fn all_of(&mut self, value: &Value, checks: &Checks, path: &str) {
        let mut valid = 0;
        for schema in &checks.all_of {
            let outcome = Self::of(value, schema, path);
            valid += usize::from(outcome.is_valid());
            self.merge(outcome);
        }
        if valid != checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            self.root(format!("{} must validate all the schemas (allOf){none}", quote(path)));
        }
    }

    /// An error that names its place only in the text; upstream gives it no field.
    fn root(&mut self, text: String) {
        self.errors.push(invalid("<nil>", "", text));
    }

    fn text(&mut self, text: &str, schema: &Structural, path: &str) {
        let checks = &schema.checks;
        let length = text.chars().count() as u64;
        if let Some(most) = checks.length.most.filter(|most| length > *most) {
            self.errors.push(too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        if let Some(least) = checks.length.least.filter(|least| length < *least) {
            self.body(path, text, format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = &checks.pattern
            && pattern.regex.as_ref().is_some_and(|regex| !regex.is_match(text))
        {
            self.body(path, text, format!("should match '{}'", pattern.text));
        }
        if !format::fits(&checks.format, text) {
            self.errors.push(type_invalid(path, &checks.format, text));
        }
    }

    fn number(&mut self, value: &Value, schema: &Structural, path: &str) {
        let checks = &schema.checks;
        let number = value.as_f64().unwrap_or_default();
        if let Some(factor) = checks.multiple_of.filter(|factor| *factor > 0.0)
            && (number / factor).fract() != 0.0
        {
            self.body(path, value.clone(), format!("should be a multiple of {factor}"));
        }
        if let Some(Bound { value: most, is_exclusive }) = checks.maximum
            && (number > most || is_exclusive && number >= most)
        {
            let or_equal = if is_exclusive { "" } else { " or equal to" };
            self.body(path, value.clone(), format!("should be less than{or_equal} {most}"));
        }
        if let Some(Bound { value: least, is_exclusive }) = checks.minimum
            && (number < least || is_exclusive && number <= least)
        {
            let or_equal = if is_exclusive { "" } else { " or equal to" };
            self.body(path, value.clone(), format!("should be greater than{or_equal} {least}"));
        }
        let is_in_range = match checks.format.as_str() {
            "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            "int64" => value.is_i64(),
            _ => true,
        };
        if !is_in_range && schema.ty == "integer" {
            let format = &checks.format;
            self.body(path, value.clone(), format!("must be of type integer with format {format}"));
        }
    }

    fn items(&mut self, items: &[Value], old: Option<&Value>, schema: &Structural, path: &str) {
        if let Some(below) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                let old = same_entry(item, old, &schema.list);
                self.changed(item, old, below, &format!("{path}[{index}]"));
            }
        }
        let (count, range) = (items.len(), schema.checks.items);
        if let Some(least) = range.least.filter(|least| (count as u64) < *least) {
            self.body(path, count, format!("should have at least {least} items"));
        }
        if let Some(most) = range.most.filter(|most| count as u64 > *most) {
            self.errors.push(too_many(path, count, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        let is_twice = |(index, item): (usize, &Value)| {
            items.iter().take(index).any(|earlier| equal(earlier, item))
        };
        if schema.checks.unique_items && items.iter().enumerate().any(is_twice) {
            self.body(path, "", "shouldn't contain duplicates".to_owned());
        }
    }

    fn values(&mut self, value: &Value, checks: &Checks, path: &str) {
        if checks.values.is_empty() || checks.values.iter().any(|known| equal(known, value)) {
            return;
        }
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let known: Vec<String> = checks.values.iter().map(shown).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        self.errors.push(crate::rules::error::not_supported(path, value.clone(), &known));
    }

    fn fields(
        &mut self,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        schema: &Structural,
        path: &str,
    ) {
        let (count, range) = (fields.len(), schema.checks.properties);
        if let Some(least) = range.least.filter(|least| (count as u64) < *least) {
            self.body(path, count, format!("should have at least {least} properties"));
        }
        if let Some(most) = range.most.filter(|most| count as u64 > *most) {
            self.errors.push(too_many(path, count, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        for (name, value) in fields {
            if let Some(below) = schema.below(name) {
                let old = old.and_then(|old| old.get(name));
                self.changed(value, old, below, &join(path, name));
            }
        }
        for name in &schema.checks.required {
            if !fields.contains_key(name) {
                self.errors.push(required(join(path, name), ""));
            }
        }
    }

    fn body(&mut self, path: &str, value: impl Into<Value>, why: String) {
        self.errors.push(invalid(path, value, format!("{path} in body {why}")));
    }
}

/// The entry of an old list that an entry continues: lists of maps tell by their keys.
fn same_entry<'v>(item: &Value, old: Option<&'v Value>, list: &ListKind) -> Option<&'v Value> {
    let ListKind::Map(keys) = list else { return None };
    let is_same = |other: &&Value| keys.iter().all(|key| other.get(key) == item.get(key));
    old?.as_array()?.iter().find(is_same)
}

/// The alternative that passed most checks, the first of several.
fn nearest(tried: Vec<Outcome>) -> Option<Outcome> {
    let most = tried.iter().map(|outcome| outcome.matches).max()?;
    tried.into_iter().find(|outcome| outcome.matches == most)
}

fn type_invalid(path: &str, wanted: &str, found: &str) -> FieldError {
    let found = quote(found);
    let message =
        format!("Invalid value: {found}: {path} in body must be of type {wanted}: {found}");
    FieldError { field: path.to_owned(), reason: CauseReason::TypeInvalid, message }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
