//! The older OpenAPI as protobuf: messages of gnostic's `OpenAPIv2.proto`, which kubectl asks for
//! to check lists and what it cannot leave to the server.

use serde_json::{Map, Value};

use crate::protobuf::put_bytes;

/// An OpenAPI v2 document with its types. Operations are left out: nobody looks for them there.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut info = Vec::new();
    put_text(&mut info, 1, &document["info"]["title"]);
    put_text(&mut info, 2, &document["info"]["version"]);
    let mut out = Vec::new();
    put_text(&mut out, 1, &document["swagger"]);
    put_bytes(&mut out, 2, &info);
    put_bytes(&mut out, 8, &[]);
    if let Some(definitions) = document["definitions"].as_object() {
        put_bytes(&mut out, 9, &named_schemas(definitions));
    }
    out
}

/// `Definitions` and `Properties`.
fn named_schemas(schemas: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in schemas {
        put_bytes(&mut out, 1, &named(name, &schema(value)));
    }
    out
}

/// `Schema`: shapes, merge rules and names, not the bounds of values, which the server checks.
fn schema(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // One reference with texts beside it, as OpenAPI v3 has to write it.
    let inner = match value["allOf"].as_array().map(Vec::as_slice) {
        Some([only]) => only,
        _ => value,
    };
    put_text(&mut out, 1, &inner["$ref"]);
    put_text(&mut out, 2, &value["format"]);
    put_text(&mut out, 4, &value["description"]);
    for required in value["required"].as_array().into_iter().flatten() {
        put_text(&mut out, 19, required);
    }
    match &value["additionalProperties"] {
        Value::Bool(allowed) => put_bytes(&mut out, 21, &[2 << 3, u8::from(*allowed)]),
        Value::Object(_) => {
            let mut item = Vec::new();
            put_bytes(&mut item, 1, &schema(&value["additionalProperties"]));
            put_bytes(&mut out, 21, &item);
        }
        _ => {}
    }
    if value["type"].is_string() {
        let mut item = Vec::new();
        put_text(&mut item, 1, &value["type"]);
        put_bytes(&mut out, 22, &item);
    }
    if value["items"].is_object() {
        let mut item = Vec::new();
        put_bytes(&mut item, 1, &schema(&value["items"]));
        put_bytes(&mut out, 23, &item);
    }
    if let Some(properties) = value["properties"].as_object() {
        put_bytes(&mut out, 25, &named_schemas(properties));
    }
    let extensions = value.as_object().into_iter().flatten();
    for (name, extension) in extensions.filter(|(name, _)| name.starts_with("x-")) {
        // `Any` as YAML, of which JSON is a part.
        let mut any = Vec::new();
        put_bytes(&mut any, 2, extension.to_string().as_bytes());
        put_bytes(&mut out, 31, &named(name, &any));
    }
    out
}

/// `NamedSchema` and `NamedAny`.
fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, value);
    out
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &Value) {
    if let Some(text) = text.as_str() {
        put_bytes(out, number, text.as_bytes());
    }
}
