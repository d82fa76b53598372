//! The units of work, and which object a write is about.

use model::{
    DeploymentName, EndpointsName, Kind, Name, NamespaceName, ReplicaSetName, Resource,
    ServiceName, Write,
};

use super::selection::ControllerName;

/// One thing to reconcile. Each is worked on by one worker at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Key {
    /// EndpointSlices of a Service.
    Slices(ServiceName),
    /// The Endpoints object of a Service.
    Endpoints(ServiceName),
    /// Slices that mirror an Endpoints object.
    Mirroring(EndpointsName),
    /// A rollout.
    Deployment(DeploymentName),
    /// Pods of a ReplicaSet.
    ReplicaSet(ReplicaSetName),
    /// Pods without a node.
    Schedule,
    /// Load balancer addresses.
    LoadBalancer,
    /// Nodes that stopped or resumed reporting.
    NodeHealth,
    /// Nodes without ranges of pod addresses.
    NodeCidrs,
    /// A terminating Namespace.
    Namespace(NamespaceName),
    /// Objects whose owners are gone.
    Garbage,
}

impl Key {
    /// Whose work it is.
    pub(crate) fn controller(&self) -> ControllerName {
        match self {
            Self::Slices(_) => ControllerName::EndpointSlice,
            Self::Endpoints(_) => ControllerName::Endpoints,
            Self::Mirroring(_) => ControllerName::EndpointSliceMirroring,
            Self::Deployment(_) => ControllerName::Deployment,
            Self::ReplicaSet(_) => ControllerName::ReplicaSet,
            Self::Schedule => ControllerName::Scheduler,
            Self::LoadBalancer => ControllerName::ServiceLb,
            Self::NodeHealth => ControllerName::NodeLifecycle,
            Self::NodeCidrs => ControllerName::NodeIpam,
            Self::Namespace(_) => ControllerName::Namespace,
            Self::Garbage => ControllerName::GarbageCollector,
        }
    }

    /// Whether its writes concern many independent objects: a failed write stops only the further
    /// writes of the same object.
    pub(crate) fn is_collective(&self) -> bool {
        matches!(
            self,
            Self::Schedule
                | Self::LoadBalancer
                | Self::NodeHealth
                | Self::NodeCidrs
                | Self::Namespace(_)
                | Self::Garbage
        )
    }
}

/// The object that a write changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Target {
    /// Its kind; `None` when the [`model::Cluster`] does not hold that kind.
    pub(crate) kind: Option<Kind>,
    /// Its namespace; empty for cluster-scoped kinds.
    pub(crate) namespace: Name,
    /// Its name; empty when the server will choose one.
    pub(crate) name: Name,
}

/// What a write does to its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// The object may be new afterwards.
    Create,
    /// The object existed and has changed afterwards.
    Update,
    /// The object is gone or being deleted afterwards.
    Delete,
}

/// Target and effect of a write; `None` for events, which nobody waits for.
pub(crate) fn target(write: &Write) -> Option<(Target, Effect)> {
    use Effect::{Create, Delete, Update};
    let (kind, namespace, name, effect) = match write {
        Write::CreatePod { namespace, .. } => (Kind::Pod, namespace, None, Create),
        Write::DeletePod(pod, _) => (Kind::Pod, &pod.namespace, Some(&pod.name), Delete),
        Write::BindPod(pod, ..) | Write::PodUnschedulable(pod, ..) | Write::PodNotReady(pod, _) => {
            (Kind::Pod, &pod.namespace, Some(&pod.name), Update)
        }
        Write::CreateReplicaSet(set) => {
            (Kind::ReplicaSet, &set.meta.namespace, Some(&set.meta.name), Create)
        }
        Write::ScaleReplicaSet { name: set, .. } | Write::ReplicaSetStatus(set, _) => {
            (Kind::ReplicaSet, &set.namespace, Some(&set.name), Update)
        }
        Write::DeleteReplicaSet(set, _) => {
            (Kind::ReplicaSet, &set.namespace, Some(&set.name), Delete)
        }
        Write::DeploymentStatus { name: deployment, .. } => {
            (Kind::Deployment, &deployment.namespace, Some(&deployment.name), Update)
        }
        Write::CreateSlice(slice) => {
            let name = Some(&slice.meta.name).filter(|name| !name.is_empty());
            (Kind::EndpointSlice, &slice.meta.namespace, name, Create)
        }
        Write::UpdateSlice(slice) => {
            (Kind::EndpointSlice, &slice.meta.namespace, Some(&slice.meta.name), Update)
        }
        Write::DeleteSlice(slice, _) => {
            (Kind::EndpointSlice, &slice.namespace, Some(&slice.name), Delete)
        }
        Write::PutEndpoints(endpoints) => {
            (Kind::Endpoints, &endpoints.meta.namespace, Some(&endpoints.meta.name), Create)
        }
        Write::DeleteEndpoints(endpoints) => {
            (Kind::Endpoints, &endpoints.namespace, Some(&endpoints.name), Delete)
        }
        Write::ServiceIngress { name: service, .. }
        | Write::ServiceFinalizer { name: service, .. } => {
            (Kind::Service, &service.namespace, Some(&service.name), Update)
        }
        Write::NodeUnreachable(node, _) => {
            return Some((cluster_scoped(Kind::Node, node), Update));
        }
        Write::NodeTaints { meta, .. } | Write::NodePodCidrs { meta, .. } => {
            return Some((cluster_scoped(Kind::Node, &meta.name), Update));
        }
        Write::FinalizeNamespace(namespace) => {
            return Some((cluster_scoped(Kind::Namespace, namespace), Update));
        }
        Write::Delete { resource, meta, .. } => return Some((any(resource, meta), Delete)),
        Write::RemoveFinalizer { resource, meta, .. }
        | Write::AddOwner { resource, meta, .. }
        | Write::RemoveOwner { resource, meta, .. } => return Some((any(resource, meta), Update)),
        Write::Event(_) => return None,
    };
    let name = name.cloned().unwrap_or_else(|| "".into());
    Some((Target { kind: Some(kind), namespace: namespace.clone(), name }, effect))
}

/// The kinds that the controllers hold.
pub(crate) const KINDS: [Kind; 9] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Endpoints,
    Kind::Node,
    Kind::ServiceCidr,
    Kind::Namespace,
    Kind::Pod,
    Kind::Deployment,
    Kind::ReplicaSet,
];

/// The kind of a resource type, if the controllers hold it.
pub(crate) fn kind_of(resource: &Resource) -> Option<Kind> {
    KINDS.into_iter().find(|&kind| {
        let known = cluster::resource_of(kind);
        known.group == resource.group && known.plural == resource.plural
    })
}

fn cluster_scoped(kind: Kind, name: &Name) -> Target {
    Target { kind: Some(kind), namespace: "".into(), name: name.clone() }
}

fn any(resource: &Resource, meta: &model::Meta) -> Target {
    Target { kind: kind_of(resource), namespace: meta.namespace.clone(), name: meta.name.clone() }
}
