//! A patched document as the real server quotes it. What the patch went into it has parsed, and its
//! keys are sorted; everything else is still the text that was stored, in the order of the fields.

use serde_json::{Map, Value, json};

use crate::schema::{Gvk, Schema, Shape, Type};

/// After a merge patch.
pub(super) fn merged(patched: &Value, patch: &Value, gvk: Gvk<'_>) -> String {
    let mut text = String::new();
    document(patched, Schema::get().kind(gvk), Some(patch), &mut text);
    text
}

/// After a JSON patch.
pub(super) fn edited(patched: &Value, patch: &Value, gvk: Gvk<'_>) -> String {
    let mut touched = json!({});
    for operation in patch.as_array().into_iter().flatten() {
        let pointer = operation["path"].as_str().unwrap_or_default();
        let mut place = &mut touched;
        for token in pointer.split('/').skip(1) {
            let Value::Object(map) = place else { break };
            let token = token.replace("~1", "/").replace("~0", "~");
            place = map.entry(token).or_insert_with(|| json!({}));
        }
    }
    merged(patched, &touched, gvk)
}

fn document(value: &Value, ty: Option<&Type>, touched: Option<&Value>, text: &mut String) {
    let touched = touched.and_then(Value::as_object);
    match value {
        Value::Object(map) => {
            text.push('{');
            for (i, key) in keys(map, ty, touched.is_some()).into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key).to_string());
                text.push(':');
                let below = ty.and_then(|ty| ty.field(key)).and_then(|field| inner(&field.shape));
                document(&map[key], below, touched.and_then(|touched| touched.get(key)), text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                let touched = touched.and_then(|touched| touched.get(&i.to_string()));
                document(item, ty, touched, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// Sorted when the document has been parsed, or has no type; else in the order of the fields.
fn keys<'v>(map: &'v Map<String, Value>, ty: Option<&Type>, parsed: bool) -> Vec<&'v str> {
    let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
    keys.sort_unstable();
    if let Some(ty) = ty.filter(|_| !parsed) {
        let position = |key: &str| match key {
            "kind" | "apiVersion" if ty.is_kind => 0,
            key => 1 + ty.fields.iter().position(|f| f.name == key).unwrap_or(ty.fields.len()),
        };
        keys.sort_by_key(|key| position(key));
    }
    keys
}

/// The type of a message, or of a list's entries.
fn inner(shape: &Shape) -> Option<&'static Type> {
    match shape {
        Shape::List(entry) => inner(entry),
        shape => shape.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_patch_went_into_is_sorted_and_the_rest_in_order() {
        let service = Gvk { group: "", version: "v1", kind: "Service" };
        let patched = json!({
            "metadata": { "labels": { "b": "1", "a": "2" }, "name": "s" },
            "spec": { "type": "x", "ports": 1 },
        });
        let spec = r#"{"ports":1,"type":"x"}"#;
        let metadata = r#"{"name":"s","labels":{"a":"2","b":"1"}}"#;
        let want = format!(r#"{{"metadata":{metadata},"spec":{spec}}}"#);
        assert_eq!(merged(&patched, &json!({ "spec": { "ports": 1 } }), service), want);
        let patch = json!([{ "op": "replace", "path": "/spec/ports", "value": 1 }]);
        assert_eq!(edited(&patched, &patch, service), want);
    }
}
