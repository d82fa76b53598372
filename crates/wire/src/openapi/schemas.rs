//! Types of the schema as OpenAPI schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::schema::{Field, Gvk, ListKind, Scalar, Schema, Shape, Type};

/// Where references point in a version 3 document.
pub(super) const V3: &str = "#/components/schemas/";
/// Where references point in a version 2 document.
pub(super) const V2: &str = "#/definitions/";

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Name of a kind's schema, or of that of its list.
pub(super) fn name_of(gvk: Gvk<'_>) -> Option<String> {
    let schema = Schema::get();
    if let Some(ty) = schema.kind(gvk) {
        return Some(full_name(ty));
    }
    let kind = gvk.kind.strip_suffix("List")?;
    schema.kind(Gvk { kind, ..gvk }).map(|ty| format!("{}List", full_name(ty)))
}

/// A reference to a schema by its name.
pub(super) fn reference(name: &str, prefix: &str) -> Value {
    json!({ "$ref": format!("{prefix}{name}") })
}

/// All types, with the list of each kind.
pub(super) fn all(prefix: &str) -> Map<String, Value> {
    let names: Vec<_> = Schema::get()
        .kinds()
        .flat_map(|(_, ty)| [full_name(ty), format!("{}List", full_name(ty))])
        .collect();
    reachable(&names, prefix)
}

/// The named schemas and those they refer to.
pub(super) fn reachable(names: &[String], prefix: &str) -> Map<String, Value> {
    let mut builder = Builder { prefix, pending: names.to_vec(), seen: BTreeSet::new() };
    let mut schemas = Map::new();
    while let Some(name) = builder.pending.pop() {
        if builder.seen.insert(name.clone())
            && let Some(schema) = builder.build(&name)
        {
            schemas.insert(name, schema);
        }
    }
    schemas
}

fn full_name(ty: &Type) -> String {
    let Type { package, version, name, .. } = ty;
    match *package {
        "meta" => format!("{META}.{name}"),
        package => format!("io.k8s.api.{package}.{version}.{name}"),
    }
}

struct Builder<'p> {
    prefix: &'p str,
    pending: Vec<String>,
    seen: BTreeSet<String>,
}

impl Builder<'_> {
    fn build(&mut self, name: &str) -> Option<Value> {
        if let Some(special) = special(name) {
            return Some(special);
        }
        let schema = Schema::get();
        let (parent, ty_name) = name.rsplit_once('.')?;
        let package = match parent {
            META => "meta",
            parent => parent.rsplit('.').nth(1)?,
        };
        if let Some(ty) = schema.named(package, ty_name) {
            return Some(self.object(ty));
        }
        let ty = schema.named(package, ty_name.strip_suffix("List")?)?;
        Some(self.list(ty))
    }

    fn refer(&mut self, name: &str) -> Value {
        self.pending.push(name.to_owned());
        reference(name, self.prefix)
    }

    fn object(&mut self, ty: &Type) -> Value {
        let mut properties = if ty.is_kind { type_meta() } else { Map::new() };
        for field in &ty.fields {
            properties.insert(field.name.to_owned(), self.property(field, ty));
        }
        let required: Vec<&str> = ty.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        describe(&mut schema, &format!("{}.{}", ty.package, ty.name));
        if ty.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if ty.is_kind {
            schema["x-kubernetes-group-version-kind"] = kinds_of(ty, ty.name);
        }
        schema
    }

    fn list(&mut self, ty: &Type) -> Value {
        let mut properties = type_meta();
        properties.insert("metadata".to_owned(), self.refer(LIST_META));
        let items = self.refer(&full_name(ty));
        properties.insert("items".to_owned(), json!({ "type": "array", "items": items }));
        json!({
            "type": "object", "properties": properties, "required": ["items"],
            "x-kubernetes-group-version-kind": kinds_of(ty, &format!("{}List", ty.name)),
        })
    }

    fn property(&mut self, field: &Field, owner: &Type) -> Value {
        let mut schema = self.shape(&field.shape);
        if let Some(default) = field.default {
            schema["default"] = literal(default, &field.shape);
        }
        if matches!(field.shape, Shape::List(_)) {
            schema["x-kubernetes-list-type"] = match &field.list {
                ListKind::Atomic => "atomic".into(),
                ListKind::Set => "set".into(),
                ListKind::Map(keys) => {
                    schema["x-kubernetes-list-map-keys"] = keys.clone().into();
                    "map".into()
                }
            };
        }
        if field.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        let strategies = [(field.patch.merge, "merge"), (field.patch.retain_keys, "retainKeys")];
        let strategies: Vec<&str> =
            strategies.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if !strategies.is_empty() {
            schema["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if let Some(key) = field.patch.key {
            schema["x-kubernetes-patch-merge-key"] = key.into();
        }
        describe(&mut schema, &format!("{}.{}.{}", owner.package, owner.name, field.name));
        schema
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            // Siblings of `$ref` are ignored, so that it stands in `allOf` by itself.
            Shape::Message(id) => {
                let name = full_name(Schema::get().type_of(*id));
                json!({ "allOf": [self.refer(&name)] })
            }
            Shape::List(inner) => json!({ "type": "array", "items": self.shape(inner) }),
            Shape::Map(inner) => {
                json!({ "type": "object", "additionalProperties": self.shape(inner) })
            }
            // As upstream: clients are told of the schema, and that it may be something else.
            Shape::Or(..) => json!({ "x-kubernetes-preserve-unknown-fields": true }),
            Shape::Scalar(scalar, go_name) => self.scalar(*scalar, go_name),
        }
    }

    fn scalar(&mut self, scalar: Scalar, go_name: &str) -> Value {
        let mut named = |name: &str| json!({ "allOf": [self.refer(name)] });
        match scalar {
            Scalar::String => match Schema::get().values(go_name) {
                [] => json!({ "type": "string" }),
                values => json!({ "type": "string", "enum": values }),
            },
            Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
            Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
            Scalar::Float64 => json!({ "type": "number", "format": "double" }),
            Scalar::Json => json!({ "x-kubernetes-preserve-unknown-fields": true }),
            Scalar::Bool => json!({ "type": "boolean" }),
            Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
            Scalar::Time => named(&format!("{META}.Time")),
            Scalar::MicroTime => named(&format!("{META}.MicroTime")),
            Scalar::FieldsV1 => named(&format!("{META}.FieldsV1")),
            Scalar::Quantity => named("io.k8s.apimachinery.pkg.api.resource.Quantity"),
            Scalar::IntOrString => named("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        }
    }
}

/// Schemas of the special-cased types.
fn special(name: &str) -> Option<Value> {
    Some(match name.rsplit('.').next()? {
        "Time" | "MicroTime" => json!({ "type": "string", "format": "date-time" }),
        "FieldsV1" => json!({ "type": "object" }),
        "Quantity" => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        "IntOrString" => json!({
            "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }]
        }),
        _ => return None,
    })
}

pub(super) fn type_meta() -> Map<String, Value> {
    let text = |doc: &str| json!({ "type": "string", "description": doc });
    let mut properties = Map::new();
    let doc = "Group and version of the object, such as v1 or apps/v1.";
    properties.insert("apiVersion".to_owned(), text(doc));
    properties.insert("kind".to_owned(), text("What the object is, such as Service."));
    properties
}

/// The kinds that a schema stands for: DeleteOptions and the like are kinds of every group.
fn kinds_of(ty: &Type, kind: &str) -> Value {
    let entry = |group: &str| json!({ "group": group, "version": ty.version, "kind": kind });
    if ty.package != "meta" {
        return json!([entry(ty.group)]);
    }
    let groups: BTreeSet<&str> = Schema::get()
        .kinds()
        .map(|(gvk, _)| gvk.group)
        .filter(|group| kind == "DeleteOptions" || group.is_empty())
        .filter(|group| *group != "meta.k8s.io")
        .collect();
    groups.into_iter().map(entry).collect()
}

fn describe(schema: &mut Value, name: &str) {
    let doc = Schema::get().doc(name);
    if !doc.is_empty() {
        schema["description"] = doc.into();
    }
}

fn literal(text: &str, shape: &Shape) -> Value {
    match shape {
        Shape::Scalar(Scalar::String, _) => text.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
