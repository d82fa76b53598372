//! ObjectMeta of every kind (apimachinery `api/validation/objectmeta.go`).

use serde_json::Value;

use super::error::{each, forbidden, immutable, invalid, required, too_long};
use super::fields::{Fields, set};
use super::text;
use crate::status::FieldError;

/// How objects of a kind may be called: one text per rule broken.
pub type NameRule = fn(&str) -> Vec<String>;

/// Errors of a new object's metadata.
pub(crate) fn validate(object: &Value, namespaced: bool, name_rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let generate_name = object.text("/metadata/generateName");
    if !generate_name.is_empty() {
        let why = text::generate_name(name_rule, generate_name);
        errors.extend(each("metadata.generateName", generate_name, why));
    }
    let name = object.text("/metadata/name");
    if name.is_empty() {
        errors.push(required("metadata.name", "name or generateName is required"));
    } else {
        errors.extend(each("metadata.name", name, name_rule(name)));
    }
    let namespace = object.text("/metadata/namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(required("metadata.namespace", "")),
        (true, false) => {
            errors.extend(each("metadata.namespace", namespace, text::dns_label(namespace)));
        }
        (false, true) => {}
        (false, false) => {
            errors.push(forbidden("metadata.namespace", "not allowed on this type"));
        }
    }
    errors.extend(validate_maps(object));
    errors.extend(validate_finalizers(object));
    errors
}

/// Errors of a change of metadata, twice: once for the generic check of every update and once for
/// the kind's own, as upstream reports them.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = update_errors(new, old);
    errors.extend(errors.clone());
    errors.extend(validate_finalizers(new));
    errors
}

/// Errors of labels, as of `metadata.labels` or of a selector at `pointer`.
pub(crate) fn validate_labels(object: &Value, pointer: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in object.map(pointer) {
        errors.extend(each(field, key, text::qualified_name(key)));
        let value = value.as_str().unwrap_or("");
        errors.extend(each(field, value, text::label_value(value)));
    }
    errors
}

/// Errors of annotations at `pointer`: keys, and the size of all of them.
pub(crate) fn validate_annotations(object: &Value, pointer: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in object.map(pointer) {
        errors.extend(each(field, key, text::qualified_name(&key.to_lowercase())));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES {
        errors.push(too_long(field, ANNOTATION_BYTES));
    }
    errors
}

/// The error of a PUT without resourceVersion where that is not allowed.
pub fn resource_version_required() -> FieldError {
    invalid("metadata.resourceVersion", 0, "must be specified for an update")
}

/// Sets `metadata.generation` of a new object to 1.
pub(crate) fn start_generation(object: &mut Value) {
    set(object, "/metadata/generation", 1);
}

/// Carries `metadata.generation` over from the stored object, one more if something `changed`.
pub(crate) fn carry_generation(new: &mut Value, old: &Value, changed: bool) {
    let generation = old.int("/metadata/generation");
    if changed {
        set(new, "/metadata/generation", generation + 1);
    } else if generation != 0 {
        set(new, "/metadata/generation", generation);
    } else {
        super::fields::remove(new, "/metadata/generation");
    }
}

fn update_errors(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.has("/metadata/deletionTimestamp") {
        let known = old.texts("/metadata/finalizers");
        let added: Vec<String> = new
            .texts("/metadata/finalizers")
            .into_iter()
            .filter(|finalizer| !known.contains(finalizer))
            .map(crate::status::quote)
            .collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(forbidden("metadata.finalizers", &text));
        }
    }
    if new.int("/metadata/generation") < old.int("/metadata/generation") {
        let generation = new.int("/metadata/generation");
        errors.push(invalid("metadata.generation", generation, "must not be decremented"));
    }
    for name in IMMUTABLE_FIELDS {
        let pointer = format!("/metadata/{name}");
        let (new, old) = (new.at(&pointer), old.at(&pointer));
        if new != old {
            errors.push(immutable(format!("metadata.{name}"), new.clone()));
        }
    }
    errors.extend(validate_maps(new));
    errors
}

fn validate_maps(object: &Value) -> Vec<FieldError> {
    let mut errors = validate_labels(object, "/metadata/labels", "metadata.labels");
    errors.extend(validate_annotations(object, "/metadata/annotations", "metadata.annotations"));
    errors.extend(validate_owners(object));
    errors
}

fn validate_owners(object: &Value) -> Vec<FieldError> {
    let field = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    for owner in object.list("/metadata/ownerReferences") {
        let api_version = owner.text("/apiVersion");
        if api_version.rsplit('/').next().unwrap_or("").is_empty() {
            let text = "version must not be empty";
            errors.push(invalid(format!("{field}.apiVersion"), api_version, text));
        }
        for name in ["kind", "name", "uid"] {
            if owner.text(&format!("/{name}")).is_empty() {
                errors.push(invalid(format!("{field}.{name}"), "", "must not be empty"));
            }
        }
        if (api_version, owner.text("/kind")) == ("v1", "Event") {
            let text = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(invalid(field, owner.clone(), text));
        }
        if owner.flag("/controller") {
            let name = owner.text("/name");
            if let Some(first) = controller {
                let text = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {name}"
                );
                errors.push(invalid(field, object.at("/metadata/ownerReferences").clone(), text));
            } else {
                controller = Some(name);
            }
        }
    }
    errors
}

fn validate_finalizers(object: &Value) -> Vec<FieldError> {
    let field = "metadata.finalizers";
    let finalizers = object.texts("/metadata/finalizers");
    let mut errors = Vec::new();
    for finalizer in &finalizers {
        errors.extend(validate_finalizer(finalizer, field));
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let text = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(invalid(field, object.at("/metadata/finalizers").clone(), text));
    }
    errors
}

/// Errors of the name of one finalizer.
pub(crate) fn validate_finalizer(finalizer: &str, field: &str) -> Vec<FieldError> {
    let mut errors = each(field, finalizer, text::qualified_name(finalizer));
    if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        let text = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(invalid(field, finalizer, text));
    }
    errors
}

/// Sum of the lengths of all annotations' keys and values.
const ANNOTATION_BYTES: usize = 256 * 1024;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
const IMMUTABLE_FIELDS: [&str; 6] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    #[test]
    fn a_new_object_needs_a_name_and_a_namespace() {
        let errors = validate(&json!({}), true, text::dns_label);
        assert_eq!(fields(&errors), ["metadata.name", "metadata.namespace"]);
    }

    #[test]
    fn identity_does_not_change() {
        let old = json!({ "metadata": { "name": "a", "uid": "1" } });
        let new = json!({ "metadata": { "name": "a", "uid": "2" } });
        assert_eq!(fields(&validate_update(&new, &old)), ["metadata.uid", "metadata.uid"]);
    }

    #[test]
    fn owners_and_finalizers_are_checked() {
        let object = json!({ "metadata": {
            "name": "a",
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true },
                { "apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "2", "controller": true },
            ],
            "finalizers": ["hold"],
        }});
        let errors = validate(&object, false, text::dns_label);
        assert_eq!(fields(&errors), ["metadata.ownerReferences", "metadata.finalizers"]);
    }

    #[test]
    fn annotations_have_a_total_size() {
        let object = json!({ "metadata": { "name": "a", "annotations": {
            "a": "x".repeat(ANNOTATION_BYTES),
        }}});
        let errors = validate(&object, false, text::dns_label);
        assert_eq!(errors[0].message, "Too long: may not be more than 262144 bytes");
    }
}
