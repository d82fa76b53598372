//! Which objects a controller has to look at after a change.

use std::collections::BTreeSet;

use model::{
    Change, Cluster, DeploymentName, Endpoints, EndpointsName, Kind, Labels, Meta, Name, Node,
    NodeName, Object, Pod, ReplicaSet, ReplicaSetName, Service, ServiceName, ServiceType,
    SliceName,
};

use crate::selected::matches;
use crate::topology::is_auto;

/// What a change concerns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// For [`crate::slices`] and [`crate::endpoints`].
    pub services: BTreeSet<ServiceName>,
    /// For [`crate::mirroring`].
    pub endpoints: BTreeSet<EndpointsName>,
    /// For [`crate::deployment`].
    pub deployments: BTreeSet<DeploymentName>,
    /// For [`crate::replica_set`].
    pub replica_sets: BTreeSet<ReplicaSetName>,
    /// Whether [`crate::schedule`] has to run.
    pub schedule: bool,
    /// Whether [`crate::load_balancer`] has to run.
    pub load_balancer: bool,
}

impl Touched {
    /// Everything there is: for the first look, and for looking at all of it now and then.
    pub fn all(cluster: &Cluster) -> Self {
        let of_services = cluster.services.keys().map(endpoints_name);
        Self {
            services: cluster.services.keys().cloned().collect(),
            endpoints: of_services.chain(cluster.endpoints.keys().cloned()).collect(),
            deployments: cluster.deployments.keys().cloned().collect(),
            replica_sets: cluster.replica_sets.keys().cloned().collect(),
            schedule: true,
            load_balancer: true,
        }
    }

    /// Both together.
    pub fn extend(&mut self, other: Self) {
        self.services.extend(other.services);
        self.endpoints.extend(other.endpoints);
        self.deployments.extend(other.deployments);
        self.replica_sets.extend(other.replica_sets);
        self.schedule |= other.schedule;
        self.load_balancer |= other.load_balancer;
    }

    fn service(&mut self, service: &ServiceName) {
        self.services.insert(service.clone());
        self.endpoints.insert(endpoints_name(service));
    }

    /// Services whose selector matches a pod with these labels.
    fn selecting(&mut self, cluster: &Cluster, namespace: &Name, labels: &Labels) {
        let first = ServiceName::new(namespace.clone(), "");
        let services = cluster.services.range(first..);
        for (name, service) in services.take_while(|(name, _)| name.namespace == *namespace) {
            if matches(&service.selector, labels) {
                self.services.insert(name.clone());
            }
        }
    }

    fn pod(&mut self, cluster: &Cluster, pod: &Pod) {
        self.selecting(cluster, &pod.meta.namespace, &pod.meta.labels);
        let in_namespace = |set: &&ReplicaSet| set.meta.namespace == pod.meta.namespace;
        let controller = pod.meta.controller().map(|owner| &owner.uid);
        for set in cluster.replica_sets.values().map(|set| &**set).filter(in_namespace) {
            let is_concerned = match controller {
                Some(uid) => set.meta.uid == *uid,
                None => set.selector.matches(&pod.meta.labels),
            };
            if is_concerned {
                self.replica_set(cluster, set);
            }
        }
        self.schedule |= pod.node.is_none();
    }

    fn replica_set(&mut self, cluster: &Cluster, set: &ReplicaSet) {
        self.replica_sets.insert(set.name());
        if let Some(owner) = set.meta.controller() {
            let namespace = set.meta.namespace.clone();
            self.deployments.insert(DeploymentName::new(namespace, owner.name.clone()));
            return;
        }
        for (name, deployment) in &cluster.deployments {
            let in_namespace = name.namespace == set.meta.namespace;
            if in_namespace && deployment.selector.matches(&set.meta.labels) {
                self.deployments.insert(name.clone());
            }
        }
    }

    /// A node that comes, goes or moves to another zone concerns the endpoints on it; what it can do
    /// concerns Services that share their endpoints out by it.
    fn node(&mut self, cluster: &Cluster, name: &Name, old: Option<&Node>, new: Option<&Node>) {
        let zone = |node: Option<&Node>| node.map(Node::zone);
        if zone(old) != zone(new) {
            let here = cluster.pods.values().filter(|pod| pod.node.as_ref() == Some(name));
            for pod in here {
                self.selecting(cluster, &pod.meta.namespace, &pod.meta.labels);
            }
        }
        let counts = |node: Option<&Node>| {
            node.map(|node| (node.zone(), node.ready.clone(), node.allocatable_cpu_millis()))
        };
        if counts(old) != counts(new) {
            let services = cluster.services.iter();
            let auto = services.filter(|(_, service)| is_auto(&service.meta.annotations));
            self.services.extend(auto.map(|(name, _)| name.clone()));
        }
        let takes_pods = |node: Option<&Node>| {
            node.map(|node| {
                let labels = node.meta.labels.clone();
                let room = node.allocatable.clone();
                (node.unschedulable, node.taints.clone(), node.ready.clone(), labels, room)
            })
        };
        self.schedule |= takes_pods(old) != takes_pods(new);
    }

    fn deleted(&mut self, cluster: &Cluster, kind: Kind, namespace: &Name, name: &Name) {
        let (namespace, name) = (namespace.clone(), name.clone());
        match kind {
            Kind::Service => {
                let name = ServiceName::new(namespace, name);
                self.service(&name);
                let old = cluster.services.get(&name);
                self.load_balancer |= old.is_some_and(|old| is_load_balancer(old));
            }
            Kind::EndpointSlice => {
                let old = cluster.slices.get(&SliceName::new(namespace, name));
                if let Some(service) = old.and_then(|old| old.service.as_ref()) {
                    self.service(service);
                }
            }
            Kind::Endpoints => self.service(&ServiceName::new(namespace, name)),
            Kind::Node => {
                let old = cluster.nodes.get(&name).map(|node| &**node);
                self.node(cluster, &name, old, None);
            }
            Kind::Pod => {
                if let Some(old) = cluster.pods.get(&model::PodName::new(namespace, name)) {
                    self.pod(cluster, old);
                    self.schedule |= place(old).is_some();
                }
            }
            Kind::Deployment => {
                self.deployments.insert(DeploymentName::new(namespace, name));
            }
            Kind::ReplicaSet => {
                let key = ReplicaSetName::new(namespace, name);
                if let Some(old) = cluster.replica_sets.get(&key) {
                    self.replica_set(cluster, old);
                }
            }
            Kind::ServiceCidr | Kind::Namespace => {}
        }
    }

    fn applied(&mut self, cluster: &Cluster, object: &Object) {
        match object {
            Object::Service(service) => {
                self.service(&service.name());
                self.load_balancer |= is_load_balancer(service);
            }
            Object::EndpointSlice(slice) => {
                if let Some(service) = &slice.service {
                    self.service(service);
                }
            }
            Object::Endpoints(object) => self.service(&service_name(object)),
            Object::Node(node) => {
                let old = cluster.nodes.get(&node.meta.name).map(|node| &**node);
                self.node(cluster, &node.meta.name, old, Some(node));
            }
            Object::Pod(pod) => self.pod(cluster, pod),
            Object::Deployment(deployment) => {
                self.deployments.insert(deployment.name());
            }
            Object::ReplicaSet(set) => self.replica_set(cluster, set),
            Object::ServiceCidr(_) | Object::Namespace(_) => {}
        }
    }
}

/// What has to be looked at again. Ask **before** [`Cluster::apply`]: labels and owners that an
/// object had before matter too.
pub fn touched(cluster: &Cluster, change: &Change) -> Touched {
    let mut touched = Touched::default();
    match change {
        Change::Apply(object) => {
            if !matches!(object, Object::Node(_)) {
                let Meta { namespace, name, .. } = object.meta();
                touched.deleted(cluster, object.kind(), namespace, name);
            }
            touched.applied(cluster, object);
            if let Object::Pod(pod) = object {
                let old = cluster.pods.get(&pod.name());
                touched.schedule = pod.node.is_none()
                    || old.is_some_and(|old| old.node.is_none())
                    || old.and_then(|old| place(old)) != place(pod);
            }
        }
        Change::Delete(kind, namespace, name) => touched.deleted(cluster, *kind, namespace, name),
        Change::Complete(kind, present) => {
            for (namespace, name) in keys(cluster, *kind) {
                if !present.contains(&(namespace.clone(), name.clone())) {
                    touched.deleted(cluster, *kind, &namespace, &name);
                }
            }
        }
    }
    touched
}

/// What a bound pod takes of its node, and what may keep other pods near it or away from it.
fn place(pod: &Pod) -> Option<(&NodeName, &Labels, bool)> {
    let node = pod.node.as_ref().filter(|_| !pod.phase.is_finished())?;
    Some((node, &pod.meta.labels, pod.meta.deleting.is_some()))
}

/// Namespace and name of every object of a kind.
pub(crate) fn keys(cluster: &Cluster, kind: Kind) -> Vec<(Name, Name)> {
    macro_rules! namespaced {
        ($map:expr) => {
            $map.keys().map(|key| (key.namespace.clone(), key.name.clone())).collect()
        };
    }
    let cluster_scoped = |name: &Name| (Name::from(""), name.clone());
    match kind {
        Kind::Service => namespaced!(cluster.services),
        Kind::EndpointSlice => namespaced!(cluster.slices),
        Kind::Endpoints => namespaced!(cluster.endpoints),
        Kind::Pod => namespaced!(cluster.pods),
        Kind::Deployment => namespaced!(cluster.deployments),
        Kind::ReplicaSet => namespaced!(cluster.replica_sets),
        Kind::Node => cluster.nodes.keys().map(cluster_scoped).collect(),
        Kind::ServiceCidr => cluster.service_cidrs.keys().map(cluster_scoped).collect(),
        Kind::Namespace => cluster.namespaces.keys().map(cluster_scoped).collect(),
    }
}

/// Whether [`crate::load_balancer`] looks at the Service, or has left something on it.
fn is_load_balancer(service: &Service) -> bool {
    matches!(service.kind, ServiceType::LoadBalancer(_))
        || service.meta.finalizers.contains(crate::load_balancer::FINALIZER)
}

fn endpoints_name(service: &ServiceName) -> EndpointsName {
    EndpointsName::new(service.namespace.clone(), service.name.clone())
}

fn service_name(object: &Endpoints) -> ServiceName {
    ServiceName::new(object.meta.namespace.clone(), object.meta.name.clone())
}
