//! Places in JSON documents, and small changes to them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

/// Values captured in a case, by name.
pub(crate) type Names = BTreeMap<String, Value>;

/// Every place that a pointer with `*` for "all of them" names, as tokens without a `*`.
pub(crate) fn places(document: &Value, pointer: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    for token in tokens(pointer) {
        let step = |place: Vec<String>| {
            let keys = match (at(document, &place), token.as_str()) {
                (Some(Value::Object(map)), "*") => map.keys().cloned().collect(),
                (Some(Value::Array(list)), "*") => (0..list.len()).map(|i| i.to_string()).collect(),
                (Some(Value::Object(map)), key) if map.contains_key(key) => vec![token.clone()],
                (Some(Value::Array(list)), index) => position(list, index).into_iter().collect(),
                _ => Vec::new(),
            };
            keys.into_iter().map(move |key| [place.clone(), vec![key]].concat())
        };
        found = found.into_iter().flat_map(step).collect();
    }
    found
}

/// The values at every place that a pointer names.
pub(crate) fn values<'a>(document: &'a Value, pointer: &str) -> Vec<&'a Value> {
    places(document, pointer).iter().filter_map(|place| at(document, place)).collect()
}

/// The first of them, or null.
pub(crate) fn value(document: &Value, pointer: &str) -> Value {
    values(document, pointer).first().map_or(Value::Null, |value| (*value).clone())
}

/// The value at a place.
pub(crate) fn at_mut<'a>(document: &'a mut Value, place: &[String]) -> Option<&'a mut Value> {
    place.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(list) => list.get_mut(token.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Removes what is at a place.
pub(crate) fn remove(document: &mut Value, place: &[String]) {
    let Some((last, parent)) = place.split_last() else { return };
    match at_mut(document, parent) {
        Some(Value::Object(map)) => {
            map.remove(last);
        }
        Some(Value::Array(list)) => {
            if let Ok(index) = last.parse::<usize>()
                && index < list.len()
            {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// `add`, `replace` and `remove` at pointers, making missing parents.
pub(crate) fn edit(document: &mut Value, operations: &Value) {
    for operation in operations.as_array().into_iter().flatten() {
        let place: Vec<String> = tokens(operation["path"].as_str().unwrap_or_default()).collect();
        let Some((last, parents)) = place.split_last() else { continue };
        let mut parent = &mut *document;
        for token in parents {
            parent = match parent {
                Value::Array(list) => &mut list[token.parse::<usize>().unwrap()],
                other => {
                    if !other.is_object() {
                        *other = json!({});
                    }
                    &mut other[token.as_str()]
                }
            };
        }
        let written = operation["value"].clone();
        match (parent, operation["op"].as_str()) {
            (Value::Array(list), Some("remove")) => {
                list.remove(last.parse::<usize>().unwrap());
            }
            (Value::Array(list), Some("add")) if last == "-" => list.push(written),
            (Value::Array(list), Some("add")) => list.insert(last.parse().unwrap(), written),
            (Value::Array(list), _) => list[last.parse::<usize>().unwrap()] = written,
            (Value::Object(map), Some("remove")) => {
                map.remove(last);
            }
            (other, _) => {
                if !other.is_object() {
                    *other = json!({});
                }
                other[last.as_str()] = written;
            }
        }
    }
}

/// Replaces `{name}`: a text that is nothing else becomes the captured value itself.
pub(crate) fn substitute(value: &Value, names: &Names) -> Value {
    match value {
        Value::String(text) => {
            let whole = NAME.captures(text).filter(|found| found[0].len() == text.len());
            match whole.and_then(|found| names.get(&found[1])) {
                Some(value) => value.clone(),
                None => substitute_text(text, names).into(),
            }
        }
        Value::Array(list) => list.iter().map(|item| substitute(item, names)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (substitute_text(key, names), substitute(value, names)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Replaces `{name}` in running text.
pub(crate) fn substitute_text(text: &str, names: &Names) -> String {
    let replaced = |found: &Captures<'_>| match names.get(&found[1]) {
        Some(value) if !value.is_object() && !value.is_array() => plain(value),
        _ => found[0].to_owned(),
    };
    NAME.replace_all(text, replaced).into_owned()
}

/// `{"$repeat": n, "item": x}` in a list becomes n elements.
pub(crate) fn expand(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().flat_map(repeated).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), expand(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn repeated(value: &Value) -> Vec<Value> {
    let Some(count) = value["$repeat"].as_u64() else { return vec![expand(value)] };
    let item = |i: u64| {
        let counters = [("i", i), ("h", i / 250), ("l", i % 250 + 1)];
        let names = counters.map(|(name, value)| (name.to_owned(), value.into()));
        substitute(&value["item"], &names.into())
    };
    (0..count).map(item).collect()
}

/// Whether a predicate (`at`, `op`, `value`) holds.
pub(crate) fn holds(document: &Value, predicate: &Value) -> bool {
    let found = values(document, predicate["at"].as_str().unwrap_or_default());
    let wanted = &predicate["value"];
    let number = wanted.as_u64().and_then(|number| usize::try_from(number).ok());
    let length = |value: &Value| match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        Value::String(text) => text.chars().count(),
        _ => 0,
    };
    match predicate["op"].as_str().unwrap_or("eq") {
        "exists" => !found.is_empty(),
        "absent" => found.is_empty(),
        "count" => Some(found.len()) == number,
        "len" => Some(found.first().map_or(0, |value| length(value))) == number,
        "minlen" => found.first().is_some_and(|value| Some(length(value)) >= number),
        "total" => Some(found.into_iter().map(length).sum()) == number,
        "match" => {
            let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
            !found.is_empty() && found.iter().all(|value| pattern.is_match(&plain(value)))
        }
        "ne" => found.iter().all(|value| *value != wanted),
        "eq" => !found.is_empty() && found.iter().all(|value| *value == wanted),
        other => panic!("unknown predicate {other:?}"),
    }
}

/// A text as it is, anything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// JSON, cut when it is long.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn at<'a>(document: &'a Value, place: &[String]) -> Option<&'a Value> {
    place.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get(token),
        Value::Array(list) => list.get(token.parse::<usize>().ok()?),
        _ => None,
    })
}

fn tokens(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}

/// A position counts from the end when it is negative.
fn position(list: &[Value], index: &str) -> Option<String> {
    let index: isize = index.parse().ok()?;
    let index =
        if index < 0 { list.len().checked_add_signed(index)? } else { index.unsigned_abs() };
    (index < list.len()).then(|| index.to_string())
}

static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{([A-Za-z_][A-Za-z0-9_]*)\}").unwrap());
