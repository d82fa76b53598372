//! ObjectMeta.

use model::{Meta, Owner};
use serde_json::Value;

use super::{Rejected, parse, rejected};
use crate::rules::fields::Fields;
use crate::rules::workload::labels;

/// Identity, labels and owners; an object without a name is nothing.
pub(super) fn meta(value: &Value) -> Result<Meta, Rejected> {
    let name = parse::name(value.at("/metadata/name"))
        .ok_or_else(|| rejected(value, "metadata.name is missing"))?;
    Ok(Meta {
        namespace: value.text("/metadata/namespace").into(),
        name,
        generate_name: value.text("/metadata/generateName").into(),
        uid: value.text("/metadata/uid").into(),
        resource_version: value.text("/metadata/resourceVersion").into(),
        generation: value.int("/metadata/generation"),
        labels: labels(value.at("/metadata/labels")),
        annotations: labels(value.at("/metadata/annotations")),
        owners: value.list("/metadata/ownerReferences").iter().map(owner).collect(),
        finalizers: value
            .texts("/metadata/finalizers")
            .into_iter()
            .filter(|finalizer| !finalizer.is_empty())
            .map(str::to_owned)
            .collect(),
        created: parse::time(value.text("/metadata/creationTimestamp")).unwrap_or_default(),
        deleting: parse::time(value.text("/metadata/deletionTimestamp")),
    })
}

fn owner(value: &Value) -> Owner {
    Owner {
        api_version: value.text("/apiVersion").into(),
        kind: value.text("/kind").into(),
        name: value.text("/name").into(),
        uid: value.text("/uid").into(),
        controller: value.flag("/controller"),
        block_owner_deletion: value.flag("/blockOwnerDeletion"),
    }
}
