//! A small API server and kubelet: carries writes out on a [`Cluster`], as the real ones would.

use std::sync::Arc;

use model::{
    Cluster, Deployment, DeploymentName, EndpointsName, Labels, Meta, Owner, Pod, PodName,
    PodPhase, PodTemplate, ReplicaSet, ReplicaSetName, ServiceName, SliceName, Timestamp, Write,
};

use crate::fixtures::{pod, seconds};

/// The cluster, its clock and the number of its next object.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    pub(crate) now: Timestamp,
    serial: u64,
}

impl Server {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, now: seconds(10_000), serial: 0 }
    }

    /// Seconds pass.
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now.0 += seconds * 1_000_000;
    }

    pub(crate) fn carry_out(&mut self, writes: &[Write]) {
        for write in writes {
            self.one(write);
        }
    }

    fn one(&mut self, write: &Write) {
        match write {
            Write::CreatePod { namespace, generate_name, owner, template } => {
                self.create_pod(namespace, generate_name, owner, template);
            }
            Write::DeletePod(name, uid) => self.delete_pod(name, uid),
            Write::BindPod(name, _, node) => {
                let node = node.clone();
                self.pod(name, |pod| pod.node = Some(node));
            }
            Write::PodUnschedulable(name, _, text) => {
                self.pod(name, |pod| pod.unschedulable = Some(text.clone()));
            }
            Write::CreateReplicaSet(_)
            | Write::ScaleReplicaSet { .. }
            | Write::DeleteReplicaSet(..)
            | Write::ReplicaSetStatus(..) => self.replica_set(write),
            Write::DeploymentStatus { name, status, revision } => {
                let (status, revision) = (status.clone(), *revision);
                self.deployment(name, |one| {
                    one.status = status;
                    let key = "deployment.kubernetes.io/revision".to_owned();
                    one.meta.annotations.insert(key, revision.to_string());
                });
            }
            Write::CreateSlice(slice) => {
                let mut slice = (**slice).clone();
                let service = slice.service.clone().unwrap();
                self.fresh(&mut slice.meta, &format!("{}-", service.name));
                self.put_slice(slice);
            }
            Write::UpdateSlice(slice) => {
                let old = &self.cluster.slices[&slice.name()];
                assert_eq!(old.meta.uid, slice.meta.uid);
                assert_eq!(old.address_type, slice.address_type, "addressType is immutable");
                self.put_slice((**slice).clone());
            }
            Write::DeleteSlice(name, uid) => self.delete_slice(name, uid),
            Write::PutEndpoints(object) => {
                let meta = &object.meta;
                let name = EndpointsName::new(meta.namespace.clone(), meta.name.clone());
                self.cluster.endpoints.insert(name, Arc::new((**object).clone()));
            }
            Write::DeleteEndpoints(name) => drop(self.cluster.endpoints.remove(name)),
            Write::ServiceIngress { name, ingress, .. } => {
                let ingress = ingress.clone();
                self.service(name, |service| {
                    if let model::ServiceType::LoadBalancer(one) = &mut service.kind {
                        one.ingress = ingress;
                    }
                });
            }
            Write::ServiceFinalizer { name, finalizer, present, .. } => {
                self.service(name, |service| {
                    if *present {
                        service.meta.finalizers.insert(finalizer.clone());
                    } else {
                        service.meta.finalizers.remove(finalizer);
                    }
                });
            }
            Write::AddOwner { resource, meta, owner } if resource.kind.as_str() == "Pod" => {
                let name = PodName::new(meta.namespace.clone(), meta.name.clone());
                self.pod(&name, |pod| pod.meta.owners.push(owner.clone()));
            }
            Write::Event(_) => {}
            other => unimplemented!("{other:?}"),
        }
    }

    fn replica_set(&mut self, write: &Write) {
        let sets = &mut self.cluster.replica_sets;
        match write {
            Write::CreateReplicaSet(set) => {
                let mut set = (**set).clone();
                assert!(!sets.contains_key(&set.name()), "the name is taken");
                self.fresh(&mut set.meta, "");
                set.meta.generation = 1;
                self.cluster.replica_sets.insert(set.name(), Arc::new(set));
            }
            Write::ScaleReplicaSet { name, replicas, annotations, min_ready_seconds, .. } => {
                let set: &mut ReplicaSet = Arc::make_mut(sets.get_mut(name).unwrap());
                set.meta.generation += i64::from(set.replicas != *replicas);
                set.replicas = *replicas;
                set.min_ready_seconds = *min_ready_seconds;
                set.meta.annotations.extend(annotations.iter().cloned());
            }
            Write::DeleteReplicaSet(name, _) => drop(sets.remove(name)),
            Write::ReplicaSetStatus(name, status) => {
                Arc::make_mut(sets.get_mut(name).unwrap()).status = status.clone();
            }
            _ => {}
        }
    }

    fn create_pod(&mut self, namespace: &str, prefix: &str, owner: &Owner, template: &PodTemplate) {
        let mut pod = pod("new", "10.0.0.1");
        pod.meta = Meta::new(namespace, "");
        self.fresh(&mut pod.meta, prefix);
        pod.meta.labels = template.labels.clone();
        pod.meta.owners.push(owner.clone());
        (pod.node, pod.ips, pod.ready) = (None, Vec::new(), false);
        pod.phase = PodPhase::Pending;
        self.cluster.pods.insert(pod.name(), Arc::new(pod));
    }

    /// A pod that never ran goes at once; the others when the kubelet has ended them.
    fn delete_pod(&mut self, name: &PodName, uid: &str) {
        let now = self.now;
        let Some(pod) = self.cluster.pods.get_mut(name).filter(|pod| pod.meta.uid.as_str() == uid)
        else {
            return;
        };
        if pod.node.is_none() {
            self.cluster.pods.remove(name);
        } else {
            Arc::make_mut(pod).meta.deleting = Some(now);
        }
    }

    /// The kubelet's part: the pod runs and is ready, or is gone for good.
    pub(crate) fn kubelet(&mut self, name: &PodName) {
        let now = self.now;
        let last = self.cluster.pods.keys().position(|key| key == name).unwrap_or(0);
        let Some(pod) = self.cluster.pods.get(name) else { return };
        if pod.meta.deleting.is_some() {
            self.cluster.pods.remove(name);
        } else if !pod.ready {
            self.pod(name, |pod| {
                pod.node.get_or_insert_with(|| "here".into());
                pod.ips = vec![format!("10.0.0.{last}").parse().unwrap()];
                (pod.phase, pod.ready, pod.ready_since) = (PodPhase::Running, true, now);
            });
        }
    }

    pub(crate) fn pod(&mut self, name: &PodName, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = self.cluster.pods.get_mut(name) {
            change(Arc::make_mut(pod));
        }
    }

    pub(crate) fn deployment(
        &mut self,
        name: &DeploymentName,
        change: impl FnOnce(&mut Deployment),
    ) {
        change(Arc::make_mut(self.cluster.deployments.get_mut(name).unwrap()));
    }

    fn service(&mut self, name: &ServiceName, change: impl FnOnce(&mut model::Service)) {
        change(Arc::make_mut(self.cluster.services.get_mut(name).unwrap()));
    }

    fn put_slice(&mut self, slice: model::EndpointSlice) {
        let object = model::Object::EndpointSlice(Arc::new(slice));
        self.cluster.apply(model::Change::Apply(object));
    }

    fn delete_slice(&mut self, name: &SliceName, uid: &str) {
        assert_eq!(self.cluster.slices[name].meta.uid.as_str(), uid);
        let (namespace, name) = (name.namespace.clone(), name.name.clone());
        let change = model::Change::Delete(model::Kind::EndpointSlice, namespace, name);
        self.cluster.apply(change);
    }

    fn fresh(&mut self, meta: &mut Meta, prefix: &str) {
        self.serial += 1;
        if meta.name.is_empty() {
            meta.name = format!("{prefix}{:05}", self.serial).into();
        }
        meta.uid = format!("uid-{}", self.serial).into();
        meta.created = self.now;
    }

    /// Pods that a ReplicaSet of this name, or any, owns.
    pub(crate) fn pods(&self, set: Option<&ReplicaSetName>) -> Vec<&Pod> {
        let owned = |pod: &&Arc<Pod>| {
            set.is_none_or(|set| pod.meta.owners.iter().any(|owner| owner.name == set.name))
        };
        self.cluster.pods.values().filter(owned).map(|pod| &**pod).collect()
    }
}

/// A template with these labels.
pub(crate) fn template(labels: &Labels, version: u32) -> PodTemplate {
    let entries: Vec<String> =
        labels.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
    let body = format!(
        "{{\"metadata\":{{\"labels\":{{{}}}}},\"spec\":{{\"version\":{version}}}}}",
        entries.join(",")
    );
    PodTemplate { labels: labels.clone(), body: body.into() }
}
