//! Messages to objects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{BYTES, Error, FIXED32, FIXED64, VARINT, from_unix, list_meta};
use crate::decode::normalise;
use crate::schema::{Field, Scalar, Shape, Type};

/// `runtime.Unknown`.
pub(super) struct Envelope<'b> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) raw: &'b [u8],
    pub(super) content_type: String,
}

/// Reads `runtime.Unknown`.
pub(super) fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let mut envelope = Envelope {
        api_version: String::new(),
        kind: String::new(),
        raw: &[],
        content_type: String::new(),
    };
    for part in Parts(bytes) {
        let part = part?;
        match part.number {
            1 => {
                for part in Parts(part.bytes("Unknown")?) {
                    let part = part?;
                    match part.number {
                        1 => envelope.api_version = part.text("TypeMeta")?,
                        2 => envelope.kind = part.text("TypeMeta")?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = part.bytes("Unknown")?,
            4 => envelope.content_type = part.text("Unknown")?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Reads a list kind: `metadata` and `items`.
pub(super) fn list(bytes: &[u8], ty: &'static Type) -> Result<Value, Error> {
    let mut list = json!({ "metadata": {}, "items": [] });
    let mut items = Vec::new();
    for part in Parts(bytes) {
        let part = part?;
        match (part.number, list_meta()) {
            (1, Some(meta)) => {
                let mut metadata = Value::Object(message(part.bytes("List")?, meta)?);
                normalise(&mut metadata, meta);
                list["metadata"] = metadata;
            }
            (2, _) => {
                let mut item = Value::Object(message(part.bytes("List")?, ty)?);
                normalise(&mut item, ty);
                items.push(item);
            }
            _ => {}
        }
    }
    list["items"] = items.into();
    Ok(list)
}

/// Reads a message of a type.
pub(super) fn message(bytes: &[u8], ty: &Type) -> Result<Map<String, Value>, Error> {
    let mut object = Map::new();
    group(bytes, ty, None, &mut object)?;
    Ok(object)
}

/// Reads the fields of a type that are in one message: its own, or those inlined under a number.
fn group(
    bytes: &[u8],
    ty: &Type,
    inline: Option<u32>,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    for part in Parts(bytes) {
        let part = part?;
        let own = |f: &&Field| f.inline == inline && f.number == part.number;
        if let Some(field) = ty.fields.iter().find(own) {
            read_field(&part, field, ty.name, object)?;
        } else if inline.is_none() && ty.fields.iter().any(|f| f.inline == Some(part.number)) {
            group(part.bytes(ty.name)?, ty, Some(part.number), object)?;
        }
    }
    Ok(())
}

fn read_field(
    part: &Part<'_>,
    field: &Field,
    message: &'static str,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    let name = field.name.to_owned();
    match &field.shape {
        Shape::List(inner) => {
            let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            match &**inner {
                // Numbers may be packed into one field.
                Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool, _)
                    if part.wire == BYTES =>
                {
                    let mut rest = part.bytes(message)?;
                    while !rest.is_empty() {
                        let number = varint(&mut rest)?;
                        let one =
                            Part { number: part.number, wire: VARINT, varint: number, bytes: &[] };
                        list.extend(value(&one, inner, message)?);
                    }
                }
                inner => list.extend(value(part, inner, message)?),
            }
        }
        Shape::Map(inner) => {
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let (key, value) = map_entry(part.bytes(message)?, inner, message)?;
            if let (Value::Object(map), Some(value)) = (map, value) {
                map.insert(key, value);
            }
        }
        shape => {
            if let Some(value) = value(part, shape, message)? {
                object.insert(name, value);
            }
        }
    }
    Ok(())
}

fn map_entry(
    bytes: &[u8],
    shape: &Shape,
    message: &'static str,
) -> Result<(String, Option<Value>), Error> {
    let mut key = String::new();
    let mut found = None;
    for part in Parts(bytes) {
        let part = part?;
        match part.number {
            1 => key = part.text(message)?,
            2 => found = value(&part, shape, message)?,
            _ => {}
        }
    }
    let empty = || match shape {
        Shape::Scalar(Scalar::String | Scalar::Bytes, _) => Some("".into()),
        Shape::Message(_) => Some(Value::Object(Map::new())),
        _ => None,
    };
    Ok((key, found.or_else(empty)))
}

/// One value; `None` for a time that is not set.
fn value(part: &Part<'_>, shape: &Shape, message: &'static str) -> Result<Option<Value>, Error> {
    let text_error = || Error::Text { message, number: part.number };
    let scalar = match shape {
        Shape::Message(_) => {
            let Some(ty) = shape.message() else { return Ok(None) };
            return Ok(Some(Value::Object(self::message(part.bytes(message)?, ty)?)));
        }
        Shape::Or(object, other) => return either(part.bytes(message)?, object, other, message),
        // Only `ExtraValue`, a list of texts that has a message of its own.
        Shape::List(inner) | Shape::Map(inner) => {
            let mut list = Vec::new();
            for part in Parts(part.bytes(message)?) {
                list.extend(value(&part?, inner, message)?);
            }
            return Ok(Some(list.into()));
        }
        Shape::Scalar(scalar, _) => *scalar,
    };
    Ok(Some(match scalar {
        Scalar::String => part.text(message)?.into(),
        Scalar::Int32 => truncated(part.integer(message)?).into(),
        Scalar::Int64 => part.integer(message)?.into(),
        Scalar::Bool => (part.integer(message)? != 0).into(),
        Scalar::Bytes => STANDARD.encode(part.bytes(message)?).into(),
        Scalar::Time | Scalar::MicroTime => {
            return time(part.bytes(message)?, scalar == Scalar::MicroTime);
        }
        Scalar::Quantity => first_text(part.bytes(message)?)?.into(),
        Scalar::IntOrString => int_or_string(part.bytes(message)?)?,
        Scalar::Float64 => f64::from_bits(part.fixed(message)?).into(),
        Scalar::FieldsV1 | Scalar::Json => {
            let raw = first_bytes(part.bytes(message)?)?;
            match raw {
                [] => return Ok(None),
                raw => serde_json::from_slice(raw).map_err(|_| text_error())?,
            }
        }
    }))
}

/// A message with a field for each of two alternatives: `{allows: 1, schema: 2}` where one is a
/// boolean, else `{schema: 1, list: 2}`.
fn either(
    bytes: &[u8],
    object: &Shape,
    other: &Shape,
    message: &'static str,
) -> Result<Option<Value>, Error> {
    let is_flag = matches!(other, Shape::Scalar(Scalar::Bool, _));
    let (mut found, mut flag, mut list) = (None, false, Vec::new());
    for part in Parts(bytes) {
        let part = part?;
        match (part.number, is_flag, other) {
            (1, true, _) => flag = part.integer(message)? != 0,
            (1, false, _) | (2, true, _) => found = value(&part, object, message)?,
            (2, false, Shape::List(inner)) => list.extend(value(&part, inner, message)?),
            _ => {}
        }
    }
    Ok(found.or_else(|| Some(if is_flag { flag.into() } else { list.into() })))
}

/// `{seconds: 1, nanos: 2}`; empty when the time is not set.
fn time(bytes: &[u8], with_micro: bool) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for part in Parts(bytes) {
        let part = part?;
        match part.number {
            1 => seconds = part.integer("Timestamp")?,
            2 => nanos = truncated(part.integer("Timestamp")?),
            _ => {}
        }
    }
    let out_of_range = Error::Text { message: "Timestamp", number: 1 };
    from_unix(seconds, nanos, with_micro).map(|text| Some(text.into())).ok_or(out_of_range)
}

/// `{type: 1, intVal: 2, strVal: 3}`; type 0 is the integer.
fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut integer, mut text) = (false, 0, String::new());
    for part in Parts(bytes) {
        let part = part?;
        match part.number {
            1 => is_text = part.integer("IntOrString")? != 0,
            2 => integer = truncated(part.integer("IntOrString")?),
            3 => text = part.text("IntOrString")?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { integer.into() })
}

fn first_bytes(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut found: &[u8] = &[];
    for part in Parts(bytes) {
        let part = part?;
        if part.number == 1 {
            found = part.bytes("wrapper")?;
        }
    }
    Ok(found)
}

fn first_text(bytes: &[u8]) -> Result<String, Error> {
    let text = first_bytes(bytes)?.to_vec();
    String::from_utf8(text).map_err(|_| Error::Text { message: "Quantity", number: 1 })
}

/// Protobuf's int32 drops the upper half, as negative numbers have ten bytes.
#[expect(clippy::cast_possible_truncation, reason = "protobuf defines int32 so")]
fn truncated(integer: i64) -> i32 {
    integer as i32
}

/// A field as it is on the wire.
struct Part<'b> {
    number: u32,
    wire: u8,
    /// Value of a number; the bits of one of fixed size.
    varint: u64,
    /// Value of anything with a length.
    bytes: &'b [u8],
}

impl<'b> Part<'b> {
    fn wrong(&self, message: &'static str) -> Error {
        Error::WireType { message, number: self.number, wire: self.wire }
    }

    fn bytes(&self, message: &'static str) -> Result<&'b [u8], Error> {
        if self.wire == BYTES { Ok(self.bytes) } else { Err(self.wrong(message)) }
    }

    fn text(&self, message: &'static str) -> Result<String, Error> {
        String::from_utf8(self.bytes(message)?.to_vec())
            .map_err(|_| Error::Text { message, number: self.number })
    }

    fn fixed(&self, message: &'static str) -> Result<u64, Error> {
        if self.wire == FIXED64 { Ok(self.varint) } else { Err(self.wrong(message)) }
    }

    fn integer(&self, message: &'static str) -> Result<i64, Error> {
        if self.wire == VARINT { Ok(self.varint.cast_signed()) } else { Err(self.wrong(message)) }
    }
}

/// The fields of a message in order. After an error there are no more.
struct Parts<'b>(&'b [u8]);

impl<'b> Iterator for Parts<'b> {
    type Item = Result<Part<'b>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = next_part(&mut self.0);
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

fn next_part<'b>(rest: &mut &'b [u8]) -> Result<Part<'b>, Error> {
    let tag = varint(rest)?;
    let wire = u8::try_from(tag & 7).map_err(|_| Error::Overflow)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Error::Overflow)?;
    let mut part = Part { number, wire, varint: 0, bytes: &[] };
    match wire {
        VARINT => part.varint = varint(rest)?,
        BYTES => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Error::Truncated)?;
            part.bytes = take(rest, length)?;
        }
        FIXED64 => {
            let bytes = take(rest, 8)?.try_into().map_err(|_| Error::Truncated)?;
            part.varint = u64::from_le_bytes(bytes);
        }
        // No known field has it; it is skipped.
        FIXED32 => {
            take(rest, 4)?;
        }
        _ => return Err(Error::WireType { message: "message", number, wire }),
    }
    Ok(part)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b [u8], Error> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = take(rest, 1)?[0];
        if shift == 63 && byte > 1 {
            return Err(Error::Overflow);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Error::Overflow)
}
