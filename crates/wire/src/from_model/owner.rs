//! Owner references and finalizers of any object.

use model::{Meta, Owner, Resource, Uid};
use serde_json::{Value, json};

use super::delete::object_path;
use super::{Call, meta};
use crate::kinds;

/// Adds an owner.
pub(super) fn add(resource: &Resource, object: &Meta, owner: &Owner) -> Call {
    let added = meta::owner(owner);
    if is_known(resource) {
        return strategic(resource, object, json!({ "ownerReferences": [added] }));
    }
    let others = object.owners.iter().filter(|other| other.uid != owner.uid);
    let owners: Vec<Value> = others.map(meta::owner).chain([added]).collect();
    replace(resource, object, json!({ "ownerReferences": owners }))
}

/// Forgets an owner.
pub(super) fn remove(resource: &Resource, object: &Meta, owner: &Uid) -> Call {
    if is_known(resource) {
        let gone = json!({ "$patch": "delete", "uid": owner.as_str() });
        return strategic(resource, object, json!({ "ownerReferences": [gone] }));
    }
    let others = object.owners.iter().filter(|other| other.uid != *owner);
    let owners: Vec<Value> = others.map(meta::owner).collect();
    replace(resource, object, json!({ "ownerReferences": owners }))
}

/// Removes a finalizer.
pub(super) fn remove_finalizer(resource: &Resource, object: &Meta, finalizer: &str) -> Call {
    if is_known(resource) {
        let fields = json!({ "$deleteFromPrimitiveList/finalizers": [finalizer] });
        return strategic(resource, object, fields);
    }
    let others: Vec<&String> =
        object.finalizers.iter().filter(|other| other.as_str() != finalizer).collect();
    replace(resource, object, json!({ "finalizers": others }))
}

/// Strategic merge patches are understood for built-in kinds only.
fn is_known(resource: &Resource) -> bool {
    kinds::find(&resource.group, &resource.version, &resource.plural).is_some()
}

/// Changes one entry; the uid guards against another object of the same name.
fn strategic(resource: &Resource, object: &Meta, mut fields: Value) -> Call {
    fields["uid"] = object.uid.as_str().into();
    Call::strategic(object_path(resource, object), json!({ "metadata": fields }))
}

/// Replaces the whole list; the resourceVersion guards against changes in between.
fn replace(resource: &Resource, object: &Meta, mut fields: Value) -> Call {
    fields["uid"] = object.uid.as_str().into();
    fields["resourceVersion"] = object.resource_version.as_str().into();
    Call::merge(object_path(resource, object), json!({ "metadata": fields }))
}
