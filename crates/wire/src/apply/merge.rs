//! Merging a configuration into an object, and taking fields out of one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Element, FieldSet};
use super::walk::{Part, entry};

/// `live` with everything `config` sets.
pub(super) fn merge(live: &Value, config: &Value, part: Part<'_>) -> Value {
    let part = if live.is_object() { part.for_value(config) } else { part };
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
    let Part::List(kind, below) = part else { return config.to_vec() };
    let steps = |items: &[Value]| -> Vec<Option<Element>> {
        items.iter().map(|item| entry(item, kind, below).ok()).collect()
    };
    let (live_steps, config_steps) = (steps(live), steps(config));
    let places: BTreeMap<&Option<Element>, usize> =
        live_steps.iter().enumerate().rev().map(|(at, step)| (step, at)).collect();
    let in_config: BTreeSet<&Option<Element>> = config_steps.iter().collect();
    let mut shared = config_steps.iter().filter(|step| places.contains_key(step)).peekable();
    let mut result = Vec::with_capacity(live.len() + config.len());
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if let Some(step) = live_steps.get(left) {
            if !in_config.contains(step) {
                result.push(live[left].clone());
                left += 1;
                continue;
            }
            // A shared entry appears where the configuration has it.
            if shared.peek() != Some(&step) {
                left += 1;
                continue;
            }
        }
        if let Some(item) = config.get(right) {
            let step = &config_steps[right];
            result.push(match places.get(step) {
                Some(at) => merge(&live[*at], item, Part::of(below)),
                None => item.clone(),
            });
            shared.next_if(|next| *next == step);
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
    match (part.for_value(value), value) {
        (Part::Struct(_) | Part::Map(_), Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, inner)| {
                Some((key.clone(), below(&Element::Field(key.clone()), inner)?))
            });
            or_null(Value::Object(kept.collect::<Map<_, _>>()), map.is_empty())
        }
        (Part::List(kind, list_below), Value::Array(items)) => {
            let kept = items.iter().filter_map(|item| match entry(item, kind, list_below) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Gvk, Schema};

    fn ports(numbers: &[u16]) -> Value {
        let ports: Vec<_> = numbers.iter().map(|n| json!({"port": n, "protocol": "TCP"})).collect();
        json!({ "spec": { "ports": ports } })
    }

    #[test]
    fn lists_keep_the_order_of_the_configuration() {
        let service = Schema::get().kind(Gvk::from_api_version("v1", "Service"));
        let part = Part::object(service.expect("is known"));
        for (live, config, expected) in [
            (&[1, 2, 3][..], &[3, 1][..], &[2, 3, 1][..]),
            (&[1, 2, 3], &[2, 9], &[1, 2, 3, 9]),
            (&[1, 2], &[9, 2], &[1, 9, 2]),
            (&[1, 2], &[9], &[1, 2, 9]),
            (&[], &[9], &[9]),
            (&[1], &[], &[1]),
        ] {
            let merged = merge(&ports(live), &ports(config), part);
            assert_eq!(merged, ports(expected), "{live:?} {config:?}");
        }
    }
}
