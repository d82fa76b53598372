//! Scalars: plain ones, and the Kubernetes types that have a text form of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::json::Node;
use super::{quantity, time};
use crate::schema::Scalar;

/// Why a value is not of its type.
#[derive(Debug)]
pub(crate) enum Error {
    /// Another JSON type, as Go names it (`number 80.0`); decoding goes on.
    Type(String),
    /// The same inside a type that decodes itself: decoding stops.
    NestedType(String),
    /// Another reason; decoding goes on.
    Text(String),
    /// Another reason; decoding stops.
    Fatal(String),
}

/// Decodes one scalar into its canonical form.
pub(crate) fn decode(node: &Node, scalar: Scalar) -> Result<Value, Error> {
    match (scalar, node) {
        (Scalar::String, Node::String(text)) => Ok(text.as_str().into()),
        (Scalar::Bool, Node::Bool(b)) => Ok((*b).into()),
        (Scalar::Int32, Node::Number(text)) => integer::<i32>(text).map_err(Error::Type),
        (Scalar::Int64, Node::Number(text)) => integer::<i64>(text).map_err(Error::Type),
        (Scalar::Bytes, Node::String(text)) => bytes(text),
        (Scalar::IntOrString, Node::String(text)) => Ok(text.as_str().into()),
        (Scalar::IntOrString, Node::Number(text)) => {
            integer::<i32>(text).map_err(Error::NestedType)
        }
        (Scalar::Time | Scalar::MicroTime, Node::String(text)) => {
            let parsed = match scalar {
                Scalar::MicroTime => time::micro(text),
                _ => time::seconds(text),
            };
            parsed.map(Value::from).map_err(Error::Fatal)
        }
        (Scalar::Quantity, Node::String(text) | Node::Number(text)) => {
            let canonical = quantity::canonical(text.trim());
            canonical.map(Value::from).ok_or_else(|| Error::Fatal(quantity::SYNTAX.to_owned()))
        }
        (Scalar::Quantity, _) => Err(Error::Fatal(quantity::SYNTAX.to_owned())),
        (Scalar::FieldsV1 | Scalar::Json, _) => Ok(node.to_value()),
        (Scalar::Float64, Node::Number(text)) => {
            let parsed = serde_json::from_str(text);
            parsed.map_err(|_| Error::Type(format!("number {text}")))
        }
        (Scalar::Time | Scalar::MicroTime | Scalar::IntOrString, _) => {
            Err(Error::NestedType(node.go_name().to_owned()))
        }
        _ => Err(Error::Type(node.go_name().to_owned())),
    }
}

/// What Go writes for a value that was not set; `None` for types that are then left out here.
pub(crate) fn zero(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::String => Some("".into()),
        Scalar::Int32 | Scalar::Int64 => Some(0.into()),
        Scalar::Bool => Some(false.into()),
        _ => None,
    }
}

fn integer<T: std::str::FromStr + Into<i64>>(text: &str) -> Result<Value, String> {
    let parsed = text.parse::<T>().map(Into::into);
    parsed.map(Value::from).map_err(|_| format!("number {text}"))
}

/// Go skips line ends in base64 and reports the offset of the first wrong byte.
fn bytes(text: &str) -> Result<Value, Error> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&plain) {
        Ok(_) => Ok(plain.into()),
        Err(error) => {
            let offset = match error {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => plain.len() / 4 * 4,
            };
            Err(Error::Text(format!("illegal base64 data at input byte {offset}")))
        }
    }
}
