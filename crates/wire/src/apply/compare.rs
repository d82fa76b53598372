//! The difference of two objects as sets of fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Element, FieldSet};
use super::walk::{Fields, Part, entry, is_type_meta};
use crate::schema::{Field, Scalar, Shape};

/// Fields that differ between an old and a new object.
#[derive(Default, Debug)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Changes {
    /// Fields that are new or have a new value.
    pub(super) fn written(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// The same without some fields and all below them.
    pub(super) fn without(self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.without_below(ignored),
            modified: self.modified.without_below(ignored),
            removed: self.removed.without_below(ignored),
        }
    }
}

/// Compares two objects of one type.
pub(super) fn compare(old: &Value, new: &Value, part: Part<'_>) -> Changes {
    let mut comparison = Comparison { changes: Changes::default(), path: Vec::new() };
    comparison.value(Some(old), Some(new), part);
    comparison.changes
}

struct Comparison {
    changes: Changes,
    path: Vec<Element>,
}

impl Comparison {
    fn value(&mut self, old: Option<&Value>, new: Option<&Value>, part: Part<'_>) {
        let part = match (old, new) {
            (Some(old), Some(new)) if old.is_object() => part.for_value(new),
            (Some(value), _) | (None, Some(value)) => part.for_value(value),
            (None, None) => part,
        };
        let leaf = match part {
            Part::Leaf(_) => true,
            // Two empty values are a leaf, so that null and empty stay apart.
            _ => is_empty(old) && is_empty(new),
        };
        if !leaf {
            match part {
                Part::List(..) => self.list(old, new, part),
                _ => self.map(old, new, part),
            }
        }
        match (old, new) {
            (None, Some(_)) => self.changes.added.insert(&self.path),
            (Some(_), None) => self.changes.removed.insert(&self.path),
            (Some(old), Some(new)) if leaf && old != new => {
                self.changes.modified.insert(&self.path);
            }
            _ => {}
        }
    }

    fn map(&mut self, old: Option<&Value>, new: Option<&Value>, part: Part<'_>) {
        let old = old.and_then(Value::as_object);
        let new = new.and_then(Value::as_object);
        let present = [old, new].into_iter().flatten().flat_map(Map::keys).map(String::as_str);
        let keys: BTreeSet<&str> = present.chain(written_as_null(part)).collect();
        for key in keys.into_iter().filter(|key| !is_type_meta(part, key)) {
            let Some(below) = part.below(key) else { continue };
            self.path.push(Element::Field(key.to_owned()));
            self.value(member(old, key, part), member(new, key, part), below);
            self.path.pop();
        }
    }

    fn list(&mut self, old: Option<&Value>, new: Option<&Value>, part: Part<'_>) {
        let Part::List(kind, below) = part else { return };
        let mut entries: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old.and_then(Value::as_array).into_iter().flatten() {
            if let Ok(element) = entry(item, kind, below) {
                entries.entry(element).or_default().0.push(item);
            }
        }
        for item in new.and_then(Value::as_array).into_iter().flatten() {
            if let Ok(element) = entry(item, kind, below) {
                entries.entry(element).or_default().1.push(item);
            }
        }
        for (element, (old, new)) in entries {
            self.path.push(element);
            if old.len() <= 1 && new.len() <= 1 {
                let (old, new) = (old.first().copied(), new.first().copied());
                self.value(old, new, Part::of(below));
            } else if old != new {
                // Entries that share a key have one owner together.
                self.changes.modified.insert(&self.path);
            }
            self.path.pop();
        }
    }
}

/// A member as the real server's structs have it: one that they always write is null when nobody
/// has set it, and null is nothing in one that they leave out.
fn member<'v>(
    object: Option<&'v Map<String, Value>>,
    key: &str,
    part: Part<'_>,
) -> Option<&'v Value> {
    let value = object?.get(key).filter(|value| !value.is_null());
    match part {
        Part::Struct(Fields::Compiled(ty)) => {
            let is_written = ty.field(key).is_some_and(is_written_as_null);
            value.or_else(|| is_written.then_some(&Value::Null))
        }
        _ => object?.get(key),
    }
}

fn written_as_null(part: Part<'_>) -> impl Iterator<Item = &str> {
    let fields = match part {
        Part::Struct(Fields::Compiled(ty)) => ty.fields.as_slice(),
        _ => &[],
    };
    fields.iter().filter(|field| is_written_as_null(field)).map(|field| field.name)
}

fn is_written_as_null(field: &Field) -> bool {
    let can_be_null = match field.shape {
        Shape::List(_) | Shape::Map(_) => true,
        Shape::Scalar(scalar, _) => matches!(scalar, Scalar::Time | Scalar::MicroTime),
        Shape::Message(_) | Shape::Or(..) => false,
    };
    can_be_null && !field.omit_empty && !field.pointer
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}
