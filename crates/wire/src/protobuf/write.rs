//! Objects to messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{BYTES, Error, FIXED64, VARINT, list_meta, unix};
use crate::schema::{Field, Scalar, Shape, Type};

/// `runtime.Unknown`.
pub(super) fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + type_meta.len() + 16);
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// `metav1.WatchEvent` around an encoded object.
pub(super) fn watch_event(event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut out = Vec::with_capacity(raw.len() + 32);
    put_bytes(&mut out, 1, event.as_bytes());
    put_bytes(&mut out, 2, &raw);
    out
}

/// A list kind: `metadata` and `items`.
pub(super) fn list(object: &Value, ty: &'static Type) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    if let (Some(metadata), Some(meta)) = (object.get("metadata"), list_meta()) {
        put_bytes(&mut out, 1, &message(metadata, meta)?);
    }
    for item in object.get("items").and_then(Value::as_array).into_iter().flatten() {
        put_bytes(&mut out, 2, &message(item, ty)?);
    }
    Ok(out)
}

/// A message of a type. Fields without a value are left out.
pub(super) fn message(object: &Value, ty: &Type) -> Result<Vec<u8>, Error> {
    let mut out = group(object, ty, None)?;
    let mut inlined: Vec<u32> = ty.fields.iter().filter_map(|f| f.inline).collect();
    inlined.dedup();
    for number in inlined {
        let message = group(object, ty, Some(number))?;
        if !message.is_empty() {
            put_bytes(&mut out, number, &message);
        }
    }
    Ok(out)
}

/// The fields that are in one message: a type's own, or those inlined under a number.
fn group(object: &Value, ty: &Type, inline: Option<u32>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for field in ty.fields.iter().filter(|f| f.inline == inline) {
        let Some(value) = object.get(field.name).filter(|v| !v.is_null()) else { continue };
        let wrong = || Error::Value { message: ty.name, field: field.name };
        write_field(&mut out, value, field).ok_or_else(wrong)??;
    }
    Ok(out)
}

/// `None` if the value is not of the field's type.
fn write_field(out: &mut Vec<u8>, value: &Value, field: &Field) -> Option<Result<(), Error>> {
    match &field.shape {
        Shape::List(inner) => {
            for item in value.as_array()? {
                if let Err(error) = write_value(out, field.number, item, inner)? {
                    return Some(Err(error));
                }
            }
            Some(Ok(()))
        }
        Shape::Map(inner) => {
            for (key, value) in value.as_object()? {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                if let Err(error) = write_value(&mut entry, 2, value, inner)? {
                    return Some(Err(error));
                }
                put_bytes(out, field.number, &entry);
            }
            Some(Ok(()))
        }
        shape => write_value(out, field.number, value, shape),
    }
}

fn write_value(
    out: &mut Vec<u8>,
    number: u32,
    value: &Value,
    shape: &Shape,
) -> Option<Result<(), Error>> {
    match shape {
        Shape::Message(_) => match message(value, shape.message()?) {
            Ok(bytes) => put_bytes(out, number, &bytes),
            Err(error) => return Some(Err(error)),
        },
        Shape::Or(object, other) => {
            let is_flag = matches!(**other, Shape::Scalar(Scalar::Bool, _));
            let mut bytes = Vec::new();
            let written = match (value, &**other) {
                (Value::Object(_), _) if is_flag => {
                    put_integer(&mut bytes, 1, 1);
                    write_value(&mut bytes, 2, value, object)?
                }
                (Value::Object(_), _) => write_value(&mut bytes, 1, value, object)?,
                (Value::Array(items), Shape::List(inner)) => items
                    .iter()
                    .map(|item| write_value(&mut bytes, 2, item, inner))
                    .try_fold(Ok(()), |before: Result<(), Error>, written| {
                        Some(before.and(written?))
                    })?,
                _ => write_value(&mut bytes, 1, value, other)?,
            };
            if let Err(error) = written {
                return Some(Err(error));
            }
            put_bytes(out, number, &bytes);
        }
        // Only `ExtraValue`, a list of texts that has a message of its own.
        Shape::List(inner) | Shape::Map(inner) => {
            let mut bytes = Vec::new();
            for item in value.as_array()? {
                if let Err(error) = write_value(&mut bytes, 1, item, inner)? {
                    return Some(Err(error));
                }
            }
            put_bytes(out, number, &bytes);
        }
        Shape::Scalar(scalar, _) => write_scalar(out, number, value, *scalar)?,
    }
    Some(Ok(()))
}

fn write_scalar(out: &mut Vec<u8>, number: u32, value: &Value, scalar: Scalar) -> Option<()> {
    match scalar {
        Scalar::String => put_bytes(out, number, value.as_str()?.as_bytes()),
        Scalar::Int32 | Scalar::Int64 => put_integer(out, number, value.as_i64()?),
        Scalar::Bool => put_integer(out, number, value.as_bool()?.into()),
        Scalar::Bytes => put_bytes(out, number, &STANDARD.decode(value.as_str()?).ok()?),
        Scalar::Time | Scalar::MicroTime => {
            let (seconds, nanos) = unix(value.as_str()?)?;
            let mut bytes = Vec::new();
            put_integer(&mut bytes, 1, seconds);
            put_integer(&mut bytes, 2, nanos.into());
            put_bytes(out, number, &bytes);
        }
        Scalar::Quantity => {
            let mut bytes = Vec::new();
            put_bytes(&mut bytes, 1, value.as_str()?.as_bytes());
            put_bytes(out, number, &bytes);
        }
        Scalar::IntOrString => put_bytes(out, number, &int_or_string(value)?),
        Scalar::Float64 => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64()?.to_bits().to_le_bytes());
        }
        Scalar::FieldsV1 | Scalar::Json => {
            let mut bytes = Vec::new();
            put_bytes(&mut bytes, 1, value.to_string().as_bytes());
            put_bytes(out, number, &bytes);
        }
    }
    Some(())
}

fn int_or_string(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(text) = value.as_str() {
        put_integer(&mut bytes, 1, 1);
        put_integer(&mut bytes, 2, 0);
        put_bytes(&mut bytes, 3, text.as_bytes());
    } else {
        put_integer(&mut bytes, 1, 0);
        put_integer(&mut bytes, 2, value.as_i64()?);
        put_bytes(&mut bytes, 3, b"");
    }
    Some(bytes)
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, number: u32, integer: i64) {
    put_tag(out, number, VARINT);
    put_varint(out, integer.cast_unsigned());
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
