//! Strategic merge patch: a merge patch in which lists may merge by key, with directives.
//!
//! | directive | where | meaning |
//! |---|---|---|
//! | `$patch: replace` | map, list entry | the patch takes the place of the whole |
//! | `$patch: delete` | map, list entry | the map, or the entries with this key, go |
//! | `$setElementOrder/F: [...]` | beside list `F` | order of the merged list |
//! | `$deleteFromPrimitiveList/F: [...]` | beside list `F` | scalars to take out |
//! | `$retainKeys: [...]` | map | keys not named go |
//!
//! Rules: Kubernetes community "strategic-merge-patch" contributor guide.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::{Field, Schema, Shape, Type};
use crate::status::{self, Failure};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Why a patch cannot be merged.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Error {
    /// The directive is badly formed: 400.
    Format(String),
    /// Lists of lists: 422.
    ListOfLists,
    /// What the real server never gave a type: 500 without a reason.
    Untyped(String),
}

impl Error {
    /// The answer the real server gives.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Format(why) => status::bad_request(why),
            Self::ListOfLists => status::unprocessable_patch(),
            Self::Untyped(why) => status::untyped(why),
        }
    }
}

/// Merges `patch` into `original`, an object of type `ty`.
pub(super) fn merge(original: Value, patch: &Value, ty: Option<&Type>) -> Result<Value, Error> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(Error::Format("invalid JSON document".to_owned()));
    };
    let context = ty.map_or(Context::Unknown, Context::Message);
    merge_map(original, patch.clone(), context).map(Value::Object)
}

/// What is known about the map being merged.
#[derive(Clone, Copy)]
enum Context<'s> {
    Message(&'s Type),
    MapOf(&'s Shape),
    Unknown,
}

impl<'s> Context<'s> {
    fn field(self, name: &str) -> Option<&'s Field> {
        match self {
            Self::Message(ty) => ty.field(name),
            _ => None,
        }
    }

    /// The context of what is below key `name`.
    fn below(self, name: &str) -> Self {
        let shape = match self {
            Self::Message(ty) => ty.field(name).map(|f| &f.shape),
            Self::MapOf(shape) => Some(shape),
            Self::Unknown => None,
        };
        shape.map_or(Context::Unknown, Self::of)
    }

    fn of(shape: &'s Shape) -> Self {
        match shape {
            Shape::Message(id) => Self::Message(Schema::get().type_of(*id)),
            Shape::Map(inner) => Self::MapOf(inner),
            Shape::List(inner) => Self::of(inner),
            Shape::Scalar(..) | Shape::Or(..) => Self::Unknown,
        }
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    context: Context<'_>,
) -> Result<Map<String, Value>, Error> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, context)?;
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(&mut original, list, &value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                Value::Object(merge_map(old, new, context.below(&key))?)
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                Value::Array(merge_list(old, new, context, &key)?)
            }
            (_, value) => without_directives(value),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn unknown_directive(directive: Value, mut patch: Map<String, Value>) -> Error {
    let name = go_format(&directive);
    patch.insert(PATCH.to_owned(), directive);
    let map = go_format(&Value::Object(patch));
    Error::Untyped(format!("unknown patch type: {name} in map: {map}"))
}

fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::Format("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(bad)?;
    let keys: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let is_retained = |name: &str| name.starts_with('$') || keys.contains(name);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_retained(name)) {
        return Err(bad());
    }
    original.retain(|key, _| keys.contains(&**key));
    Ok(())
}

fn delete_primitives(
    original: &mut Map<String, Value>,
    list: &str,
    gone: &Value,
) -> Result<(), Error> {
    let gone = gone
        .as_array()
        .ok_or_else(|| Error::Format("invalid patch format of primitive list".to_owned()))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        let gone = Places::of(gone, None);
        items.retain(|item| gone.place(item).is_none());
    }
    Ok(())
}

/// Handles `$setElementOrder/F` together with the patch of list `F`.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    context: Context<'_>,
) -> Result<(), Error> {
    let directives: Vec<String> =
        patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = directive[SET_ORDER.len()..].to_owned();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            let why = "invalid patch format of setElementOrder list";
            return Err(Error::Format(why.to_owned()));
        };
        let key = context.field(&name).and_then(|f| f.patch.key);
        let list_patch = match patch.remove(&name) {
            Some(Value::Array(items)) => {
                check_order(&items, &order, key)?;
                Some(items)
            }
            Some(other) => {
                patch.insert(name, other);
                continue;
            }
            None => None,
        };
        if let Some(Value::Array(deleted)) = patch.remove(&format!("{DELETE_PRIMITIVES}{name}")) {
            delete_primitives(original, &name, &Value::Array(deleted))?;
        }
        let before = match original.get(&name) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let merged = match list_patch {
            Some(items) if original.contains_key(&name) => {
                merge_list(before.clone(), items, context, &name)?
            }
            Some(items) => items.into_iter().map(without_directives).collect(),
            None if original.contains_key(&name) => before.clone(),
            None => continue,
        };
        original.insert(name, Value::Array(reorder(merged, &order, &before, key)));
    }
    Ok(())
}

/// The patched entries must appear in the order the directive gives.
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    let mut wanted = items.iter().filter(|i| i.get(PATCH).is_none_or(|p| p != "delete")).peekable();
    for place in order {
        if wanted.peek().is_some_and(|item| same(item, place, key)) {
            wanted.next();
        }
    }
    if wanted.peek().is_none() {
        return Ok(());
    }
    let items = go_format(&Value::Array(items.to_vec()));
    let order = go_format(&Value::Array(order.to_vec()));
    Err(Error::Untyped(format!(
        "The order in patch list:\n{items}\n doesn't match $setElementOrder list:\n{order}\n"
    )))
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Where the entries of a list stand, by their key or as a whole. Lists can be long, so nothing
/// searches them entry by entry.
struct Places<'k> {
    key: Option<&'k str>,
    places: BTreeMap<String, usize>,
}

impl<'k> Places<'k> {
    fn of(list: &[Value], key: Option<&'k str>) -> Self {
        let mut places = Self { key, places: BTreeMap::new() };
        for (place, item) in list.iter().enumerate() {
            places.add(item, place);
        }
        places
    }

    /// The first of equal entries counts.
    fn add(&mut self, item: &Value, place: usize) {
        if let Some(text) = self.text(item) {
            self.places.entry(text).or_insert(place);
        }
    }

    fn place(&self, item: &Value) -> Option<usize> {
        self.places.get(&self.text(item)?).copied()
    }

    fn text(&self, item: &Value) -> Option<String> {
        match self.key {
            Some(key) => item.get(key).map(Value::to_string),
            None => Some(item.to_string()),
        }
    }
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    context: Context<'_>,
    name: &str,
) -> Result<Vec<Value>, Error> {
    let rule = context.field(name).map(|f| f.patch).unwrap_or_default();
    if !rule.merge {
        return Ok(patch.into_iter().map(without_directives).collect());
    }
    let Some(key) = rule.key else {
        let mut merged = original.clone();
        let known = Places::of(&original, None);
        merged.extend(patch.iter().filter(|p| known.place(p).is_none()).cloned());
        return Ok(reorder(merged, &patch, &original, None));
    };
    let (kept, patch) = list_directives(original.clone(), patch, key)?;
    let mut places = Places::of(&kept, Some(key));
    let mut merged = kept;
    for item in &patch {
        if item.get(key).is_none() {
            return Err(no_merge_key(item, key));
        }
        match places.place(item) {
            Some(at) => {
                let old = std::mem::take(&mut merged[at]);
                merged[at] = merge_item(old, item, context.below(name))?;
            }
            None => {
                let new = without_directives(item.clone());
                places.add(&new, merged.len());
                merged.push(new);
            }
        }
    }
    Ok(reorder(merged, &patch, &original, Some(key)))
}

fn merge_item(old: Value, patch: &Value, context: Context<'_>) -> Result<Value, Error> {
    match (old, patch) {
        (Value::Object(old), Value::Object(patch)) => {
            merge_map(old, patch.clone(), context).map(Value::Object)
        }
        (old, patch) => Err(not_alike(&[old], patch)),
    }
}

fn no_merge_key(item: &Value, key: &str) -> Error {
    let item = go_format(item);
    Error::Untyped(format!("map: {item} does not contain declared merge key: {key}"))
}

/// An entry of a list that is no map, among those that are.
fn not_alike(list: &[Value], item: &Value) -> Error {
    if item.is_array() {
        return Error::ListOfLists;
    }
    let (list, item) = (go_format(&Value::Array(list.to_vec())), go_format(item));
    Error::Untyped(format!("list element types are not identical: [{list} [{item}]]"))
}

/// Carries out `$patch` in list entries; gives what is left of the list and of the patch.
fn list_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut plain, mut deleted) = (Vec::new(), Vec::new());
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = &item else { return Err(not_alike(&original, &item)) };
        match map.get(PATCH).map(|d| d.as_str()) {
            None => plain.push(item),
            Some(Some("delete")) => {
                if !map.contains_key(key) {
                    return Err(no_merge_key(&item, key));
                }
                deleted.push(item);
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(Error::Untyped(why.to_owned()));
            }
            Some(_) => {
                let mut map = map.clone();
                let directive = map.remove(PATCH).unwrap_or_default();
                return Err(unknown_directive(directive, map));
            }
        }
    }
    let deleted = Places::of(&deleted, Some(key));
    original.retain(|old| deleted.place(old).is_none());
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

/// Order of a merged list: entries named by `order` in that order, the others in the order they
/// had; between two of different sorts, the one that was in front stays in front. An entry that
/// was not there before comes first.
fn reorder(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (order, before) = (Places::of(order, key), Places::of(before, key));
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| order.place(item).is_some());
    named.sort_by_cached_key(|item| order.place(item));
    others.sort_by_cached_key(|item| before.place(item));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let in_front = match (before.place(left), before.place(right)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        result.extend(if in_front { others.next() } else { named.next() });
    }
    result.extend(others);
    result.extend(named);
    result
}

/// A patch taken as a value: directives and nulls inside it go.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(k, v)| !k.starts_with('$') && !v.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_directives(v))).collect())
        }
        Value::Array(items) => {
            let kept = items.into_iter().filter(|i| i.get(PATCH).is_none());
            Value::Array(kept.map(without_directives).collect())
        }
        other => other,
    }
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
pub(super) fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go_format).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> =
                map.iter().map(|(k, v)| format!("{k}:{}", go_format(v))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}
