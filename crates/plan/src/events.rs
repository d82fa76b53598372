//! Events, as the controllers report them, and the resource types that their writes name.

use model::{Event, EventKind, Meta, Resource, Write};

/// Who reports about which kind of object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporter {
    /// `apiVersion` of the objects.
    pub(crate) api_version: &'static str,
    /// Kind of the objects.
    pub(crate) kind: &'static str,
    /// The component that reports, by the name that people know from Kubernetes.
    pub(crate) component: &'static str,
}

impl Reporter {
    /// Something expected.
    pub(crate) fn normal(&self, about: &Meta, reason: &str, message: impl Into<String>) -> Write {
        self.event(EventKind::Normal, about, reason, message.into())
    }

    /// Something to look at.
    pub(crate) fn warning(&self, about: &Meta, reason: &str, message: impl Into<String>) -> Write {
        self.event(EventKind::Warning, about, reason, message.into())
    }

    fn event(&self, event_kind: EventKind, about: &Meta, reason: &str, message: String) -> Write {
        Write::Event(Box::new(Event {
            api_version: self.api_version.into(),
            kind: self.kind.into(),
            regarding: about.clone(),
            event_kind,
            reason: reason.to_owned(),
            message,
            component: self.component.to_owned(),
        }))
    }
}

/// `pods`.
pub(crate) fn pods() -> Resource {
    resource("", "pods", "Pod")
}

/// `replicasets`.
pub(crate) fn replica_sets() -> Resource {
    resource("apps", "replicasets", "ReplicaSet")
}

fn resource(group: &str, plural: &str, kind: &str) -> Resource {
    Resource {
        group: group.into(),
        version: "v1".into(),
        plural: plural.into(),
        kind: kind.into(),
        namespaced: true,
    }
}
