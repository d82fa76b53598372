//! Object metadata: identity, labels, ownership.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;

/// Labels, selectors' equality part and annotations.
pub type Labels = BTreeMap<String, String>;
/// `metadata.uid`.
pub type Uid = Name;

/// Microseconds since the Unix epoch. Handed in by the shells; pure code never reads a clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

/// The part of ObjectMeta that decisions need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Empty for cluster-scoped objects.
    pub namespace: Name,
    /// `metadata.name`.
    pub name: Name,
    /// `metadata.generateName`; empty unless the server has made the name from it.
    pub generate_name: Name,
    /// `metadata.uid`; empty in manifests that no API server has seen.
    pub uid: Uid,
    /// `metadata.resourceVersion`, opaque; empty in manifests.
    pub resource_version: Name,
    /// `metadata.generation`, 0 when the kind has none.
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.ownerReferences`.
    pub owners: Vec<Owner>,
    /// `metadata.finalizers`.
    pub finalizers: BTreeSet<String>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.deletionTimestamp`: set means "being deleted".
    pub deleting: Option<Timestamp>,
}

impl Meta {
    /// Metadata of a fresh object with only a namespace and a name.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            generate_name: "".into(),
            uid: "".into(),
            resource_version: "".into(),
            generation: 0,
            labels: Labels::new(),
            annotations: Labels::new(),
            owners: Vec::new(),
            finalizers: BTreeSet::new(),
            created: Timestamp::default(),
            deleting: None,
        }
    }

    /// The owner with `controller: true`, if any.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }
}

/// One `metadata.ownerReferences` entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Owner {
    /// `apiVersion`, such as `apps/v1`.
    pub api_version: Name,
    /// `kind`, such as `ReplicaSet`.
    pub kind: Name,
    /// Name of the owner, in the same Namespace or cluster-scoped.
    pub name: Name,
    /// Uid of the owner: an owner of the same name and another uid is another object.
    pub uid: Uid,
    /// Whether this owner manages the object.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// A resource type, as in a request path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: Name,
    /// Version, such as `v1`.
    pub version: Name,
    /// Plural lower-case name, such as `endpointslices`.
    pub plural: Name,
    /// Kind, such as `EndpointSlice`.
    pub kind: Name,
    /// Whether objects live in a Namespace.
    pub namespaced: bool,
}

/// A `metav1.LabelSelector`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub requirements: Vec<LabelRequirement>,
}

/// One `matchExpressions` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LabelRequirement {
    /// `In`: the label is one of the values.
    In(String, BTreeSet<String>),
    /// `NotIn`: the label is absent or none of the values.
    NotIn(String, BTreeSet<String>),
    /// `Exists`.
    Exists(String),
    /// `DoesNotExist`.
    DoesNotExist(String),
}

impl LabelSelector {
    /// Whether the labels satisfy every part; the empty selector matches everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl LabelRequirement {
    /// Whether the labels satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}
