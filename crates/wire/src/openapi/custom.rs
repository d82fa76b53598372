//! Schemas of custom resources: those of their definitions, with what every object has.

use serde_json::{Map, Value, json};

use super::schemas::{self, V3, reference};
use crate::custom::CustomKind;
use crate::kinds::Kind;
use crate::schema::Gvk;

/// The schemas of a kind and its list. Names of the others that they refer to are added to `used`.
pub(super) fn schemas(kind: &CustomKind, used: &mut Vec<String>) -> Map<String, Value> {
    let metadata = |name: &str| format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
    used.extend([metadata("ObjectMeta"), metadata("ListMeta")]);
    let gvk = |name: &str| json!([{ "group": kind.group, "version": kind.version, "kind": name }]);

    let mut object = kind.described.clone();
    if !object.is_object() {
        object = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    object["x-kubernetes-group-version-kind"] = gvk(&kind.names.kind);
    if !object["properties"].is_object() {
        object["properties"] = json!({});
    }
    if let Some(properties) = object["properties"].as_object_mut() {
        properties.extend(schemas::type_meta());
        let metadata = json!({ "allOf": [reference(&metadata("ObjectMeta"), V3)] });
        properties.insert("metadata".to_owned(), metadata);
    }
    let name = full_name(&kind.group, &kind.version, &kind.names.kind);
    let mut properties = schemas::type_meta();
    properties.insert("metadata".to_owned(), reference(&metadata("ListMeta"), V3));
    properties
        .insert("items".to_owned(), json!({ "type": "array", "items": reference(&name, V3) }));
    let list = json!({
        "type": "object", "properties": properties, "required": ["items"],
        "x-kubernetes-group-version-kind": gvk(&kind.names.list_kind),
    });
    let list_name = full_name(&kind.group, &kind.version, &kind.names.list_kind);
    Map::from_iter([(name, object), (list_name, list)])
}

/// The name of a schema that operations of a kind use: its own, its list's, or a compiled one.
pub(super) fn name_of(kind: &Kind, gvk: Gvk<'_>) -> Option<String> {
    if let Kind::Custom(custom) = kind
        && (gvk.group, gvk.version) == (kind.group(), kind.version())
        && [&custom.names.kind, &custom.names.list_kind].iter().any(|name| *name == gvk.kind)
    {
        return Some(full_name(gvk.group, gvk.version, gvk.kind));
    }
    schemas::name_of(gvk)
}

/// `com.example.v1.Widget`: the group backwards, as packages are named.
fn full_name(group: &str, version: &str, kind: &str) -> String {
    let parts: Vec<&str> = group.split('.').rev().chain([version, kind]).collect();
    parts.join(".")
}
