//! The compiled-in schema of the served kinds: one line of text per field.
//!
//! What it is: for every type the JSON names, protobuf numbers, shapes and merge rules of its
//! fields. Decoding, protobuf, patches, field ownership and the OpenAPI documents all read this
//! one table, so they cannot disagree.
//!
//! What it is not: defaults and validation (see `rules`).
//!
//! ```text
//!  schema/*.txt ─ parse (once) ─▶ Schema ─▶ decode, protobuf, patch, apply, openapi
//! ```
//!
//! The format of the text is described in `parse`.

mod parse;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::structural::Structural;

/// Group, version and kind of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Gvk<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version, such as `v1`.
    pub version: &'a str,
    /// Kind, such as `Service`.
    pub kind: &'a str,
}

impl<'a> Gvk<'a> {
    /// From an object's `apiVersion` (`v1`, `apps/v1`) and `kind`.
    pub fn from_api_version(api_version: &'a str, kind: &'a str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group, version, kind }
    }

    /// The `apiVersion` of an object of this kind.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// A kind as decoding, patches and ownership see it: its name, and what its objects look like.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    /// The name.
    pub gvk: Gvk<'a>,
    /// The schema that a CustomResourceDefinition gives; `None` for kinds that are compiled in.
    pub custom: Option<&'a Structural>,
    /// Whether such a kind has a status that is written by itself.
    pub has_status: bool,
}

impl<'a> From<Gvk<'a>> for Form<'a> {
    fn from(gvk: Gvk<'a>) -> Self {
        Self { gvk, custom: None, has_status: false }
    }
}

/// All known types.
pub struct Schema {
    types: Vec<Type>,
    kinds: BTreeMap<(&'static str, &'static str, &'static str), TypeId>,
    values: BTreeMap<&'static str, Vec<&'static str>>,
    docs: BTreeMap<&'static str, &'static str>,
}

/// Position of a type in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeId(usize);

/// A message type.
pub struct Type {
    /// Name, such as `ServiceSpec`.
    pub name: &'static str,
    /// API group of the file that declares it.
    pub group: &'static str,
    /// Version of the file that declares it.
    pub version: &'static str,
    /// Name of the declaring file, such as `core`; unique together with `name`.
    pub package: &'static str,
    /// Whether objects of this type carry `apiVersion` and `kind`.
    pub is_kind: bool,
    /// Whether it is owned and merged as a whole.
    pub atomic: bool,
    /// Fields in declaration order, those of inlined types among them.
    pub fields: Vec<Field>,
    by_name: BTreeMap<&'static str, usize>,
}

/// A field of a message type.
#[derive(Clone)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Protobuf number.
    pub number: u32,
    /// Protobuf number of the embedded message that holds this field; JSON has it inlined.
    pub inline: Option<u32>,
    /// Shape of the value.
    pub shape: Shape,
    /// An empty value is left out of JSON (Go's `omitempty`).
    pub omit_empty: bool,
    /// Absent and zero are different (a pointer in Go).
    pub pointer: bool,
    /// The OpenAPI document lists it as required.
    pub required: bool,
    /// How a list is owned and merged by server-side apply.
    pub list: ListKind,
    /// Whether a map or struct is owned and merged as a whole.
    pub atomic: bool,
    /// Strategic merge patch: lists and structs that merge rather than replace.
    pub patch: PatchRule,
    /// Default named by the schema; only used for list keys and in OpenAPI.
    pub default: Option<&'static str>,
}

/// Shape of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A scalar, with the name of its Go type when it has one of its own (`Protocol`).
    Scalar(Scalar, &'static str),
    /// A message.
    Message(TypeId),
    /// A list.
    List(Box<Self>),
    /// A map from string.
    Map(Box<Self>),
    /// An object of the first type, or something else: a list or a boolean (JSONSchemaProps).
    Or(Box<Self>, Box<Self>),
}

/// Scalars, the special-cased Kubernetes types among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    /// Text.
    String,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// Boolean.
    Bool,
    /// Bytes, base64 in JSON.
    Bytes,
    /// RFC 3339 time with seconds, UTC.
    Time,
    /// RFC 3339 time with microseconds, UTC.
    MicroTime,
    /// Number with a unit suffix, such as `100m`.
    Quantity,
    /// Integer or text.
    IntOrString,
    /// A set of fields as JSON.
    FieldsV1,
    /// Floating-point number.
    Float64,
    /// Any JSON value.
    Json,
}

/// How server-side apply treats a list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum ListKind {
    /// One owner for the whole list.
    #[default]
    Atomic,
    /// Scalars, each with its owners.
    Set,
    /// Structs told apart by these keys.
    Map(Vec<String>),
}

/// How strategic merge patch treats a field.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PatchRule {
    /// Lists: entries merge. Without it a list is replaced.
    pub merge: bool,
    /// Structs: keys the patch does not name are dropped when `$retainKeys` says so.
    pub retain_keys: bool,
    /// The key of list entries; `None` for lists of scalars.
    pub key: Option<&'static str>,
}

impl Schema {
    /// The schema, parsed on first use.
    pub fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(parse::schema);
        &SCHEMA
    }

    /// The type of a kind. `Status` and the like are also kinds of the core group, `DeleteOptions`
    /// of every group.
    pub fn kind(&self, gvk: Gvk<'_>) -> Option<&Type> {
        let find = |group: &str| {
            let mut kinds = self.kinds.iter();
            kinds.find(|(known, _)| **known == (group, gvk.version, gvk.kind)).map(|(_, id)| *id)
        };
        let everywhere = gvk.group.is_empty() || gvk.kind == "DeleteOptions";
        let common = || if everywhere { find("meta.k8s.io") } else { None };
        find(gvk.group).or_else(common).map(|id| self.type_of(id))
    }

    /// Every kind with its type, in order of group, version and name.
    pub fn kinds(&self) -> impl Iterator<Item = (Gvk<'static>, &Type)> {
        self.kinds
            .iter()
            .map(|(&(group, version, kind), &id)| (Gvk { group, version, kind }, self.type_of(id)))
    }

    /// A type by its id.
    pub fn type_of(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }

    /// The values that a named text type such as `Protocol` may have, sorted; empty if any.
    pub fn values(&self, go_name: &str) -> &[&'static str] {
        self.values.get(go_name).map_or(&[], Vec::as_slice)
    }

    /// What a type (`core.Service`) or field (`core.Service.spec`) is for; empty if not described.
    pub fn doc(&self, name: &str) -> &'static str {
        self.docs.get(name).copied().unwrap_or_default()
    }

    /// A type by the name of its file and its own, such as `meta`, `ObjectMeta`.
    pub fn named(&self, package: &str, name: &str) -> Option<&Type> {
        self.types.iter().find(|t| t.package == package && t.name == name)
    }
}

impl Type {
    /// A field by its JSON name. `apiVersion` and `kind` are not fields.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.by_name.get(name).map(|&i| &self.fields[i])
    }
}

impl Field {
    /// The message type, for messages and for lists and maps of them.
    pub fn message(&self) -> Option<&'static Type> {
        self.shape.innermost_message()
    }
}

impl Shape {
    /// The message type of this very shape.
    pub fn message(&self) -> Option<&'static Type> {
        match self {
            Self::Message(id) => Some(Schema::get().type_of(*id)),
            _ => None,
        }
    }

    fn innermost_message(&self) -> Option<&'static Type> {
        match self {
            Self::List(inner) | Self::Map(inner) | Self::Or(inner, _) => inner.innermost_message(),
            _ => self.message(),
        }
    }

    /// Name of the corresponding Go type, as it appears in decoding errors.
    pub fn go_name(&self) -> String {
        match self {
            Self::Scalar(scalar, "") => scalar.go_name().to_owned(),
            Self::Scalar(_, name) => format!("v1.{name}"),
            Self::Message(id) => format!("v1.{}", Schema::get().type_of(*id).name),
            Self::List(inner) => format!("[]{}", inner.go_name()),
            Self::Map(inner) => format!("map[string]{}", inner.go_name()),
            Self::Or(inner, _) => inner.go_name(),
        }
    }
}

impl Scalar {
    fn go_name(self) -> &'static str {
        match self {
            Self::String | Self::Time | Self::MicroTime => "string",
            Self::Int32 | Self::IntOrString => "int32",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Bytes => "[]uint8",
            Self::Quantity => "resource.Quantity",
            Self::FieldsV1 => "v1.FieldsV1",
            Self::Float64 => "float64",
            Self::Json => "v1.JSON",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_ports_of_a_service() {
        let gvk = Gvk::from_api_version("v1", "Service");
        let service = Schema::get().kind(gvk).expect("Service is in core.txt");
        let spec = service.field("spec").and_then(Field::message).expect("spec is a message");
        let ports = spec.field("ports").expect("ports is a field");
        assert_eq!(ports.number, 1);
        assert_eq!(ports.list, ListKind::Map(vec!["port".to_owned(), "protocol".to_owned()]));
        assert_eq!(ports.patch.key, Some("port"));
        assert_eq!(ports.shape.go_name(), "[]v1.ServicePort");
        assert!(spec.field("selector").expect("selector is a field").atomic);
    }

    #[test]
    fn numbers_and_names_are_unique_within_a_type() {
        for ty in &Schema::get().types {
            let mut seen = std::collections::BTreeSet::new();
            for field in &ty.fields {
                assert!(seen.insert((field.inline, field.number)), "{}.{}", ty.name, field.name);
            }
            assert_eq!(ty.by_name.len(), ty.fields.len(), "{}", ty.name);
        }
    }

    #[test]
    fn list_keys_and_merge_keys_are_fields() {
        for field in Schema::get().types.iter().flat_map(|t| &t.fields) {
            let Some(entry) = field.message() else { continue };
            if let ListKind::Map(keys) = &field.list {
                assert!(keys.iter().all(|k| entry.field(k).is_some()), "{}", field.name);
            }
            assert!(field.patch.key.is_none_or(|k| entry.field(k).is_some()), "{}", field.name);
        }
    }

    #[test]
    fn every_description_is_of_a_type_or_field() {
        let schema = Schema::get();
        for name in schema.docs.keys() {
            let mut words = name.split('.');
            let (package, ty) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let ty = schema.named(package, ty).unwrap_or_else(|| panic!("no type for {name}"));
            assert!(words.next().is_none_or(|field| ty.field(field).is_some()), "{name}");
        }
        assert_eq!(schema.values("Protocol"), ["SCTP", "TCP", "UDP"]);
    }

    #[test]
    fn common_kinds_are_known_in_the_core_group() {
        let status = Gvk::from_api_version("v1", "Status");
        assert!(Schema::get().kind(status).is_some());
        assert!(Schema::get().kind(Gvk::from_api_version("apps/v1", "Status")).is_none());
        assert!(Schema::get().kind(Gvk::from_api_version("apps/v1", "DeleteOptions")).is_some());
        assert!(Schema::get().kind(Gvk::from_api_version("v2", "Service")).is_none());
    }
}
