//! The nouns of Portolan.
//!
//! What it is: names, addresses, the Kubernetes objects that Services are made
//! of, the [`Cluster`] that holds them, and the values that planning returns
//! ([`NodeView`], [`Adverts`], [`Write`]). Every value here is already valid:
//! it was parsed at the edge (`wire`).
//!
//! What it is not: it reads nothing, decides nothing and knows no JSON, no
//! clock, no randomness, no async and no hash-ordered iteration.
//!
//! ```text
//!  wire ──▶ Change ──▶ Cluster ──▶ plan ──▶ NodeView ──▶ nft
//!                         │             ├──▶ Adverts  ──▶ announce
//!                         │             └──▶ Write    ──▶ cluster
//!                         └──▶ verdict ──▶ Outcome
//! ```

mod address;
mod advert;
mod cluster;
mod endpoint;
mod meta;
mod name;
mod node;
mod packet;
mod placement;
mod pod;
mod reason;
mod service;
mod view;
mod workload;
mod write;

pub use address::{Family, NodePort, Port, Protocol};
pub use advert::{Advert, Adverts};
pub use cluster::{Change, Cluster, Kind, Object, Sources};
pub use endpoint::{
    AddressType, Conditions, Endpoint, EndpointSlice, Endpoints, EndpointsAddress, EndpointsSubset,
    Hints, SlicePort, TargetRef,
};
pub use ipnet::IpNet;
pub use meta::{LabelRequirement, LabelSelector, Labels, Meta, Owner, Resource, Timestamp, Uid};
pub use name::{
    ConfigName, DeploymentName, EndpointsName, FewNames, LeaseName, Name, NamespaceName, NodeName,
    PodName, PortName, ReplicaSetName, ServiceName, SliceName,
};
pub use node::{Namespace, Node, NodeCondition, ServiceCidr};
pub use packet::{Outcome, Packet, Verdict};
pub use placement::{
    HostPort, NodeRequirement, NodeTerm, Placement, PodTerm, Resources, SpreadConstraint,
};
pub use pod::{ContainerPort, Pod, PodPhase};
pub use reason::{Reason, Report, Reported};
pub use service::{
    Affinity, ClusterIps, FamilyPolicy, Ingress, IpMode, LoadBalancer, Service, ServicePort,
    ServiceType, TargetPort, TrafficDistribution, TrafficPolicy,
};
pub use view::{
    Action, Backend, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext, NodeView,
    ServiceView,
};
pub use workload::{
    Condition, ConditionStatus, Deployment, DeploymentStatus, IntOrPercent, PodTemplate,
    ReplicaSet, ReplicaSetStatus, RolloutStrategy,
};
pub use write::{Event, EventKind, Write};
