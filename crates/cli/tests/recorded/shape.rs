//! Projections: what of an answer is compared.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::json::{at_mut, places, remove, value, values};

/// The keys of a step that are projections.
pub(crate) const PROJECTIONS: [&str; 5] = ["select", "pick", "ignore", "sort", "counts"];

/// Applies the projections of a step.
pub(crate) fn shape(document: &Value, step: &Value) -> Value {
    let mut shaped = document.clone();
    for selection in list(step, "select") {
        for place in places(&shaped, text(&selection["at"])) {
            if let Some(found) = at_mut(&mut shaped, &place) {
                *found = select(found, selection);
            }
        }
    }
    if !list(step, "pick").is_empty() {
        shaped = pick(&shaped, list(step, "pick"));
    }
    for pointer in list(step, "ignore") {
        for place in places(&shaped, text(pointer)).iter().rev() {
            remove(&mut shaped, place);
        }
    }
    for sorting in list(step, "sort") {
        for place in places(&shaped, text(&sorting["at"])) {
            if let Some(Value::Array(found)) = at_mut(&mut shaped, &place) {
                found.sort_by(|a, b| compare_by(a, b, list(sorting, "by")));
            }
        }
    }
    for pointer in list(step, "counts") {
        for place in places(&shaped, text(pointer)) {
            if let Some(found) = at_mut(&mut shaped, &place) {
                *found = json!({ "count": found.as_array().map_or(0, Vec::len) });
            }
        }
    }
    shaped
}

fn select(found: &Value, selection: &Value) -> Value {
    match found {
        Value::Array(items) => {
            let key = text(&selection["key"]);
            let then = selection["then"].as_str().unwrap_or(key);
            let wanted = list(selection, "in");
            let mut kept: Vec<Value> =
                items.iter().filter(|item| wanted.contains(&value(item, key))).cloned().collect();
            kept.sort_by(|a, b| compare_by(a, b, &[key.into(), then.into()]));
            kept.into()
        }
        Value::Object(map) => {
            let wanted = list(selection, "keys");
            let kept = map.iter().filter(|(key, _)| wanted.iter().any(|name| name == key.as_str()));
            kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn pick(document: &Value, pointers: &[Value]) -> Value {
    let picked = pointers.iter().map(|pointer| {
        let pointer = text(pointer);
        let found = if pointer.contains('*') {
            values(document, pointer).into_iter().cloned().collect()
        } else {
            value(document, pointer)
        };
        (pointer.to_owned(), found)
    });
    picked.collect::<Map<_, _>>().into()
}

fn compare_by(a: &Value, b: &Value, pointers: &[Value]) -> Ordering {
    let whole = [Value::from("")];
    let pointers = if pointers.is_empty() { &whole } else { pointers };
    pointers
        .iter()
        .map(|pointer| compare(&value(a, text(pointer)), &value(b, text(pointer))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
