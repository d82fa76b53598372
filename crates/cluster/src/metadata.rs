//! Metadata of any resource, for garbage collection and namespace deletion.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use model::{Meta, Name, Owner, Resource, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Client;
use crate::raw::{RawEvent, RawWatch, Selectors, identity};

/// A list followed by a watch of which the server sends only the metadata.
pub struct MetadataWatch {
    watch: RawWatch,
}

/// One step of a [`MetadataWatch`].
#[derive(Clone, PartialEq, Debug)]
pub enum MetadataEvent {
    /// The object exists and has this metadata.
    Apply(Box<Meta>),
    /// The object of this namespace and name is gone.
    Delete(Name, Name),
    /// A list is complete: objects that are not in this set of (namespace, name) are gone.
    Complete(BTreeSet<(Name, Name)>),
}

impl Client {
    /// Lists and watches the metadata of a resource.
    pub fn watch_metadata(&self, resource: &Resource) -> MetadataWatch {
        MetadataWatch { watch: self.watch::<true>(resource, &Selectors::default()) }
    }
}

impl MetadataWatch {
    /// The next event. Never ends; waits while the server is away. Objects whose metadata makes
    /// no sense are logged and left out: nothing is ever done to them.
    pub async fn next(&mut self) -> MetadataEvent {
        loop {
            match self.watch.next().await {
                RawEvent::Apply(value) => match meta(&value) {
                    Ok(meta) => return MetadataEvent::Apply(Box::new(meta)),
                    Err(error) => {
                        let (namespace, name) = identity(&value);
                        tracing::warn!(%namespace, %name, %error, "left out unreadable metadata");
                    }
                },
                RawEvent::Delete(value) => {
                    let (namespace, name) = identity(&value);
                    return MetadataEvent::Delete(namespace, name);
                }
                RawEvent::Complete(present) => return MetadataEvent::Complete(present),
            }
        }
    }
}

/// Metadata of an object of any kind.
pub(crate) fn meta(value: &Value) -> Result<Meta, serde_json::Error> {
    let meta = ObjectMeta::deserialize(&value["metadata"])?;
    Ok(Meta {
        namespace: meta.namespace.unwrap_or_default().into(),
        name: meta.name.unwrap_or_default().into(),
        generate_name: meta.generate_name.unwrap_or_default().into(),
        uid: meta.uid.unwrap_or_default().into(),
        resource_version: meta.resource_version.unwrap_or_default().into(),
        generation: meta.generation.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        annotations: meta.annotations.unwrap_or_default(),
        owners: meta.owner_references.into_iter().flatten().map(owner).collect(),
        finalizers: meta.finalizers.into_iter().flatten().collect(),
        created: meta.creation_timestamp.map(timestamp).unwrap_or_default(),
        deleting: meta.deletion_timestamp.map(timestamp),
    })
}

fn owner(owner: OwnerReference) -> Owner {
    Owner {
        api_version: owner.api_version.into(),
        kind: owner.kind.into(),
        name: owner.name.into(),
        uid: owner.uid.into(),
        controller: owner.controller.unwrap_or_default(),
        block_owner_deletion: owner.block_owner_deletion.unwrap_or_default(),
    }
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp(time.0.as_microsecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn owners_finalizers_and_times_are_read() {
        let meta = meta(&json!({"metadata": {
            "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "3",
            "creationTimestamp": "1970-01-01T00:00:01Z",
            "deletionTimestamp": "1970-01-01T00:00:02Z",
            "finalizers": ["foregroundDeletion"],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o",
                "controller": true,
            }],
        }}))
        .expect("is valid metadata");
        assert_eq!(meta.created, Timestamp(1_000_000));
        assert_eq!(meta.deleting, Some(Timestamp(2_000_000)));
        assert!(meta.finalizers.contains("foregroundDeletion"));
        assert_eq!(meta.controller().map(|owner| owner.name.as_str()), Some("r"));
    }
}
