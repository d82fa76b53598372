//! Bodies of custom resources: pruned by their schema, with metadata of the common type.

use serde_json::{Map, Value};

use super::json::Node;
use super::{Decoded, FieldValidation, TypeMeta, normalise, typed};
use crate::rules::error::invalid;
use crate::schema::{Gvk, Schema, Type};
use crate::status::{self, Failure};
use crate::structural::{Structural, prune_object};

/// What the body says that it is must be there, and right.
pub(super) fn check_type(node: &Node, actual: &TypeMeta, expected: Gvk<'_>) -> Result<(), Failure> {
    let (kind, version) = (expected.kind, expected.version);
    if actual.kind.is_empty() {
        let body = node.to_value();
        let why = format!("Object 'Kind' is missing in '{body}'");
        return Err(status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        )));
    }
    let wanted = expected.api_version();
    if !actual.api_version.is_empty() && actual.api_version != wanted {
        return Err(status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({wanted})",
            actual.api_version
        )));
    }
    if actual.kind != kind {
        let why = format!("must be {kind}");
        let error = invalid("kind", actual.kind.as_str(), why);
        let name = node.get("metadata").and_then(|metadata| metadata.get("name"));
        let name = match name {
            Some(Node::String(name)) => name.as_str(),
            _ => "",
        };
        return Err(status::invalid(expected.group, kind, name, &[error]));
    }
    Ok(())
}

/// The object, with what is unusual about it. The error is the first wrong value of the metadata.
pub(super) fn decode(
    node: &Node,
    expected: Gvk<'_>,
    schema: &Structural,
    validation: FieldValidation,
    mut strict: Vec<String>,
) -> Result<Decoded, String> {
    let mut value = node.to_value();
    if !value.is_object() {
        value = Value::Object(Map::new());
    }
    strict.extend(typed::duplicates(node));
    if let Some(ty) = metadata_type() {
        strict.extend(metadata(node, &mut value, ty)?);
    }
    let unknown = prune_object(&mut value, schema).0;
    strict.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    let warnings = validation.judge(strict)?;
    value["apiVersion"] = expected.api_version().into();
    value["kind"] = expected.kind.into();
    Ok(Decoded { value, warnings })
}

/// Replaces `metadata` by what its type makes of it; the answer names unknown fields.
fn metadata(node: &Node, value: &mut Value, ty: &Type) -> Result<Vec<String>, String> {
    let metadata = node.get("metadata").cloned().unwrap_or(Node::Null);
    let member = super::json::Member { key: "metadata".to_owned(), value: metadata };
    let typed = typed::decode(&Node::Object(vec![member]), ty)?;
    let mut object = typed.value;
    normalise(&mut object, ty);
    if let Value::Object(fields) = value {
        fields.insert("metadata".to_owned(), object["metadata"].take());
    }
    Ok(typed.strict.into_iter().filter(|text| text.starts_with("unknown")).collect())
}

/// A type that has nothing but `metadata`.
fn metadata_type() -> Option<&'static Type> {
    Schema::get().named("meta", "PartialObjectMetadata")
}
