//! A tiny API server and kubelet in memory, to run the controllers without a network.
//!
//! It keeps what the real server promises and the controllers rely on: uids, growing
//! resourceVersions, preconditions, finalizers, generated names. Watches are late and
//! writes fail as often as a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cluster::Written;
use model::{
    Change, Cluster, Kind, Meta, Name, NodeName, Object, Pod, PodPhase, ServiceType, Timestamp,
    Uid, Write,
};
use plan::AddressPool;

use super::key::{KINDS, kind_of};
use super::machine::{Controller, Outcome, Work};
use super::selection::Selection;
use crate::clock::Now;

type Id = (Kind, Name, Name);

/// The API server, its kubelets, and one controller that watches it.
pub(crate) struct Simulation {
    pub(crate) controller: Controller,
    objects: BTreeMap<Id, Object>,
    late: VecDeque<Change>,
    random: Random,
    /// How often of 100 a write fails.
    pub(crate) failures: u64,
    /// How often of 100 the oldest waiting change stays unseen for another round.
    pub(crate) lateness: u64,
    now: Duration,
    serial: u64,
    /// Everything that was asked for and carried out, for tests to look at.
    pub(crate) writes: Vec<Write>,
}

/// A small random number generator (xorshift64): the same seed gives the same run.
struct Random(u64);

impl Random {
    fn percent(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 100
    }
}

impl Simulation {
    /// An empty cluster whose sources have been listed.
    pub(crate) fn new(seed: u64, pool: AddressPool) -> Self {
        let mut simulation = Self {
            controller: Controller::new(Selection::all(), pool, None),
            objects: BTreeMap::new(),
            late: VecDeque::new(),
            random: Random(seed | 1),
            failures: 0,
            lateness: 0,
            now: Duration::from_secs(1_000_000_000),
            serial: 0,
            writes: Vec::new(),
        };
        simulation.controller.resources(KINDS.into_iter().map(cluster::resource_of).collect());
        for kind in KINDS {
            simulation.controller.change(Change::Complete(kind, Default::default()));
        }
        simulation
    }

    /// A person creates or replaces an object.
    pub(crate) fn apply(&mut self, object: Object) {
        self.put(object);
    }

    /// A person deletes an object.
    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        let id = (kind, namespace.into(), name.into());
        self.remove(&id, None);
    }

    /// Lets everybody work until nothing happens any more. Returns how many rounds it took.
    pub(crate) fn settle(&mut self) -> usize {
        for round in 0..20_000 {
            let worked = self.round();
            if !worked && self.late.is_empty() {
                match self.controller.next_due() {
                    // Waiting that can change something: retries and lost writes.
                    Some(due) if due < self.now + Duration::from_secs(60) => self.now = due,
                    _ => return round,
                }
            }
        }
        panic!("the controllers never came to rest");
    }

    /// One step of everybody. Calls `check` tests may do between rounds.
    pub(crate) fn round(&mut self) -> bool {
        let mut worked = false;
        while !self.late.is_empty() && self.random.percent() >= self.lateness {
            if let Some(change) = self.late.pop_front() {
                self.controller.change(change);
                worked = true;
            }
        }
        self.now += Duration::from_millis(1);
        while let Some(work) = self.controller.next(self.time()) {
            worked = true;
            self.work(work);
        }
        worked |= self.kubelets();
        worked
    }

    /// What the server holds.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for object in self.objects.values() {
            cluster.apply(Change::Apply(object.clone()));
        }
        cluster
    }

    fn time(&self) -> Now {
        let wall = i64::try_from(self.now.as_micros()).expect("is small");
        Now { wall: Timestamp(wall), steady: self.now }
    }

    fn work(&mut self, work: Work) {
        let mut outcomes = Vec::new();
        for write in work.writes {
            let outcome = if self.random.percent() < self.failures {
                Outcome::Failed { not_before: Duration::ZERO }
            } else {
                self.write(&write)
            };
            let failed = outcome.is_failed();
            outcomes.push((write, outcome));
            if failed && !work.key.is_collective() {
                break;
            }
        }
        let now = self.time();
        self.controller.done(work.key, outcomes, now);
    }

    fn write(&mut self, write: &Write) -> Outcome {
        let written = match write {
            Write::CreatePod { .. } | Write::CreateReplicaSet(_) | Write::CreateSlice(_) => {
                self.create(write)
            }
            Write::DeletePod(pod, uid) => self.remove(&id(Kind::Pod, pod), Some(uid)),
            Write::DeleteReplicaSet(set, uid) => {
                let id = (Kind::ReplicaSet, set.namespace.clone(), set.name.clone());
                self.remove(&id, Some(uid))
            }
            Write::DeleteSlice(slice, uid) => {
                let id = (Kind::EndpointSlice, slice.namespace.clone(), slice.name.clone());
                self.remove(&id, Some(uid))
            }
            Write::DeleteEndpoints(name) => {
                let id = (Kind::Endpoints, name.namespace.clone(), name.name.clone());
                self.remove(&id, None)
            }
            Write::Delete { resource, meta, .. } => kind_of(resource).and_then(|kind| {
                let id = (kind, meta.namespace.clone(), meta.name.clone());
                self.remove(&id, Some(&meta.uid))
            }),
            Write::Event(_) => return Outcome::Written(nothing()),
            _ => self.update(write),
        };
        match written {
            Some(written) => {
                self.writes.push(write.clone());
                Outcome::Written(written)
            }
            None => Outcome::Failed { not_before: Duration::ZERO },
        }
    }

    fn create(&mut self, write: &Write) -> Option<Written> {
        let object = match write {
            Write::CreatePod { namespace, generate_name, owner, template } => {
                let name = format!("{generate_name}{:05}", self.serial);
                let mut meta = Meta::new(namespace.clone(), name);
                meta.labels = template.labels.clone();
                meta.owners = vec![owner.clone()];
                Object::Pod(Arc::new(pending_pod(meta)))
            }
            Write::CreateReplicaSet(set) => Object::ReplicaSet(Arc::new((**set).clone())),
            Write::CreateSlice(slice) => {
                let mut slice = (**slice).clone();
                if slice.meta.name.is_empty() {
                    slice.meta.name = format!("slice-{:05}", self.serial).into();
                }
                Object::EndpointSlice(Arc::new(slice))
            }
            _ => return None,
        };
        let exists = self.objects.contains_key(&id_of(&object));
        (!exists).then(|| self.put(object))
    }

    fn update(&mut self, write: &Write) -> Option<Written> {
        let object = match write {
            Write::BindPod(name, uid, node) => self.pod(name, uid, |pod| {
                pod.node = Some(node.clone());
            })?,
            Write::PodUnschedulable(name, uid, message) => self.pod(name, uid, |pod| {
                pod.unschedulable = Some(message.clone());
            })?,
            Write::PodNotReady(name, uid) => self.pod(name, uid, |pod| pod.ready = false)?,
            Write::UpdateSlice(slice) => {
                let old = self
                    .objects
                    .get(&id_of(&Object::EndpointSlice(Arc::new((**slice).clone()))))?;
                if old.meta().resource_version != slice.meta.resource_version {
                    return None;
                }
                Object::EndpointSlice(Arc::new((**slice).clone()))
            }
            Write::PutEndpoints(endpoints) => Object::Endpoints(Arc::new((**endpoints).clone())),
            Write::ScaleReplicaSet { name, replicas, annotations, .. } => {
                let id = (Kind::ReplicaSet, name.namespace.clone(), name.name.clone());
                let Some(Object::ReplicaSet(set)) = self.objects.get(&id) else { return None };
                let mut set = (**set).clone();
                set.meta.generation += i64::from(set.replicas != *replicas);
                set.replicas = *replicas;
                set.meta.annotations.extend(annotations.iter().cloned());
                Object::ReplicaSet(Arc::new(set))
            }
            Write::ReplicaSetStatus(name, status) => {
                let id = (Kind::ReplicaSet, name.namespace.clone(), name.name.clone());
                let Some(Object::ReplicaSet(set)) = self.objects.get(&id) else { return None };
                let mut set = (**set).clone();
                set.status = status.clone();
                Object::ReplicaSet(Arc::new(set))
            }
            Write::DeploymentStatus { name, status, revision } => {
                let id = (Kind::Deployment, name.namespace.clone(), name.name.clone());
                let Some(Object::Deployment(deployment)) = self.objects.get(&id) else {
                    return None;
                };
                let mut deployment = (**deployment).clone();
                deployment.status = status.clone();
                let revision = revision.to_string();
                let key = "deployment.kubernetes.io/revision".to_owned();
                deployment.meta.annotations.insert(key, revision);
                Object::Deployment(Arc::new(deployment))
            }
            _ => return self.update_metadata(write),
        };
        Some(self.put(object))
    }

    fn update_metadata(&mut self, write: &Write) -> Option<Written> {
        let (target, _) = super::key::target(write)?;
        let id = (target.kind?, target.namespace, target.name);
        let mut object = self.objects.get(&id)?.clone();
        match (write, &mut object) {
            (Write::ServiceIngress { ingress, .. }, Object::Service(service)) => {
                match &mut Arc::make_mut(service).kind {
                    ServiceType::LoadBalancer(balancer) => balancer.ingress = ingress.clone(),
                    _ => assert!(ingress.is_empty(), "only a load balancer has an ingress"),
                }
            }
            (Write::ServiceFinalizer { finalizer, present, .. }, object) => {
                let meta = meta_mut(object);
                if *present {
                    meta.finalizers.insert(finalizer.clone());
                } else {
                    meta.finalizers.remove(finalizer);
                }
            }
            (Write::RemoveFinalizer { finalizer, .. }, object) => {
                meta_mut(object).finalizers.remove(finalizer);
            }
            (Write::AddOwner { owner, .. }, object) => meta_mut(object).owners.push(owner.clone()),
            (Write::RemoveOwner { owner, .. }, object) => {
                meta_mut(object).owners.retain(|one| one.uid != *owner);
            }
            (Write::FinalizeNamespace(_), object) => {
                meta_mut(object).finalizers.remove("kubernetes");
            }
            _ => panic!("the simulation does not know {write:?}"),
        }
        let meta = object.meta();
        if meta.deleting.is_some() && meta.finalizers.is_empty() {
            self.objects.remove(&id);
            self.late.push_back(Change::Delete(id.0, id.1, id.2));
            return Some(nothing());
        }
        Some(self.put(object))
    }

    fn pod(
        &self,
        name: &model::PodName,
        uid: &Uid,
        change: impl FnOnce(&mut Pod),
    ) -> Option<Object> {
        let Some(Object::Pod(pod)) = self.objects.get(&id(Kind::Pod, name)) else { return None };
        let mut pod = (**pod).clone();
        if pod.meta.uid != *uid {
            return None;
        }
        change(&mut pod);
        Some(Object::Pod(Arc::new(pod)))
    }

    /// Stores an object and tells the watches.
    fn put(&mut self, mut object: Object) -> Written {
        self.serial += 1;
        let created = self.time().wall;
        let uid: Uid = match self.objects.get(&id_of(&object)) {
            Some(old) => old.meta().uid.clone(),
            None => format!("uid-{}", self.serial).into(),
        };
        let meta = meta_mut(&mut object);
        meta.uid = uid.clone();
        meta.resource_version = self.serial.to_string().into();
        if meta.created == Timestamp::default() {
            meta.created = created;
        }
        let written = Written {
            name: meta.name.clone(),
            uid,
            resource_version: meta.resource_version.clone(),
        };
        self.objects.insert(id_of(&object), object.clone());
        self.late.push_back(Change::Apply(object));
        written
    }

    /// Deletes an object, or marks it as being deleted while it has finalizers.
    fn remove(&mut self, id: &Id, uid: Option<&Uid>) -> Option<Written> {
        let mut object = self.objects.get(id)?.clone();
        if uid.is_some_and(|uid| object.meta().uid != *uid) {
            return None;
        }
        if object.meta().finalizers.is_empty() {
            self.objects.remove(id);
            self.late.push_back(Change::Delete(id.0, id.1.clone(), id.2.clone()));
            let uid = object.meta().uid.clone();
            return Some(Written { name: id.2.clone(), uid, resource_version: "".into() });
        }
        let now = self.time().wall;
        meta_mut(&mut object).deleting.get_or_insert(now);
        Some(self.put(object))
    }

    /// Starts every pod that is bound to a node.
    fn kubelets(&mut self) -> bool {
        let now = self.time().wall;
        let start: Vec<Pod> = self
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Pod(pod) if pod.node.is_some() && pod.ips.is_empty() => {
                    Some((**pod).clone())
                }
                _ => None,
            })
            .collect();
        for mut pod in start.clone() {
            let low = u32::try_from(self.serial).expect("is small");
            pod.ips = vec![IpAddr::V4(Ipv4Addr::from(0x0af4_0000 + low))];
            pod.phase = PodPhase::Running;
            pod.ready = true;
            pod.ready_since = now;
            self.put(Object::Pod(Arc::new(pod)));
        }
        !start.is_empty()
    }
}

/// Nodes that are ready, with room for pods.
pub(crate) fn ready_node(name: &str) -> Object {
    let name: NodeName = name.into();
    Object::Node(Arc::new(model::Node {
        meta: Meta::new("", name),
        internal_ips: vec![IpAddr::V4(Ipv4Addr::new(172, 30, 0, 11))],
        pod_cidrs: Vec::new(),
        unschedulable: false,
        taints: Vec::new(),
        ready: model::NodeCondition::Ready,
        allocatable: Default::default(),
    }))
}

fn pending_pod(meta: Meta) -> Pod {
    Pod {
        meta,
        node: None,
        placement: Default::default(),
        tolerations: Vec::new(),
        host_network: false,
        hostname: None,
        subdomain: None,
        ports: Vec::new(),
        ips: Vec::new(),
        phase: PodPhase::Pending,
        ready: false,
        ready_since: Timestamp::default(),
        unschedulable: None,
    }
}

fn nothing() -> Written {
    Written { name: "".into(), uid: "".into(), resource_version: "".into() }
}

fn id(kind: Kind, name: &model::PodName) -> Id {
    (kind, name.namespace.clone(), name.name.clone())
}

fn id_of(object: &Object) -> Id {
    (object.kind(), object.meta().namespace.clone(), object.meta().name.clone())
}

fn meta_mut(object: &mut Object) -> &mut Meta {
    match object {
        Object::Service(object) => &mut Arc::make_mut(object).meta,
        Object::EndpointSlice(object) => &mut Arc::make_mut(object).meta,
        Object::Endpoints(object) => &mut Arc::make_mut(object).meta,
        Object::Node(object) => &mut Arc::make_mut(object).meta,
        Object::ServiceCidr(object) => &mut Arc::make_mut(object).meta,
        Object::Namespace(object) => &mut Arc::make_mut(object).meta,
        Object::Pod(object) => &mut Arc::make_mut(object).meta,
        Object::Deployment(object) => &mut Arc::make_mut(object).meta,
        Object::ReplicaSet(object) => &mut Arc::make_mut(object).meta,
    }
}
