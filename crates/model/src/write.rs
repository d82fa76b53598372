//! What controllers want written to the API. `cluster` carries it out and reports failures.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::endpoint::{EndpointSlice, Endpoints};
use crate::meta::{Meta, Owner, Resource, Uid};
use crate::name::{
    DeploymentName, EndpointsName, Name, NamespaceName, NodeName, PodName, ReplicaSetName,
    ServiceName, SliceName,
};
use crate::service::Ingress;
use crate::workload::{DeploymentStatus, PodTemplate, ReplicaSet, ReplicaSetStatus};

/// One write. Preconditions (uid, resourceVersion) make a stale write harmless.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Create a pod from a template, named `<generate_name><5 letters>` by the API server.
    CreatePod {
        /// Namespace to create it in.
        namespace: NamespaceName,
        /// `metadata.generateName`.
        generate_name: String,
        /// The ReplicaSet.
        owner: Owner,
        /// What to create.
        template: PodTemplate,
    },
    /// Delete a pod with its own grace period.
    DeletePod(PodName, Uid),
    /// Bind a pod to a node.
    BindPod(PodName, Uid, NodeName),
    /// Tell why a pod cannot be scheduled (condition PodScheduled False, reason Unschedulable).
    PodUnschedulable(PodName, Uid, String),
    /// Create a ReplicaSet.
    CreateReplicaSet(Box<ReplicaSet>),
    /// Set the replicas (and annotations) of a ReplicaSet.
    ScaleReplicaSet {
        /// Which.
        name: ReplicaSetName,
        /// Precondition.
        uid: Uid,
        /// New `spec.replicas`.
        replicas: u32,
        /// New `spec.minReadySeconds`.
        min_ready_seconds: u32,
        /// Annotations to set.
        annotations: Vec<(String, String)>,
    },
    /// Delete a ReplicaSet whose revision is beyond the history limit.
    DeleteReplicaSet(ReplicaSetName, Uid),
    /// Write `ReplicaSet.status`.
    ReplicaSetStatus(ReplicaSetName, ReplicaSetStatus),
    /// Write `Deployment.status`, and the revision annotation.
    DeploymentStatus {
        /// Which.
        name: DeploymentName,
        /// New status.
        status: DeploymentStatus,
        /// Annotation `deployment.kubernetes.io/revision`.
        revision: u64,
    },
    /// Create an EndpointSlice; an empty `meta.name` means `<service>-` plus 5 letters.
    CreateSlice(Box<EndpointSlice>),
    /// Replace an EndpointSlice (precondition: its resourceVersion).
    UpdateSlice(Box<EndpointSlice>),
    /// Delete an EndpointSlice.
    DeleteSlice(SliceName, Uid),
    /// Create or replace an Endpoints object.
    PutEndpoints(Box<Endpoints>),
    /// Delete an Endpoints object.
    DeleteEndpoints(EndpointsName),
    /// Write `Service.status.loadBalancer`.
    ServiceIngress {
        /// Which.
        name: ServiceName,
        /// Precondition.
        uid: Uid,
        /// The whole new list.
        ingress: Vec<Ingress>,
    },
    /// Add or remove a finalizer of a Service.
    ServiceFinalizer {
        /// Which.
        name: ServiceName,
        /// Precondition.
        uid: Uid,
        /// The finalizer.
        finalizer: String,
        /// Whether it must be there afterwards.
        present: bool,
    },
    /// Set condition Ready of a Node to Unknown: its lease is too old.
    NodeUnreachable(NodeName, Uid),
    /// Replace `spec.taints` of a Node (precondition: uid and resourceVersion of the given Meta).
    NodeTaints {
        /// Identity.
        meta: Box<Meta>,
        /// The whole new list, each `key=value:effect`.
        taints: Vec<String>,
    },
    /// Set `spec.podCIDRs` of a Node that has none (precondition: uid and resourceVersion of the given
    /// Meta).
    NodePodCidrs {
        /// Identity.
        meta: Box<Meta>,
        /// One, or one of each family, the primary first.
        cidrs: Vec<IpNet>,
    },
    /// Set condition Ready of a pod to False: its node does not answer.
    PodNotReady(PodName, Uid),
    /// Delete any object by its identity (garbage collection, namespace deletion).
    Delete {
        /// Resource type.
        resource: Resource,
        /// Identity; `meta.uid` is the precondition.
        meta: Box<Meta>,
        /// `Background` or `Orphan` semantics are the API server's; this is the grace period, if set.
        grace_seconds: Option<u32>,
    },
    /// Remove a finalizer from any object (foreground deletion, orphaning).
    RemoveFinalizer {
        /// Resource type.
        resource: Resource,
        /// Identity; `meta.uid` is the precondition.
        meta: Box<Meta>,
        /// The finalizer.
        finalizer: String,
    },
    /// Add an owner reference (adoption by a controller).
    AddOwner {
        /// Resource type of the dependent.
        resource: Resource,
        /// Identity of the dependent; `meta.uid` is the precondition.
        meta: Box<Meta>,
        /// The new owner.
        owner: Owner,
    },
    /// Remove an owner reference (release by a controller, orphaning).
    RemoveOwner {
        /// Resource type of the dependent.
        resource: Resource,
        /// Identity of the dependent; `meta.uid` is the precondition.
        meta: Box<Meta>,
        /// Uid of the owner to forget.
        owner: Uid,
    },
    /// All content of the Namespace is gone: remove `kubernetes` from `spec.finalizers`.
    FinalizeNamespace(NamespaceName),
    /// Create an Event.
    Event(Box<Event>),
}

/// An Event about an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// `apiVersion` of the object.
    pub api_version: Name,
    /// Kind of the object.
    pub kind: Name,
    /// Identity of the object.
    pub regarding: Meta,
    /// Normal or Warning.
    pub event_kind: EventKind,
    /// CamelCase reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Component that reports, such as `deployment-controller`.
    pub component: String,
}

/// Type of an Event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// Something expected.
    Normal,
    /// Something to look at.
    Warning,
}

impl Write {
    /// The addresses that a [`Self::ServiceIngress`] gives; empty for all others.
    pub fn ingress_addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::ServiceIngress { ingress, .. } => ingress
                .iter()
                .filter_map(|entry| match entry {
                    Ingress::Ip(address, _) => Some(*address),
                    Ingress::Hostname(_) => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
