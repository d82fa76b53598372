//! Merging a configuration into an object, and taking fields out of one.

use serde_json::{Map, Value};

use super::set::{Element, FieldSet};
use super::walk::{Part, entry};

/// `live` with everything `config` sets.
pub(super) fn merge(live: &Value, config: &Value, part: Part<'_>) -> Value {
    match (part, live, config) {
        (Part::Struct(_) | Part::Map(_), Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (key, value) in config {
                let value = match (live.get(key), part.below(key)) {
                    (Some(old), Some(below)) => merge(old, value, below),
                    _ => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Part::List(..), Value::Array(live), Value::Array(config)) => {
            Value::Array(merge_list(live, config, part))
        }
        // Null leaves maps and lists as they are.
        (Part::Struct(_) | Part::Map(_) | Part::List(..), _, Value::Null) => live.clone(),
        _ => config.clone(),
    }
}

/// Entries of the configuration keep its order; those that are only in the object stay where they
/// were among the shared ones.
fn merge_list(live: &[Value], config: &[Value], part: Part<'_>) -> Vec<Value> {
    let Part::List(kind, shape) = part else { return config.to_vec() };
    let steps = |items: &[Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| entry(item, kind, shape).ok()).collect()
    };
    let (live_steps, config_steps) = (steps(live), steps(config));
    let in_live = |step: &Option<Element>| live_steps.iter().position(|other| other == step);
    let mut result = Vec::with_capacity(live.len() + config.len());
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if left < live.len() {
            let step = &live_steps[left];
            if !config_steps.contains(step) {
                result.push(live[left].clone());
                left += 1;
                continue;
            }
            // A shared entry appears where the configuration has it.
            let next_shared = config_steps[right..].iter().find(|s| in_live(s).is_some());
            if next_shared != Some(step) {
                left += 1;
                continue;
            }
        }
        if let Some(item) = config.get(right) {
            result.push(match in_live(&config_steps[right]) {
                Some(at) => merge(&live[at], item, Part::of_shape(shape)),
                None => item.clone(),
            });
            right += 1;
        }
    }
    result
}

/// `value` without the fields of a set.
pub(super) fn remove(value: &Value, gone: &FieldSet, part: Part<'_>) -> Value {
    let below = |element: &Element, inner: &Value| {
        if gone.has(element) {
            return None;
        }
        match (gone.below(element).filter(|g| !g.is_empty()), part.at(element)) {
            (Some(gone), Some(part)) => Some(remove(inner, gone, part)),
            _ => Some(inner.clone()),
        }
    };
    match (part, value) {
        (Part::Struct(_) | Part::Map(_), Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, inner)| {
                Some((key.clone(), below(&Element::Field(key.clone()), inner)?))
            });
            or_null(Value::Object(kept.collect::<Map<_, _>>()), map.is_empty())
        }
        (Part::List(kind, shape), Value::Array(items)) => {
            let kept = items.iter().filter_map(|item| match entry(item, kind, shape) {
                Ok(element) => below(&element, item),
                Err(_) => Some(item.clone()),
            });
            or_null(Value::Array(kept.collect()), items.is_empty())
        }
        _ => value.clone(),
    }
}

/// A map or list from which everything was taken is gone too, unless it was empty before.
fn or_null(value: Value, was_empty: bool) -> Value {
    let empty = match &value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if empty && !was_empty { Value::Null } else { value }
}
