//! Names of objects. Cheap to clone, ordered, valid by construction at the edge.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One DNS label or subdomain, already validated by `wire`.
///
/// One pointer wide, because names are keys of many maps; the empty one takes no memory.
#[derive(Clone, Default)]
pub struct Name(Option<Arc<Box<str>>>);

impl Name {
    /// Wraps a name that the edge has validated.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Self((!text.is_empty()).then(|| Arc::new(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", |text| text)
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A set of names that is nearly always empty, and one pointer wide.
#[expect(clippy::box_collection, reason = "there are many that are empty")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct FewNames(Option<Box<BTreeSet<Name>>>);

impl std::ops::Deref for FewNames {
    type Target = BTreeSet<Name>;
    fn deref(&self) -> &BTreeSet<Name> {
        static NONE: BTreeSet<Name> = BTreeSet::new();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl FromIterator<Name> for FewNames {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let names: BTreeSet<Name> = names.into_iter().collect();
        // Equal sets are the same value.
        Self((!names.is_empty()).then(|| Box::new(names)))
    }
}

impl<const N: usize> From<[Name; N]> for FewNames {
    fn from(names: [Name; N]) -> Self {
        names.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a FewNames {
    type Item = &'a Name;
    type IntoIter = std::collections::btree_set::Iter<'a, Name>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Name of a Namespace.
pub type NamespaceName = Name;
/// Name of a Node.
pub type NodeName = Name;
/// Name of a Service or slice port; may be empty (a single unnamed port).
pub type PortName = Name;

macro_rules! namespaced {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name {
            /// The Namespace it lives in.
            pub namespace: NamespaceName,
            /// The name inside the Namespace.
            pub name: Name,
        }

        impl $name {
            /// From its two parts.
            pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
                Self { namespace: namespace.into(), name: name.into() }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    )*};
}

namespaced! {
    /// Namespace and name of a Service.
    ServiceName;
    /// Namespace and name of an EndpointSlice.
    SliceName;
    /// Namespace and name of an Endpoints object.
    EndpointsName;
    /// Namespace and name of a Pod.
    PodName;
    /// Namespace and name of a Deployment.
    DeploymentName;
    /// Namespace and name of a ReplicaSet.
    ReplicaSetName;
    /// Namespace and name of a Lease.
    LeaseName;
    /// Namespace and name of a ConfigMap.
    ConfigName;
}
