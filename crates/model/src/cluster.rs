//! The cluster as one value, built from changes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;

use crate::endpoint::{EndpointSlice, Endpoints};
use crate::name::{
    DeploymentName, EndpointsName, Name, NamespaceName, NodeName, PodName, ReplicaSetName,
    ServiceName, SliceName,
};
use crate::node::{Namespace, Node, ServiceCidr};
use crate::pod::Pod;
use crate::service::Service;
use crate::workload::{Deployment, ReplicaSet};

/// Everything that decisions read. Cloning is cheap (values are shared).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    /// Services.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// EndpointSlices.
    pub slices: BTreeMap<SliceName, Arc<EndpointSlice>>,
    /// Slices of each Service: maintained by [`Cluster::apply`].
    slices_of: BTreeSet<(ServiceName, SliceName)>,
    /// Endpoints objects.
    pub endpoints: BTreeMap<EndpointsName, Arc<Endpoints>>,
    /// Nodes.
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    /// ServiceCIDRs.
    pub service_cidrs: BTreeMap<Name, Arc<ServiceCidr>>,
    /// Namespaces.
    pub namespaces: BTreeMap<NamespaceName, Arc<Namespace>>,
    /// Pods.
    pub pods: BTreeMap<PodName, Arc<Pod>>,
    /// Deployments.
    pub deployments: BTreeMap<DeploymentName, Arc<Deployment>>,
    /// ReplicaSets.
    pub replica_sets: BTreeMap<ReplicaSetName, Arc<ReplicaSet>>,
    /// Which sources have delivered everything once (invariant 5).
    pub complete: Sources,
}

/// The kinds that a [`Cluster`] holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Endpoints.
    Endpoints,
    /// Nodes.
    Node,
    /// ServiceCIDRs.
    ServiceCidr,
    /// Namespaces.
    Namespace,
    /// Pods.
    Pod,
    /// Deployments.
    Deployment,
    /// ReplicaSets.
    ReplicaSet,
}

/// A set of kinds.
pub type Sources = BTreeSet<Kind>;

/// One object of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// An Endpoints object.
    Endpoints(Arc<Endpoints>),
    /// A Node.
    Node(Arc<Node>),
    /// A ServiceCIDR.
    ServiceCidr(Arc<ServiceCidr>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A Deployment.
    Deployment(Arc<Deployment>),
    /// A ReplicaSet.
    ReplicaSet(Arc<ReplicaSet>),
}

/// One step of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The object exists and looks like this.
    Apply(Object),
    /// The object is gone (cluster-scoped kinds: empty namespace).
    Delete(Kind, Name, Name),
    /// The source has listed everything: objects of the kind that are not in this set are gone.
    /// Pairs are (namespace, name).
    Complete(Kind, BTreeSet<(Name, Name)>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
            Self::Namespace(_) => Kind::Namespace,
            Self::Pod(_) => Kind::Pod,
            Self::Deployment(_) => Kind::Deployment,
            Self::ReplicaSet(_) => Kind::ReplicaSet,
        }
    }

    /// Its identity.
    pub fn meta(&self) -> &crate::meta::Meta {
        match self {
            Self::Service(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Endpoints(object) => &object.meta,
            Self::Node(object) => &object.meta,
            Self::ServiceCidr(object) => &object.meta,
            Self::Namespace(object) => &object.meta,
            Self::Pod(object) => &object.meta,
            Self::Deployment(object) => &object.meta,
            Self::ReplicaSet(object) => &object.meta,
        }
    }
}

impl Cluster {
    /// Takes one change in. Objects change whole; indexes follow.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Apply(object) => self.insert(object),
            Change::Delete(kind, namespace, name) => self.remove(kind, namespace, name),
            Change::Complete(kind, present) => {
                for (namespace, name) in self.keys(kind) {
                    if !present.contains(&(namespace.clone(), name.clone())) {
                        self.remove(kind, namespace, name);
                    }
                }
                self.complete.insert(kind);
                self.fill_nodes(kind);
            }
        }
    }

    /// Whether every one of these sources has delivered everything once.
    pub fn is_complete(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.complete.contains(kind))
    }

    /// The slices of a Service, ordered by name.
    pub fn slices_of<'a>(
        &'a self,
        service: &ServiceName,
    ) -> impl Iterator<Item = &'a Arc<EndpointSlice>> + use<'a> {
        // No name comes before the empty one.
        let of_service = self.slices_of.range((service.clone(), SliceName::default())..);
        let service = service.clone();
        of_service
            .take_while(move |(owner, _)| *owner == service)
            .filter_map(|(_, slice)| self.slices.get(slice))
    }

    /// Builds the maps anew whose nodes a list has left half empty, because it comes in order: of the
    /// kinds of which there are many.
    fn fill_nodes(&mut self, kind: Kind) {
        match kind {
            Kind::Service => self.services = take(&mut self.services).into_iter().collect(),
            Kind::EndpointSlice => {
                self.slices = take(&mut self.slices).into_iter().collect();
                self.slices_of = take(&mut self.slices_of).into_iter().collect();
            }
            _ => {}
        }
    }

    fn insert(&mut self, object: Object) {
        match object {
            Object::Service(object) => drop(self.services.insert(object.name(), object)),
            Object::EndpointSlice(object) => self.insert_slice(object),
            Object::Endpoints(object) => {
                let name = EndpointsName {
                    namespace: object.meta.namespace.clone(),
                    name: object.meta.name.clone(),
                };
                self.endpoints.insert(name, object);
            }
            Object::Node(object) => drop(self.nodes.insert(object.name(), object)),
            Object::ServiceCidr(object) => {
                self.service_cidrs.insert(object.meta.name.clone(), object);
            }
            Object::Namespace(object) => {
                self.namespaces.insert(object.meta.name.clone(), object);
            }
            Object::Pod(object) => drop(self.pods.insert(object.name(), object)),
            Object::Deployment(object) => drop(self.deployments.insert(object.name(), object)),
            Object::ReplicaSet(object) => drop(self.replica_sets.insert(object.name(), object)),
        }
    }

    fn insert_slice(&mut self, slice: Arc<EndpointSlice>) {
        let name = slice.name();
        self.remove_slice(&name);
        if let Some(service) = &slice.service {
            self.slices_of.insert((service.clone(), name.clone()));
        }
        self.slices.insert(name, slice);
    }

    fn remove_slice(&mut self, name: &SliceName) {
        let Some(old) = self.slices.remove(name) else { return };
        if let Some(service) = &old.service {
            self.slices_of.remove(&(service.clone(), name.clone()));
        }
    }

    fn remove(&mut self, kind: Kind, namespace: Name, name: Name) {
        match kind {
            Kind::Service => drop(self.services.remove(&ServiceName { namespace, name })),
            Kind::EndpointSlice => self.remove_slice(&SliceName { namespace, name }),
            Kind::Endpoints => drop(self.endpoints.remove(&EndpointsName { namespace, name })),
            Kind::Node => drop(self.nodes.remove(&name)),
            Kind::ServiceCidr => drop(self.service_cidrs.remove(&name)),
            Kind::Namespace => drop(self.namespaces.remove(&name)),
            Kind::Pod => drop(self.pods.remove(&PodName { namespace, name })),
            Kind::Deployment => drop(self.deployments.remove(&DeploymentName { namespace, name })),
            Kind::ReplicaSet => drop(self.replica_sets.remove(&ReplicaSetName { namespace, name })),
        }
    }

    fn keys(&self, kind: Kind) -> Vec<(Name, Name)> {
        macro_rules! namespaced {
            ($map:expr) => {
                $map.keys().map(|key| (key.namespace.clone(), key.name.clone())).collect()
            };
        }
        let cluster_scoped = |name: &Name| (Name::from(""), name.clone());
        match kind {
            Kind::Service => namespaced!(self.services),
            Kind::EndpointSlice => namespaced!(self.slices),
            Kind::Endpoints => namespaced!(self.endpoints),
            Kind::Node => self.nodes.keys().map(cluster_scoped).collect(),
            Kind::ServiceCidr => self.service_cidrs.keys().map(cluster_scoped).collect(),
            Kind::Namespace => self.namespaces.keys().map(cluster_scoped).collect(),
            Kind::Pod => namespaced!(self.pods),
            Kind::Deployment => namespaced!(self.deployments),
            Kind::ReplicaSet => namespaced!(self.replica_sets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddressType, Family, Meta};

    fn slice(name: &str, service: Option<&str>) -> Object {
        Object::EndpointSlice(Arc::new(EndpointSlice {
            meta: Meta::new("default", name),
            service: service.map(|service| ServiceName::new("default", service)),
            address_type: AddressType::Ip(Family::V4),
            ports: Vec::new(),
            endpoints: Vec::new(),
        }))
    }

    #[test]
    fn a_slice_that_changes_its_service_label_moves() {
        let mut cluster = Cluster::default();
        cluster.apply(Change::Apply(slice("a", Some("web"))));
        cluster.apply(Change::Apply(slice("a", Some("api"))));
        assert_eq!(cluster.slices_of(&ServiceName::new("default", "web")).count(), 0);
        assert_eq!(cluster.slices_of(&ServiceName::new("default", "api")).count(), 1);
    }

    #[test]
    fn complete_removes_what_the_list_did_not_contain() {
        let mut cluster = Cluster::default();
        cluster.apply(Change::Apply(slice("a", None)));
        cluster.apply(Change::Apply(slice("b", None)));
        let present = BTreeSet::from([(Name::from("default"), Name::from("b"))]);
        cluster.apply(Change::Complete(Kind::EndpointSlice, present));
        assert_eq!(cluster.slices.len(), 1);
        assert!(cluster.is_complete(&[Kind::EndpointSlice]));
    }
}
