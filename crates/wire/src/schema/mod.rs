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

/// All known types.
pub struct Schema {
    #[expect(dead_code, reason = "filled by the parser")]
    types: Vec<Type>,
}

impl Schema {
    /// The schema, parsed on first use.
    pub fn get() -> &'static Self {
        todo!()
    }

    /// The type of a kind.
    pub fn kind(&'static self, _gvk: Gvk<'_>) -> Option<&'static Type> {
        todo!()
    }
}

/// A message type.
pub struct Type {
    /// Name, such as `ServiceSpec`.
    pub name: &'static str,
}
