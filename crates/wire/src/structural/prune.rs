//! Taking out the fields that a schema does not know (CR5; apiextensions `schema/pruning`).

use serde_json::Value;

use super::{Additional, Structural};

/// Fields that every object has, the schema says nothing about and pruning leaves alone.
const METADATA: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Paths of the fields that were taken out, such as `spec.ports[0].nam`.
#[derive(Default)]
pub(crate) struct UnknownFields(pub(crate) Vec<String>);

/// Prunes a whole object. Doing it twice changes nothing.
pub(crate) fn prune_object(object: &mut Value, schema: &Structural) -> UnknownFields {
    let mut pruning = Pruning { unknown: UnknownFields::default(), path: String::new() };
    pruning.fields_of(object, schema, true);
    pruning.unknown
}

struct Pruning {
    unknown: UnknownFields,
    path: String,
}

impl Pruning {
    fn value(&mut self, value: &mut Value, schema: Option<&Structural>) {
        match (value, schema) {
            (value @ Value::Object(_), Some(schema)) => {
                self.fields_of(value, schema, schema.is_embedded);
            }
            (value @ Value::Object(_), None) => {
                self.fields_of(value, &Structural::default(), false);
            }
            (Value::Array(items), schema) => {
                // Below a list without a schema of its entries everything is kept, too.
                let keeps = schema.is_some_and(|s| s.preserves_unknown && s.items.is_none());
                if keeps {
                    return;
                }
                let below = schema.and_then(|schema| schema.items.as_deref());
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, below);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn fields_of(&mut self, value: &mut Value, schema: &Structural, is_resource: bool) {
        let Value::Object(fields) = value else { return };
        fields.retain(|name, value| {
            if is_resource && METADATA.contains(&name.as_str()) {
                return true;
            }
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            let is_known = match (schema.below(name), &schema.additional) {
                (Some(below), _) => {
                    self.value(value, Some(below));
                    true
                }
                _ if schema.preserves_unknown => true,
                (None, Additional::Any) => {
                    self.value(value, None);
                    true
                }
                _ => false,
            };
            if !is_known {
                self.unknown.0.push(self.path.clone());
            }
            self.path.truncate(length);
            is_known
        });
    }
}
