//! A parsed document against its type: the same errors, in the same words and order, as a decode
//! into the real server's Go structs gives.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::json::Node;
use super::scalar;
use crate::schema::{Field, Scalar, Shape, Type};

/// The real server reports no more than this many unknown or duplicate fields.
const MAX_STRICT: usize = 100;

/// A value of a type, with everything that is unusual about the document it came from.
pub(crate) struct Typed {
    pub(crate) value: Value,
    /// `unknown field "spec.x"`, `duplicate field "spec.y"`, in document order.
    pub(crate) strict: Vec<String>,
}

/// Checks a document against a type. The error is the first wrong value's, as Go words it.
pub(crate) fn decode(node: &Node, ty: &Type) -> Result<Typed, String> {
    let mut decoder = Decoder { strict: Vec::new(), path: Vec::new(), first: None };
    let value = match node {
        Node::Null => Value::Object(Map::new()),
        Node::Object(_) => decoder.message(node, ty)?,
        other => {
            let kind = other.go_name();
            return Err(format!(
                "json: cannot unmarshal {kind} into Go value of type v1.{}",
                ty.name
            ));
        }
    };
    match decoder.first {
        Some(error) => Err(error),
        None => Ok(Typed { value, strict: decoder.strict }),
    }
}

/// `duplicate field "spec.x"` for every key that stands twice in a document without a type.
pub(crate) fn duplicates(node: &Node) -> Vec<String> {
    let mut decoder = Decoder { strict: Vec::new(), path: Vec::new(), first: None };
    decoder.untyped(node);
    decoder.strict
}

struct Decoder<'d> {
    strict: Vec<String>,
    path: Vec<Step<'d>>,
    /// The first mismatch; decoding goes on after it, as a later value may be worse.
    first: Option<String>,
}

#[derive(Clone, Copy)]
enum Step<'d> {
    Field(&'d str),
    Key(&'d str),
    Index(usize),
}

impl<'d> Decoder<'d> {
    fn untyped(&mut self, node: &'d Node) {
        match node {
            Node::Object(members) => {
                let mut seen = BTreeSet::new();
                for member in members {
                    self.path.push(Step::Key(&member.key));
                    if !seen.insert(&member.key) {
                        self.complain("duplicate");
                    }
                    self.untyped(&member.value);
                    self.path.pop();
                }
            }
            Node::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.untyped(item);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, node: &'d Node, ty: &Type) -> Result<Value, String> {
        let Node::Object(members) = node else { return Ok(Value::Object(Map::new())) };
        let mut object = Map::new();
        let mut seen = BTreeSet::new();
        for member in members {
            let key = member.key.as_str();
            let duplicate = !seen.insert(key);
            self.path.push(Step::Field(key));
            let field = ty.field(key);
            let type_meta = ty.is_kind && (key == "apiVersion" || key == "kind");
            if field.is_none() && !type_meta {
                self.complain("unknown");
            } else if duplicate {
                self.complain("duplicate");
            }
            let value = match field {
                Some(field) => self.value(&member.value, &field.shape, ty)?,
                None if type_meta => {
                    self.value(&member.value, &Shape::Scalar(Scalar::String, ""), ty)?
                }
                None => None,
            };
            self.path.pop();
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        }
        Ok(Value::Object(object))
    }

    /// `None` when the document leaves the value as it was: null, or of a wrong type.
    fn value(
        &mut self,
        node: &'d Node,
        shape: &Shape,
        owner: &Type,
    ) -> Result<Option<Value>, String> {
        Ok(match (shape, node) {
            (_, Node::Null) => None,
            (Shape::Message(_), Node::Object(_)) => match shape.message() {
                Some(ty) => Some(self.message(node, ty)?),
                None => None,
            },
            (Shape::Or(object, _), Node::Object(_)) => self.value(node, object, owner)?,
            (Shape::Or(_, other), _) => self.value(node, other, owner)?,
            (Shape::List(inner), Node::Array(items)) => Some(self.list(items, inner, owner)?),
            (Shape::Map(inner), Node::Object(_)) => Some(self.map(node, inner, owner)?),
            (Shape::Scalar(kind, _), _) => match scalar::decode(node, *kind) {
                Ok(value) => Some(value),
                Err(scalar::Error::Type(found)) => {
                    self.mismatch(&found, shape, owner);
                    None
                }
                Err(scalar::Error::NestedType(found)) => {
                    return Err(self.mismatch_text(&found, shape, owner));
                }
                Err(scalar::Error::Text(text)) => {
                    self.first.get_or_insert(text);
                    None
                }
                Err(scalar::Error::Fatal(text)) => return Err(text),
            },
            _ => {
                self.mismatch(node.go_name(), shape, owner);
                None
            }
        })
    }

    fn list(&mut self, items: &'d [Node], inner: &Shape, owner: &Type) -> Result<Value, String> {
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            let value = self.value(item, inner, owner)?;
            self.path.pop();
            list.push(value.unwrap_or_else(|| zero(inner)));
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, node: &'d Node, inner: &Shape, owner: &Type) -> Result<Value, String> {
        let Node::Object(members) = node else { return Ok(Value::Object(Map::new())) };
        let mut map = Map::new();
        let mut seen = BTreeSet::new();
        for member in members {
            self.path.push(Step::Key(&member.key));
            if !seen.insert(&member.key) {
                self.complain("duplicate");
            }
            let value = self.value(&member.value, inner, owner)?;
            self.path.pop();
            map.insert(member.key.clone(), value.unwrap_or_else(|| zero(inner)));
        }
        Ok(Value::Object(map))
    }

    fn complain(&mut self, what: &str) {
        if self.strict.len() >= MAX_STRICT {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(i) => path.push_str(&format!("[{i}]")),
                Step::Field(name) | Step::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
            }
        }
        let text = format!("{what} field {path:?}");
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    fn mismatch(&mut self, found: &str, shape: &Shape, owner: &Type) {
        let text = self.mismatch_text(found, shape, owner);
        self.first.get_or_insert(text);
    }

    fn mismatch_text(&self, found: &str, shape: &Shape, owner: &Type) -> String {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Key(_) | Step::Index(_) => None,
            })
            .collect();
        let (path, expected) = (fields.join("."), shape.go_name());
        let owner = owner.name;
        format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}"
        )
    }
}

/// What Go has where a list or map entry is null.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Message(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::Or(inner, _) => zero(inner),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Scalar(scalar, _) => scalar::zero(*scalar).unwrap_or(Value::Null),
    }
}

/// Brings an object into the form a round trip through the real server's structs gives: empty
/// values that are omitted there go, zero values that are written there come.
pub(crate) fn normalise(value: &mut Value, ty: &Type) {
    let Value::Object(object) = value else { return };
    for field in &ty.fields {
        if let Some(inner) = object.get_mut(field.name) {
            normalise_shape(inner, &field.shape);
            if omitted(inner, field) {
                object.remove(field.name);
            }
        } else if let Some(written) = written_zero(field) {
            object.insert(field.name.to_owned(), written);
        }
    }
}

fn normalise_shape(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Message(_), value) => {
            if let Some(ty) = shape.message() {
                normalise(value, ty);
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|i| normalise_shape(i, inner));
        }
        (Shape::Or(object, other), value) => {
            normalise_shape(value, if value.is_object() { object } else { other });
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|v| normalise_shape(v, inner));
        }
        _ => {}
    }
}

fn omitted(value: &Value, field: &Field) -> bool {
    match value {
        Value::Null => true,
        _ if field.pointer || !field.omit_empty => false,
        Value::String(s) => s.is_empty(),
        // `omitempty` does not leave out an IntOrString, which is a struct.
        Value::Number(n) => n.as_i64() == Some(0) && !is_int_or_string(field),
        Value::Bool(b) => !b,
        // An empty list of managedFields asks for all ownership to be forgotten.
        Value::Array(items) => items.is_empty() && field.name != "managedFields",
        Value::Object(map) => map.is_empty() && matches!(field.shape, Shape::Map(_)),
    }
}

fn is_int_or_string(field: &Field) -> bool {
    matches!(field.shape, Shape::Scalar(Scalar::IntOrString, _))
}

/// The value that is written although the field was not set.
fn written_zero(field: &Field) -> Option<Value> {
    if field.pointer {
        return None;
    }
    match &field.shape {
        Shape::Message(_) => {
            let mut value = Value::Object(Map::new());
            normalise(&mut value, field.shape.message()?);
            Some(value)
        }
        Shape::Scalar(scalar, _) if !field.omit_empty => scalar::zero(*scalar),
        _ => None,
    }
}
