//! Names of objects. Cheap to clone, ordered, valid by construction at the edge.

use std::fmt;
use std::sync::Arc;

/// One DNS label or subdomain, already validated by `wire`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Wraps a name that the edge has validated.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    /// The empty name, which costs no memory.
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        if text.is_empty() { Self::default() } else { Self(text.into()) }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
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
