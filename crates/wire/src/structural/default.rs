//! Filling in what a schema gives for absent values (CR6; apiextensions `schema/defaulting`).

use serde_json::Value;

use super::{Additional, Structural};

impl Structural {
    /// Fills in defaults, and drops nulls where there is neither null nor a default. Doing it
    /// twice changes nothing.
    pub(crate) fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| {
                    let below = self.below(name);
                    !value.is_null() || below.is_none_or(|s| s.nullable || s.default.is_some())
                });
                for (name, part) in &self.properties {
                    let Some(default) = &part.default else { continue };
                    let now = fields.get(name);
                    if now.is_none_or(|now| now.is_null() && !part.nullable) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in fields.iter_mut() {
                    let Some(below) = self.below(name) else { continue };
                    if matches!(self.additional, Additional::Schema(_)) {
                        below.replace_null(value);
                    }
                    below.fill(value);
                }
            }
            Value::Array(items) => {
                let Some(below) = &self.items else { return };
                for item in items {
                    below.replace_null(item);
                    below.fill(item);
                }
            }
            _ => {}
        }
    }

    fn replace_null(&self, value: &mut Value) {
        if let (Value::Null, false, Some(default)) = (&*value, self.nullable, &self.default) {
            *value = default.clone();
        }
    }
}
