//! Protobuf bodies of the served kinds, driven by the schema: no generated code.
//!
//! ```text
//!  body: "k8s\0" + runtime.Unknown { typeMeta: { apiVersion, kind }, raw: message }
//!  watch: 4 bytes of length + metav1.WatchEvent { type, object: { raw: body } }
//! ```
//!
//! Fields that the schema does not know are skipped: a newer client may send them.

mod read;
mod write;

pub(crate) use write::put_bytes;

use serde_json::Value;

use crate::decode::{from_unix, normalise, unix};
use crate::schema::{Gvk, Schema, Type};

const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are not a message, or an object has no message form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body does not begin with `k8s\0`.
    #[error("the body of the request does not begin with the protobuf magic")]
    Magic,
    /// The message ends inside a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint has more than ten bytes.
    #[error("integer overflow in a protobuf field")]
    Overflow,
    /// A field has another wire type than its declaration.
    #[error("wrong wire type {wire} for protobuf field {number} of {message}")]
    WireType {
        /// Name of the message type.
        message: &'static str,
        /// Field number.
        number: u32,
        /// Wire type found.
        wire: u8,
    },
    /// A text is not UTF-8, or an embedded JSON text is not JSON.
    #[error("protobuf field {number} of {message} holds no valid text")]
    Text {
        /// Name of the message type.
        message: &'static str,
        /// Field number.
        number: u32,
    },
    /// An object to be encoded has a field of another type than its declaration.
    #[error("field {field} of {message} cannot be written as protobuf")]
    Value {
        /// Name of the message type.
        message: &'static str,
        /// JSON name of the field.
        field: &'static str,
    },
    /// No type of this name in the schema.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
}

/// Whether bytes carry the protobuf magic.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Decodes a `k8s\0` envelope. The kind is taken from the envelope; `apiVersion` and `kind` are
/// left out of the object where the envelope has none and the message is empty.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let message = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let envelope = read::envelope(message)?;
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw)
            .map_err(|_| Error::Text { message: "Unknown", number: 2 });
    }
    let gvk = Gvk::from_api_version(&envelope.api_version, &envelope.kind);
    let mut object = match form(gvk) {
        Some(Form::Object(ty)) => {
            let mut object = Value::Object(read::message(envelope.raw, ty)?);
            normalise(&mut object, ty);
            object
        }
        Some(Form::List(ty)) => read::list(envelope.raw, ty)?,
        None => return Err(unknown(gvk)),
    };
    object["apiVersion"] = envelope.api_version.as_str().into();
    object["kind"] = envelope.kind.as_str().into();
    Ok(object)
}

/// Encodes any object of a known kind, a list of them, a `Status` or a `PartialObjectMetadata`
/// into its `k8s\0` envelope. A `Table` has no protobuf form, in Kubernetes neither.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let gvk = Gvk::from_api_version(api_version, kind);
    let raw = match form(gvk) {
        Some(Form::Object(ty)) => write::message(object, ty)?,
        Some(Form::List(ty)) => write::list(object, ty)?,
        None => return Err(unknown(gvk)),
    };
    let mut body = MAGIC.to_vec();
    body.extend(write::envelope(api_version, kind, &raw));
    Ok(body)
}

/// One frame of a protobuf watch stream: a 4-byte big-endian length, then `metav1.WatchEvent`.
/// `event` is `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
pub fn watch_frame(event: &str, object: &Value) -> Result<Vec<u8>, Error> {
    let message = write::watch_event(event, &encode(object)?);
    let length = u32::try_from(message.len()).map_err(|_| Error::Overflow)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(message);
    Ok(frame)
}

/// What a kind is in protobuf.
enum Form {
    Object(&'static Type),
    /// A list of objects of this type: `metadata` is 1, `items` are 2, as in every list kind.
    List(&'static Type),
}

fn form(gvk: Gvk<'_>) -> Option<Form> {
    let schema = Schema::get();
    if let Some(ty) = schema.kind(gvk) {
        return Some(Form::Object(ty));
    }
    let kind = gvk.kind.strip_suffix("List")?;
    schema.kind(Gvk { kind, ..gvk }).map(Form::List)
}

fn unknown(gvk: Gvk<'_>) -> Error {
    Error::UnknownKind { api_version: gvk.api_version(), kind: gvk.kind.to_owned() }
}

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

fn list_meta() -> Option<&'static Type> {
    Schema::get().named("meta", "ListMeta")
}

#[cfg(test)]
mod tests;
