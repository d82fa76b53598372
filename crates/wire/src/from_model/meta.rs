//! ObjectMeta.

use model::{LabelRequirement, LabelSelector, Meta, Owner, Timestamp};
use serde_json::{Map, Value, json};

/// The metadata of a whole object. Empty parts are left out.
pub(super) fn metadata(meta: &Meta) -> Value {
    let mut fields = Map::new();
    for (field, value) in [
        ("name", &meta.name),
        ("generateName", &meta.generate_name),
        ("namespace", &meta.namespace),
        ("uid", &meta.uid),
        ("resourceVersion", &meta.resource_version),
    ] {
        if !value.is_empty() {
            fields.insert(field.to_owned(), value.as_str().into());
        }
    }
    for (field, map) in [("labels", &meta.labels), ("annotations", &meta.annotations)] {
        if !map.is_empty() {
            fields.insert(field.to_owned(), json!(map));
        }
    }
    if !meta.owners.is_empty() {
        let owners: Vec<Value> = meta.owners.iter().map(owner).collect();
        fields.insert("ownerReferences".to_owned(), owners.into());
    }
    if !meta.finalizers.is_empty() {
        fields.insert("finalizers".to_owned(), json!(meta.finalizers));
    }
    Value::Object(fields)
}

/// One `ownerReferences` entry.
pub(super) fn owner(owner: &Owner) -> Value {
    let mut fields = json!({
        "apiVersion": owner.api_version.as_str(), "kind": owner.kind.as_str(),
        "name": owner.name.as_str(), "uid": owner.uid.as_str(),
    });
    for (field, set) in
        [("controller", owner.controller), ("blockOwnerDeletion", owner.block_owner_deletion)]
    {
        if set {
            fields[field] = true.into();
        }
    }
    fields
}

/// A `metav1.LabelSelector`.
pub(super) fn selector(selector: &LabelSelector) -> Value {
    let mut fields = Map::new();
    if !selector.labels.is_empty() {
        fields.insert("matchLabels".to_owned(), json!(selector.labels));
    }
    if !selector.requirements.is_empty() {
        let requirements: Vec<Value> = selector.requirements.iter().map(requirement).collect();
        fields.insert("matchExpressions".to_owned(), requirements.into());
    }
    Value::Object(fields)
}

/// An RFC 3339 time in whole seconds, as `metav1.Time`.
pub(super) fn time(timestamp: Timestamp) -> String {
    let seconds = timestamp.0.div_euclid(1_000_000);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn requirement(requirement: &LabelRequirement) -> Value {
    match requirement {
        LabelRequirement::In(key, values) => {
            json!({ "key": key, "operator": "In", "values": values })
        }
        LabelRequirement::NotIn(key, values) => {
            json!({ "key": key, "operator": "NotIn", "values": values })
        }
        LabelRequirement::Exists(key) => json!({ "key": key, "operator": "Exists" }),
        LabelRequirement::DoesNotExist(key) => json!({ "key": key, "operator": "DoesNotExist" }),
    }
}
