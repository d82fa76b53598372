//! The rules of custom resources: what the registry asks of every kind (apiextensions
//! `registry/customresource/strategy.go`).

use serde_json::Value;

use super::CustomKind;
use crate::rules::error::invalid;
use crate::rules::fields::{copy, same};
use crate::rules::{keep_except, meta, text};
use crate::status::FieldError;
use crate::structural::{prune_object, validate, validate_embedded, validate_lists};

impl CustomKind {
    /// Brings an object that was stored in another version or form into this one's.
    pub(crate) fn renew(&self, object: &mut Value) {
        prune_object(object, &self.schema);
        self.schema.fill(object);
    }

    /// Fills defaults.
    pub(crate) fn default(&self, object: &mut Value) {
        self.schema.fill(object);
    }

    /// A new object has no status where that is a subresource.
    pub(crate) fn prepare_create(&self, object: &mut Value) {
        if self.has_status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        meta::start_generation(object);
    }

    /// CR8. A write of the object keeps the status where that is a subresource. Whatever changes
    /// outside of metadata is a new generation.
    pub(crate) fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            copy(new, old, "status");
        }
        let is_content = |name: &str| !["metadata", "kind", "apiVersion"].contains(&name);
        let content = |object: &Value| -> Value {
            let fields = object.as_object().into_iter().flatten();
            let fields = fields.filter(|(name, _)| is_content(name));
            Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        let changed = content(new) != content(old);
        meta::carry_generation(new, old, changed);
    }

    /// A write of the status changes nothing else, labels and annotations included.
    pub(crate) fn prepare_status(&self, new: &mut Value, old: &Value) {
        let owners = new["metadata"]["managedFields"].take();
        keep_except(new, old, &["status"]);
        if let Some(metadata) = new["metadata"].as_object_mut() {
            match owners {
                Value::Null => drop(metadata.remove("managedFields")),
                owners => drop(metadata.insert("managedFields".to_owned(), owners)),
            }
        }
    }

    /// All errors of a new object.
    pub(crate) fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate(object, self.namespaced, text::dns_subdomain);
        errors.extend(self.validate_content(object, None));
        errors
    }

    /// All errors of a changed object. What was wrong before and has not changed may stay
    /// (KEP-4008).
    pub(crate) fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = meta::validate_update(new, old);
        errors.extend(self.validate_content(new, Some(old)));
        errors
    }

    /// All errors of a status write.
    pub(crate) fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
    }

    fn validate_content(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = validate(object, old, &self.schema, "");
        errors.extend(validate_embedded(object, &self.schema));
        let lists = validate_lists(object, &self.schema, "");
        let before = old.map(|old| validate_lists(old, &self.schema, "")).unwrap_or_default();
        errors.extend(lists.into_iter().filter(|error| !before.contains(error)));
        let wanted = |object: &Value| self.scale.as_ref().and_then(|scale| scale.wanted(object));
        let unchanged = old.is_some_and(|old| same(old, object));
        if let (Some(scale), Some(replicas)) = (&self.scale, wanted(object).filter(|n| *n < 0))
            && !unchanged
        {
            let why = "should be a non-negative integer";
            errors.push(invalid(scale.wanted_field(), replicas, why));
        }
        errors
    }
}
