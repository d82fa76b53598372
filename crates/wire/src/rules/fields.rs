//! Reading and writing fields of a `Value` the way Go sees them: absent, `null` and the zero value
//! are often the same.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Read access by JSON pointer (`/spec/type`).
pub(crate) trait Fields {
    /// The value, `Null` when absent.
    fn at(&self, pointer: &str) -> &Value;

    /// The text, empty when absent or of another type.
    fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or("")
    }

    /// The number, 0 when absent or of another type.
    fn int(&self, pointer: &str) -> i64 {
        self.at(pointer).as_i64().unwrap_or(0)
    }

    /// The boolean, false when absent or of another type.
    fn flag(&self, pointer: &str) -> bool {
        self.at(pointer).as_bool().unwrap_or(false)
    }

    /// The items, none when absent or of another type.
    fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// The entries, none when absent or of another type.
    fn map<'a>(&'a self, pointer: &str) -> impl Iterator<Item = (&'a str, &'a Value)>
    where
        Self: 'a,
    {
        self.at(pointer).as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// The texts of a list; items of other types count as empty.
    fn texts<'a>(&'a self, pointer: &str) -> Vec<&'a str> {
        self.list(pointer).iter().map(|item| item.as_str().unwrap_or("")).collect()
    }

    /// Whether the field is there and not `null`.
    fn has(&self, pointer: &str) -> bool {
        !self.at(pointer).is_null()
    }
}

impl Fields for Value {
    fn at(&self, pointer: &str) -> &Value {
        self.pointer(pointer).unwrap_or(&NULL)
    }
}

/// Sets a field, making objects on the way. Does nothing when a parent is of another type.
pub(crate) fn set(object: &mut Value, pointer: &str, value: impl Into<Value>) {
    let Some(parts) = pointer.strip_prefix('/') else { return };
    let mut at = object;
    for part in parts.split('/') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Some(fields) = at.as_object_mut() else { return };
        at = fields.entry(part).or_insert(Value::Null);
    }
    *at = value.into();
}

/// Sets a field that is absent, `null` or the empty text.
pub(crate) fn default(object: &mut Value, pointer: &str, value: impl Into<Value>) {
    let now = object.at(pointer);
    if now.is_null() || now.as_str() == Some("") {
        set(object, pointer, value);
    }
}

/// Removes a field. Returns it, if it was there.
pub(crate) fn remove(object: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    object.pointer_mut(parent)?.as_object_mut()?.remove(name)
}

/// Gives a top-level field the value it has in another object, absence included.
pub(crate) fn copy(object: &mut Value, from: &Value, name: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    match from.get(name) {
        Some(value) => drop(fields.insert(name.to_owned(), value.clone())),
        None => drop(fields.remove(name)),
    }
}

/// Gives a field the value it has in another object; absence leaves it as it is.
pub(crate) fn copy_at(object: &mut Value, from: &Value, pointer: &str) {
    let value = from.at(pointer);
    if !value.is_null() {
        set(object, pointer, value.clone());
    }
}

/// The items of a list, to change them.
pub(crate) fn items<'a>(
    object: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether two values are equal when absent, `null` and empty lists and maps are one.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    if is_empty(left) && is_empty(right) {
        return true;
    }
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => left
            .keys()
            .chain(right.keys())
            .all(|key| same(left.get(key).unwrap_or(&NULL), right.get(key).unwrap_or(&NULL))),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        _ => left == right,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn set_makes_parents_and_leaves_other_types_alone() {
        let mut value = json!({ "list": [] });
        set(&mut value, "/spec/type", "x");
        set(&mut value, "/list/type", "x");
        assert_eq!(value, json!({ "list": [], "spec": { "type": "x" } }));
    }

    #[test]
    fn absent_null_and_empty_are_the_same() {
        assert!(same(&json!({ "a": {}, "b": null }), &json!({ "c": [] })));
        assert!(!same(&json!({ "a": 0 }), &json!({})));
    }
}
