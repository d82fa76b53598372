//! Reads `schema/*.txt`.
//!
//! ```text
//! package core - v1                    file: name, group (`-` is the core group), version
//!
//! ServiceSpec                          a type; `kind`: has apiVersion and kind; `atomic`
//!   ports 1 []ServicePort o list=map:port,protocol patch=merge:port
//!   │     │ │             └ flags: o omitted when empty, p pointer, r required, z omitted when
//!   │     │ │               zero, - none; then attributes
//!   │     │ └ shape: scalar, scalar:GoName, Type, package.Type, []shape, {}shape (map),
//!   │     │   shape|shape (an object, or something else)
//!   │     └ protobuf number
//!   └ JSON name; `+ 2 VolumeSource` inlines another type's fields, message number 2 in protobuf
//! ```
//!
//! Attributes: `list=atomic|set|map:KEYS`, `map=atomic`, `struct=atomic|granular`,
//! `patch=[merge][,retainKeys][:KEY]`, `default=TEXT`. The text is part of the program, so a
//! mistake in it is a bug and panics; the tests parse every line.

use std::collections::BTreeMap;

use super::{Field, ListKind, PatchRule, Scalar, Schema, Shape, Type, TypeId};

const FILES: [&str; 15] = [
    include_str!("meta.txt"),
    include_str!("core.txt"),
    include_str!("core_pod.txt"),
    include_str!("core_volume.txt"),
    include_str!("apiextensions.txt"),
    include_str!("apps.txt"),
    include_str!("authentication.txt"),
    include_str!("authorization.txt"),
    include_str!("autoscaling.txt"),
    include_str!("coordination.txt"),
    include_str!("discovery.txt"),
    include_str!("events.txt"),
    include_str!("networking.txt"),
    include_str!("policy.txt"),
    include_str!("rbac.txt"),
];

/// Names of text types with their values: `Protocol SCTP TCP UDP`.
const ENUMS: &str = include_str!("enums.txt");

/// What types and fields are for: `core.ServiceSpec.type How the Service is reached.`
const DOCS: &str = include_str!("docs.txt");

/// Parses all files.
pub(super) fn schema() -> Schema {
    let ids = ids();
    let mut types: Vec<Type> = FILES.iter().flat_map(|file| file_types(file, &ids)).collect();
    let plain: Vec<Vec<Field>> = types.iter().map(|t| t.fields.clone()).collect();
    for ty in &mut types {
        flatten(ty, &plain);
    }
    let kinds = types.iter().enumerate().filter(|(_, t)| t.is_kind);
    let kinds = kinds.map(|(i, t)| ((t.group, t.version, t.name), TypeId(i))).collect();
    let values = ENUMS.lines().filter_map(|line| line.split_once(' '));
    let values = values.map(|(name, values)| (name, values.split(' ').collect())).collect();
    let docs = DOCS.lines().filter_map(|line| line.split_once(' ')).collect();
    Schema { types, kinds, values, docs }
}

type Ids = BTreeMap<(&'static str, &'static str), TypeId>;

/// Names first, so that a type may name a later one.
fn ids() -> Ids {
    let names = FILES.iter().flat_map(|file| {
        let package = header(file).0;
        file.lines().skip(1).filter_map(move |line| Some((package, type_name(line)?)))
    });
    names.enumerate().map(|(i, name)| (name, TypeId(i))).collect()
}

fn header(file: &'static str) -> (&'static str, &'static str, &'static str) {
    let words: Vec<_> = file.lines().next().unwrap_or_default().split_whitespace().collect();
    let [_, package, group, version] = words[..] else { panic!("schema: no package line") };
    (package, if group == "-" { "" } else { group }, version)
}

fn type_name(line: &'static str) -> Option<&'static str> {
    if line.starts_with(' ') { None } else { line.split_whitespace().next() }
}

fn file_types(file: &'static str, ids: &Ids) -> Vec<Type> {
    let (package, group, version) = header(file);
    let mut types: Vec<Type> = Vec::new();
    for line in file.lines().skip(1) {
        if let Some(name) = type_name(line) {
            types.push(Type {
                name,
                group,
                version,
                package,
                is_kind: line.split_whitespace().any(|w| w == "kind"),
                atomic: line.split_whitespace().any(|w| w == "atomic"),
                fields: Vec::new(),
                by_name: BTreeMap::new(),
            });
        } else if !line.is_empty() {
            let ty = types.last_mut().unwrap_or_else(|| panic!("schema: no type: {line:?}"));
            ty.fields.push(field(line, package, ids));
        }
    }
    types
}

fn field(line: &'static str, package: &'static str, ids: &Ids) -> Field {
    let mut words = line.split_whitespace();
    let mut word = || words.next();
    let (Some(name), Some(number), Some(shape_text)) = (word(), word(), word()) else {
        panic!("schema: not a field: {line:?}")
    };
    let flags = word().unwrap_or_default();
    let number = number.parse().unwrap_or_else(|_| panic!("schema: no number: {line:?}"));
    let shape = shape(shape_text, package, ids);
    let mut field = Field {
        name,
        number,
        inline: None,
        shape,
        omit_empty: flags.contains(['o', 'z']),
        pointer: flags.contains('p'),
        required: flags.contains('r'),
        list: ListKind::Atomic,
        atomic: false,
        patch: PatchRule::default(),
        default: None,
    };
    for attribute in words {
        match attribute.split_once('=') {
            Some(("list", text)) => field.list = list_kind(text),
            Some(("map" | "struct", text)) => field.atomic = text == "atomic",
            Some(("patch", text)) => field.patch = patch_rule(text),
            Some(("default", text)) => field.default = Some(text),
            _ => panic!("schema: unknown attribute {attribute:?} in {line:?}"),
        }
    }
    field
}

fn list_kind(text: &'static str) -> ListKind {
    match text.split_once(':') {
        None if text == "set" => ListKind::Set,
        Some((_, keys)) => ListKind::Map(keys.split(',').map(str::to_owned).collect()),
        None => ListKind::Atomic,
    }
}

fn patch_rule(text: &'static str) -> PatchRule {
    let (strategies, key) = match text.split_once(':') {
        Some((strategies, key)) => (strategies, Some(key)),
        None => (text, None),
    };
    PatchRule {
        merge: strategies.split(',').any(|s| s == "merge"),
        retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
        key,
    }
}

fn shape(text: &'static str, package: &'static str, ids: &Ids) -> Shape {
    if let Some(inner) = text.strip_prefix("[]") {
        return Shape::List(Box::new(shape(inner, package, ids)));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Shape::Map(Box::new(shape(inner, package, ids)));
    }
    if let Some((object, other)) = text.split_once('|') {
        let part = |text| Box::new(shape(text, package, ids));
        return Shape::Or(part(object), part(other));
    }
    let (word, go_name) = text.split_once(':').unwrap_or((text, ""));
    let scalar = match word {
        "string" => Scalar::String,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "bool" => Scalar::Bool,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "quantity" => Scalar::Quantity,
        "intstr" => Scalar::IntOrString,
        "fieldsv1" => Scalar::FieldsV1,
        "float64" => Scalar::Float64,
        "json" => Scalar::Json,
        _ => {
            let name = text.split_once('.').unwrap_or((package, text));
            let id = ids.get(&name).unwrap_or_else(|| panic!("schema: no type {text:?}"));
            return Shape::Message(*id);
        }
    };
    Shape::Scalar(scalar, go_name)
}

/// Replaces `+` fields by the fields of the type they inline.
fn flatten(ty: &mut Type, plain: &[Vec<Field>]) {
    let fields = std::mem::take(&mut ty.fields);
    for field in fields {
        match &field.shape {
            Shape::Message(TypeId(inlined)) if field.name == "+" => {
                let inner = plain[*inlined].iter().cloned();
                ty.fields.extend(inner.map(|f| Field { inline: Some(field.number), ..f }));
            }
            _ => ty.fields.push(field),
        }
    }
    ty.by_name = ty.fields.iter().enumerate().map(|(i, f)| (f.name, i)).collect();
}
