//! Rollouts: ReplicaSets of Deployments.
//!
//! A Deployment never touches pods. It makes one ReplicaSet per pod template, named after the
//! template's hash, and moves replicas from the old ones to the new one within the bounds of its
//! strategy. Every call takes one step; the next is due when the ReplicaSets' status changes.

use model::{
    Cluster, Deployment, DeploymentName, LabelSelector, Meta, Owner, PodTemplate, ReplicaSet,
    ReplicaSetStatus, RolloutStrategy, Timestamp, Write,
};

use crate::Reconciled;
use crate::deployment_status::{self, Step};
use crate::events::{Reporter, replica_sets};
use crate::rollout::{
    self, DESIRED_REPLICAS, MAX_REPLICAS, REVISION, Sizes, age, bounds, new_size, wanted,
};
use crate::template::{HASH_LABEL, hash, is_same, with_hash};

const REPORTER: Reporter =
    Reporter { api_version: "apps/v1", kind: "Deployment", component: "deployment-controller" };
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    "deployment.kubernetes.io/revision-history",
    REVISION,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// Takes the next step of a Deployment's rollout and writes its status.
pub fn deployment(cluster: &Cluster, name: &DeploymentName, now: Timestamp) -> Reconciled {
    let Some(deployment) = cluster.deployments.get(name) else { return Reconciled::default() };
    let mut rollout = Rollout::new(cluster, deployment);
    let mut step = Step::default();
    if deployment.meta.deleting.is_none() {
        rollout.adopt();
        step = rollout.step();
    }
    let mut result = Reconciled { writes: rollout.writes, ..Reconciled::default() };
    let sets = deployment_status::Sets { new: rollout.new, old: &rollout.old };
    deployment_status::write(deployment, sets, &step, now, &mut result);
    result
}

/// One Deployment with its ReplicaSets.
struct Rollout<'a> {
    cluster: &'a Cluster,
    deployment: &'a Deployment,
    /// The ReplicaSet with the present template.
    new: Option<&'a ReplicaSet>,
    /// All others, oldest first.
    old: Vec<&'a ReplicaSet>,
    writes: Vec<Write>,
}

impl<'a> Rollout<'a> {
    fn new(cluster: &'a Cluster, deployment: &'a Deployment) -> Self {
        let mut old: Vec<&ReplicaSet> = cluster
            .replica_sets
            .values()
            .map(|set| &**set)
            .filter(|set| owns(deployment, set))
            .collect();
        old.sort_by_key(|set| age(set));
        let new = old.iter().position(|set| is_same(&set.template, &deployment.template));
        let new = new.map(|index| old.remove(index));
        Self { cluster, deployment, new, old, writes: Vec::new() }
    }

    /// Takes ReplicaSets over that match the selector and have no controller.
    fn adopt(&mut self) {
        let deployment = self.deployment;
        let is_orphan = |set: &&ReplicaSet| {
            set.meta.namespace == deployment.meta.namespace
                && set.meta.controller().is_none()
                && set.meta.deleting.is_none()
                && deployment.selector.matches(&set.meta.labels)
        };
        let sets = self.cluster.replica_sets.values().map(|set| &**set);
        self.writes.extend(sets.filter(is_orphan).map(|set| Write::AddOwner {
            resource: replica_sets(),
            meta: Box::new(set.meta.clone()),
            owner: owner(deployment),
        }));
    }

    fn step(&mut self) -> Step {
        let all: Vec<&ReplicaSet> = self.old.iter().copied().chain(self.new).collect();
        if self.deployment.paused || rollout::is_scaling(self.deployment, &all) {
            let sizes = rollout::scale(self.deployment, self.new, &self.old);
            self.resize(&sizes);
            if self.deployment.paused {
                self.clean_up();
            }
            return Step { revision: self.present_revision(), ..Step::default() };
        }
        let step = match self.deployment.strategy {
            RolloutStrategy::Recreate => self.recreate(),
            RolloutStrategy::RollingUpdate { .. } => self.roll(),
        };
        if deployment_status::is_complete(self.deployment, self.new, &self.old) {
            self.clean_up();
        }
        step
    }

    /// Recreate: the old pods go, all of them, and only then do new ones come.
    fn recreate(&mut self) -> Step {
        let sizes: Sizes =
            self.old.iter().filter(|set| set.replicas > 0).map(|set| (set.name(), 0)).collect();
        let waits = !sizes.is_empty() || self.old_pods_run();
        self.resize(&sizes);
        if waits {
            return Step { revision: self.present_revision(), ..Step::default() };
        }
        self.grow()
    }

    fn old_pods_run(&self) -> bool {
        let is_old = |uid| self.old.iter().any(|set| set.meta.uid == uid);
        crate::selected::in_namespace(self.cluster, &self.deployment.meta.namespace).any(|pod| {
            let owner = pod.meta.controller().map(|owner| owner.uid.clone());
            !pod.phase.is_finished() && owner.is_some_and(is_old)
        })
    }

    /// RollingUpdate: grow as far as the surge allows, else shrink as far as availability allows.
    fn roll(&mut self) -> Step {
        let before = self.writes.len();
        let step = self.grow();
        let has_grown = self.writes.len() > before;
        if let Some(new) = self.new
            && !has_grown
        {
            let sizes = rollout::shrink(self.deployment, new, &self.old);
            self.resize(&sizes);
        }
        step
    }

    /// Creates the new ReplicaSet, or brings its size and annotations up to date.
    fn grow(&mut self) -> Step {
        let all = self.old.iter().copied().chain(self.new);
        let size = new_size(self.deployment, self.new.map_or(0, |new| new.replicas), wanted(all));
        let revision = self.present_revision();
        let Some(new) = self.new else {
            let set = self.create(size, revision);
            let name = set.meta.name.clone();
            if size > 0 {
                self.scaled(&name, 0, size);
            }
            let at = self.writes.len() - usize::from(size > 0);
            self.writes.insert(at, Write::CreateReplicaSet(Box::new(set)));
            return Step { revision, created: Some(name) };
        };
        self.resize_one(new, size, Some(revision));
        Step { revision, created: None }
    }

    /// One more than that of any old ReplicaSet.
    fn present_revision(&self) -> u64 {
        let newest = self.old.iter().map(|set| revision(&set.meta)).max().unwrap_or(0);
        match self.new {
            None if self.deployment.paused => revision(&self.deployment.meta),
            None => newest + 1,
            Some(new) => revision(&new.meta).max(newest + 1),
        }
    }

    /// The ReplicaSet of the present template, with the first name that is free.
    fn create(&self, replicas: u32, revision: u64) -> ReplicaSet {
        let deployment = self.deployment;
        let named = |collision| {
            let hash = hash(&deployment.template, collision);
            (format!("{}-{hash}", deployment.meta.name), hash)
        };
        let is_free = |(name, _): &(String, String)| {
            let namespace = deployment.meta.namespace.clone();
            let key = model::ReplicaSetName::new(namespace, name.as_str());
            !self.cluster.replica_sets.contains_key(&key)
        };
        let (name, hash) = (0..u32::MAX).map(named).find(is_free).unwrap_or_else(|| named(0));
        let mut meta = Meta::new(deployment.meta.namespace.clone(), name);
        let template: PodTemplate = with_hash(&deployment.template, &hash);
        meta.labels = template.labels.clone();
        meta.annotations.extend(inherited(deployment));
        meta.annotations.extend(self.size_annotations());
        meta.annotations.insert(REVISION.to_owned(), revision.to_string());
        meta.owners.push(owner(deployment));
        let mut selector: LabelSelector = deployment.selector.clone();
        selector.labels.insert(HASH_LABEL.to_owned(), hash);
        ReplicaSet {
            meta,
            replicas,
            selector,
            template,
            min_ready_seconds: deployment.min_ready_seconds,
            status: ReplicaSetStatus::default(),
        }
    }

    fn resize(&mut self, sizes: &Sizes) {
        let sets: Vec<&ReplicaSet> = self.new.into_iter().chain(self.old.iter().copied()).collect();
        for set in sets {
            if let Some(&size) = sizes.get(&set.name()) {
                self.resize_one(set, size, None);
            }
        }
    }

    /// Writes a ReplicaSet's size and annotations where they differ; the new one also inherits the
    /// Deployment's annotations and has the revision.
    fn resize_one(&mut self, set: &ReplicaSet, size: u32, revision: Option<u64>) {
        let mut annotations: Vec<(String, String)> = Vec::new();
        if set.replicas > 0 || size > 0 || revision.is_some() {
            annotations.extend(self.size_annotations());
        }
        if let Some(revision) = revision {
            annotations.extend(inherited(self.deployment));
            annotations.push((REVISION.to_owned(), revision.to_string()));
        }
        annotations.retain(|(key, value)| set.meta.annotations.get(key) != Some(value));
        let min_ready_seconds = match revision {
            Some(_) => self.deployment.min_ready_seconds,
            None => set.min_ready_seconds,
        };
        let is_ready_the_same = set.min_ready_seconds == min_ready_seconds;
        if set.replicas == size && annotations.is_empty() && is_ready_the_same {
            return;
        }
        self.writes.push(Write::ScaleReplicaSet {
            name: set.name(),
            uid: set.meta.uid.clone(),
            replicas: size,
            min_ready_seconds,
            annotations,
        });
        if set.replicas != size {
            self.scaled(&set.meta.name, set.replicas, size);
        }
    }

    fn size_annotations(&self) -> [(String, String); 2] {
        let replicas = self.deployment.replicas;
        let most = replicas.saturating_add(bounds(self.deployment).surge);
        [
            (DESIRED_REPLICAS.to_owned(), replicas.to_string()),
            (MAX_REPLICAS.to_owned(), most.to_string()),
        ]
    }

    fn scaled(&mut self, set: &str, from: u32, to: u32) {
        let direction = if to > from { "up" } else { "down" };
        let text = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.writes.push(REPORTER.normal(&self.deployment.meta, "ScalingReplicaSet", text));
    }

    /// Deletes empty ReplicaSets beyond the history limit, lowest revision first.
    fn clean_up(&mut self) {
        let mut old: Vec<&ReplicaSet> =
            self.old.iter().copied().filter(|set| set.meta.deleting.is_none()).collect();
        old.sort_by_key(|set| (revision(&set.meta), age(set)));
        let limit = usize::try_from(self.deployment.revision_history_limit).unwrap_or(usize::MAX);
        let excess = old.len().saturating_sub(limit);
        let is_empty = |set: &&ReplicaSet| {
            set.replicas == 0
                && set.status.replicas == 0
                && set.status.observed_generation >= set.meta.generation
        };
        let gone = old.into_iter().take(excess).filter(is_empty);
        self.writes
            .extend(gone.map(|set| Write::DeleteReplicaSet(set.name(), set.meta.uid.clone())));
    }
}

fn owns(deployment: &Deployment, set: &ReplicaSet) -> bool {
    set.meta.namespace == deployment.meta.namespace
        && set.meta.controller().is_some_and(|owner| owner.uid == deployment.meta.uid)
}

fn owner(deployment: &Deployment) -> Owner {
    Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: deployment.meta.name.clone(),
        uid: deployment.meta.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    }
}

fn inherited(deployment: &Deployment) -> impl Iterator<Item = (String, String)> {
    let annotations = deployment.meta.annotations.iter();
    let inherited = annotations.filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()));
    inherited.map(|(key, value)| (key.clone(), value.clone()))
}

/// The annotation `deployment.kubernetes.io/revision`; 0 without one.
pub(crate) fn revision(meta: &Meta) -> u64 {
    meta.annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}
