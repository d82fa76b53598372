//! Bytes to objects: JSON, YAML and protobuf with field validation.

use serde_json::Value;

use crate::schema::Gvk;
use crate::status::Failure;

/// Encoding of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentType {
    /// `application/json`, or none given.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What to do about unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in `Warning` headers.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// The query value; empty means `Warn`, an unknown word is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A decoded object: typed, pruned of unknown fields and normalised as a round trip through the
/// real server's types would.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// The object; `apiVersion` and `kind` are always set.
    pub value: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Decodes the body of a create or update of kind `expected`.
pub fn object(
    _body: &[u8],
    _content_type: ContentType,
    _expected: Gvk<'_>,
    _validation: FieldValidation,
) -> Result<Decoded, Failure> {
    todo!()
}

/// Decodes the body of a DELETE (`v1` or `meta.k8s.io/v1` DeleteOptions); `Null` when empty.
pub fn delete_options(_body: &[u8], _content_type: ContentType) -> Result<Value, Failure> {
    todo!()
}
