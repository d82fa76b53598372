//! Bytes to objects: JSON, YAML and protobuf, with field validation.
//!
//! ```text
//!  bytes ─ json | yaml ─▶ Node ─ typed (schema) ─▶ Value + strict errors ─ normalise ─▶ Decoded
//!  bytes ─ protobuf ────────────────────────────▶ Value ───────────────────┘
//! ```
//!
//! Errors have the texts of the real server, which are those of Go's `encoding/json`.

mod custom;
mod json;
mod quantity;
mod scalar;
mod time;
mod typed;
mod yaml;

use serde_json::Value;

pub(crate) use self::json::{MAX_DEPTH, Node};
pub(crate) use self::time::{from_unix, unix};
pub(crate) use self::typed::normalise;
use crate::protobuf;
use crate::schema::{Form, Gvk, Schema, Type};
use crate::status::{self, Failure};

/// Bodies larger than this are refused (the real server's limit, 3 MiB).
pub const MAX_BODY: usize = 3 * 1024 * 1024;

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

    /// Refuses, reports or drops what was unusual about a body.
    fn judge(self, strict: Vec<String>) -> Result<Vec<String>, String> {
        match self {
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(strict),
            Self::Strict if strict.is_empty() => Ok(strict),
            Self::Strict => Err(format!("strict decoding error: {}", strict.join(", "))),
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

/// Decodes the body of a create or update of kind `expected`. Failures are 400, 422 for a custom
/// resource of another kind, or 413 for a body over [`MAX_BODY`].
pub fn object<'a>(
    body: &[u8],
    content_type: ContentType,
    expected: impl Into<Form<'a>>,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let form = expected.into();
    let expected = form.gvk;
    if body.len() > MAX_BODY {
        return Err(status::too_large(MAX_BODY as u64));
    }
    let (node, strict) = match parse(body, content_type) {
        Ok(parsed) => parsed,
        Err(why) => return Err(unrecognised(&why, expected, body)),
    };
    let actual = TypeMeta::of(&node).map_err(|why| unrecognised(&why, expected, body))?;
    if form.custom.is_some() {
        custom::check_type(&node, &actual, expected)?;
    }
    let actual = actual.or(expected);
    decode(&node, &actual, form, validation, strict).map_err(|why| {
        let Gvk { version, kind, .. } = actual.gvk();
        let expected = expected.kind;
        let why = format!("{kind} in version {version:?} cannot be handled as a {expected}: {why}");
        status::bad_request(why)
    })
}

/// Checks an object that was put together on the server, such as a patched one; `strict` is what
/// was unusual about the patch itself. The error is the cause alone, to be wrapped by the caller.
pub(crate) fn checked(
    value: &Value,
    expected: Form<'_>,
    validation: FieldValidation,
    strict: &[String],
) -> Result<Decoded, String> {
    let node = Node::from_value(value);
    let actual = TypeMeta::of(&node)?.or(expected.gvk);
    decode(&node, &actual, expected, validation, strict.to_vec())
}

fn decode(
    node: &Node,
    actual: &TypeMeta,
    expected: Form<'_>,
    validation: FieldValidation,
    strict: Vec<String>,
) -> Result<Decoded, String> {
    match expected.custom {
        Some(schema) => custom::decode(node, expected.gvk, schema, validation, strict),
        None => typed_object(node, actual, expected.gvk, validation, strict),
    }
}

/// The object of this kind with nothing set, as the real server's structs print it.
pub(crate) fn empty(gvk: Gvk<'_>, ty: Option<&Type>) -> Value {
    let mut value = serde_json::json!({ "apiVersion": gvk.api_version(), "kind": gvk.kind });
    if let Some(ty) = ty {
        normalise(&mut value, ty);
    }
    value
}

/// Decodes the body of a DELETE, DeleteOptions of any group; `Null` when empty.
pub fn delete_options(body: &[u8], content_type: ContentType) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let meta = parse(body, content_type).ok().and_then(|(node, _)| TypeMeta::of(&node).ok());
    let meta = meta.unwrap_or_default();
    if !meta.kind.is_empty() && meta.kind != "DeleteOptions" {
        let TypeMeta { api_version, kind } = meta;
        let scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
        return Err(status::bad_request(format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme {scheme:?}"
        )));
    }
    let group = meta.gvk().group;
    let expected = Gvk { group, version: "v1", kind: "DeleteOptions" };
    object(body, content_type, expected, FieldValidation::Ignore).map(|decoded| decoded.value)
}

/// The tree of a body, and what YAML already finds unusual about it.
fn parse(body: &[u8], content_type: ContentType) -> Result<(Node, Vec<String>), String> {
    match content_type {
        ContentType::Json => json::parse(body)
            .map(|node| (node, Vec::new()))
            .map_err(|why| format!("couldn't get version/kind; json parse error: {why}")),
        ContentType::Yaml => {
            let document = yaml::parse(body)?;
            let duplicates = document.duplicates;
            let strict = match duplicates.is_empty() {
                true => Vec::new(),
                false => vec![format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  "))],
            };
            Ok((document.node, strict))
        }
        ContentType::Protobuf => {
            let value = protobuf::decode(body).map_err(|why| why.to_string())?;
            Ok((Node::from_value(&value), Vec::new()))
        }
    }
}

/// Parses YAML without a type: the body of an apply. The second part names duplicate keys.
pub(crate) fn yaml_tree(body: &[u8]) -> Result<(Node, Vec<String>), String> {
    // Most clients send JSON. It is YAML as well, but for a few escapes, and quicker to read.
    match json::parse(body) {
        Ok(node) if !node.has_duplicates() => Ok((node, Vec::new())),
        _ => yaml::parse(body).map(|document| (document.node, document.duplicates)),
    }
}

/// Parses JSON without a type: the body of a patch.
pub(crate) fn json_tree(body: &[u8]) -> Result<Node, String> {
    json::parse(body).map_err(|why| why.to_string())
}

fn typed_object(
    node: &Node,
    actual: &TypeMeta,
    expected: Gvk<'_>,
    validation: FieldValidation,
    mut strict: Vec<String>,
) -> Result<Decoded, String> {
    let schema = Schema::get();
    let Some(ty) = schema.kind(expected) else {
        return Err(not_registered(actual));
    };
    if actual.gvk() != expected {
        let element = actual.kind.strip_suffix("List").unwrap_or(&actual.kind);
        let known = schema.kind(actual.gvk()).is_some()
            || schema.kind(Gvk { kind: element, ..actual.gvk() }).is_some();
        if !known {
            return Err(not_registered(actual));
        }
        let (version, kind) = (actual.gvk().version, &actual.kind);
        let (package, wanted) = (ty.package, expected.kind);
        return Err(format!(
            "converting ({version}.{kind}) to ({package}.{wanted}): unknown conversion"
        ));
    }
    let typed = typed::decode(node, ty)?;
    strict.extend(typed.strict);
    let warnings = validation.judge(strict)?;
    let mut value = typed.value;
    normalise(&mut value, ty);
    value["apiVersion"] = expected.api_version().into();
    value["kind"] = expected.kind.into();
    Ok(Decoded { value, warnings })
}

fn not_registered(actual: &TypeMeta) -> String {
    let TypeMeta { api_version, kind } = actual;
    format!(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \
         \"pkg/api/legacyscheme/scheme.go:30\""
    )
}

/// 400 for a body whose kind could not even be read.
fn unrecognised(why: &str, expected: Gvk<'_>, body: &[u8]) -> Failure {
    let (kind, summary) = (expected.kind, summary(body));
    status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
    ))
}

/// The first bytes of a body: as text when it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const LENGTH: usize = 30;
    let shown = &body[..body.len().min(LENGTH)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if body.len() > LENGTH { format!("{text} ...") } else { text }
}

/// What a body says that it is; empty where it says nothing.
#[derive(Default)]
struct TypeMeta {
    api_version: String,
    kind: String,
}

impl TypeMeta {
    fn of(node: &Node) -> Result<Self, String> {
        let wrong = |found: &Node, place: &str| {
            let found = found.go_name();
            let why = format!("json: cannot unmarshal {found} into Go {place}");
            format!("couldn't get version/kind; json parse error: {why}")
        };
        if !matches!(node, Node::Null | Node::Object(_)) {
            let place = "value of type struct { APIVersion string; Kind string }";
            return Err(wrong(node, place));
        }
        let text = |key: &str| match node.get(key) {
            None | Some(Node::Null) => Ok(String::new()),
            Some(Node::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(other, &format!("struct field .{key} of type string"))),
        };
        Ok(Self { api_version: text("apiVersion")?, kind: text("kind")? })
    }

    /// Fills in what the body leaves out.
    fn or(mut self, expected: Gvk<'_>) -> Self {
        if self.api_version.is_empty() {
            self.api_version = expected.api_version();
        }
        if self.kind.is_empty() {
            self.kind = expected.kind.to_owned();
        }
        self
    }

    fn gvk(&self) -> Gvk<'_> {
        Gvk::from_api_version(&self.api_version, &self.kind)
    }
}

#[cfg(test)]
mod tests;
