//! Own writes that the watches do not show yet.
//!
//! A controller that plans from a cache that is older than its own writes does things
//! twice. So every write is remembered until the cache shows it, and the key that made
//! it is not planned again before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::Written;
use model::{Change, Cluster, Kind, Meta, Name, Write};
use plan::Expectations;

use super::key::{Effect, Key, Target, target};

/// A write that the watches do not show after this time will never be seen: the object was
/// created and deleted while a watch was down.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every write that is waited for.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Key, Vec<Awaited>>,
    /// Which keys wait for an object.
    waiting: BTreeMap<Target, BTreeSet<Key>>,
}

#[derive(Debug)]
struct Awaited {
    target: Target,
    effect: Effect,
    written: Written,
    since: Duration,
}

impl Pending {
    /// Remembers a write that the server has carried out, unless the cluster shows it already.
    pub(crate) fn add(
        &mut self,
        key: &Key,
        write: &Write,
        written: Written,
        cluster: &Cluster,
        now: Duration,
    ) {
        let Some((mut target, effect)) = target(write) else { return };
        let Some(kind) = target.kind else { return };
        if target.name.is_empty() {
            target.name = written.name.clone();
        }
        let awaited = Awaited { target: target.clone(), effect, written, since: now };
        let current = meta(cluster, kind, &target.namespace, &target.name);
        // What was there before and is not any more has been deleted by somebody since.
        let shown = match current {
            Some(meta) => awaited.is_shown_by(meta),
            None => effect != Effect::Create,
        };
        if !shown {
            self.waiting.entry(target).or_default().insert(key.clone());
            self.writes.entry(key.clone()).or_default().push(awaited);
        }
    }

    /// Takes note of a change. Returns the keys that wait for nothing more.
    pub(crate) fn observe(&mut self, change: &Change) -> Vec<Key> {
        match change {
            Change::Apply(object) => {
                let meta = object.meta();
                let target = Target {
                    kind: Some(object.kind()),
                    namespace: meta.namespace.clone(),
                    name: meta.name.clone(),
                };
                self.settle(&target, |awaited| awaited.is_shown_by(meta))
            }
            Change::Delete(kind, namespace, name) => {
                let target =
                    Target { kind: Some(*kind), namespace: namespace.clone(), name: name.clone() };
                self.settle(&target, |_| true)
            }
            Change::Complete(kind, present) => self.complete(*kind, present),
        }
    }

    /// Whether the key has to wait. A ReplicaSet does not wait for its pods: its plan knows.
    pub(crate) fn blocks(&self, key: &Key) -> bool {
        let by_count = matches!(key, Key::ReplicaSet(_));
        self.writes.get(key).is_some_and(|writes| {
            writes.iter().any(|awaited| !(by_count && awaited.target.kind == Some(Kind::Pod)))
        })
    }

    /// Pods that the key created or deleted and that are not seen yet.
    pub(crate) fn expectations(&self, key: &Key) -> Expectations {
        let mut expectations = Expectations::default();
        for awaited in self.writes.get(key).into_iter().flatten() {
            match (awaited.target.kind, awaited.effect) {
                (Some(Kind::Pod), Effect::Create) => expectations.creations += 1,
                (Some(Kind::Pod), Effect::Delete) => expectations.deletions += 1,
                _ => {}
            }
        }
        expectations
    }

    /// When the key will have waited long enough; `None` when it waits for nothing.
    pub(crate) fn due(&self, key: &Key) -> Option<Duration> {
        self.writes.get(key)?.iter().map(|awaited| awaited.since + PATIENCE).min()
    }

    /// Forgets what the key has waited for longer than [`PATIENCE`]; true if there was any.
    pub(crate) fn give_up(&mut self, key: &Key, now: Duration) -> bool {
        let Some(writes) = self.writes.get(key) else { return false };
        let lost: Vec<Target> = writes
            .iter()
            .filter(|awaited| now.saturating_sub(awaited.since) >= PATIENCE)
            .map(|awaited| awaited.target.clone())
            .collect();
        for target in &lost {
            self.forget(key, target, |awaited| now.saturating_sub(awaited.since) >= PATIENCE);
        }
        !lost.is_empty()
    }

    /// After a new list: what it does not contain will not be seen any more.
    fn complete(&mut self, kind: Kind, present: &BTreeSet<(Name, Name)>) -> Vec<Key> {
        let gone: Vec<Target> = self
            .waiting
            .keys()
            .filter(|target| {
                let name = (target.namespace.clone(), target.name.clone());
                target.kind == Some(kind) && !present.contains(&name)
            })
            .cloned()
            .collect();
        // A creation may be younger than the list: it is given up only after `PATIENCE`.
        gone.iter()
            .flat_map(|target| self.settle(target, |awaited| awaited.effect != Effect::Create))
            .collect()
    }

    fn settle(&mut self, target: &Target, shown: impl Fn(&Awaited) -> bool) -> Vec<Key> {
        let keys = self.waiting.get(target).cloned().unwrap_or_default();
        let mut settled = Vec::new();
        for key in keys {
            self.forget(&key, target, &shown);
            if !self.blocks(&key) {
                settled.push(key);
            }
        }
        settled
    }

    fn forget(&mut self, key: &Key, target: &Target, shown: impl Fn(&Awaited) -> bool) {
        let Some(writes) = self.writes.get_mut(key) else { return };
        writes.retain(|awaited| awaited.target != *target || !shown(awaited));
        let still_waits = writes.iter().any(|awaited| awaited.target == *target);
        if writes.is_empty() {
            self.writes.remove(key);
        }
        if !still_waits && let Some(keys) = self.waiting.get_mut(target) {
            keys.remove(key);
            if keys.is_empty() {
                self.waiting.remove(target);
            }
        }
    }
}

impl Awaited {
    fn is_shown_by(&self, meta: &Meta) -> bool {
        if !self.written.uid.is_empty() && meta.uid != self.written.uid {
            // Another object of the same name: ours is gone, or not there yet.
            return self.effect != Effect::Create;
        }
        match self.effect {
            Effect::Delete => meta.deleting.is_some(),
            Effect::Create | Effect::Update => {
                is_at_least(&meta.resource_version, &self.written.resource_version)
            }
        }
    }
}

/// Whether a resourceVersion is as new as another one of the same resource (they are comparable
/// numbers, KEP-5504).
fn is_at_least(seen: &Name, written: &Name) -> bool {
    match (seen.parse::<u64>(), written.parse::<u64>()) {
        (Ok(seen), Ok(written)) => seen >= written,
        _ => written.is_empty() || seen == written,
    }
}

/// Metadata of an object of the cluster.
fn meta<'a>(cluster: &'a Cluster, kind: Kind, namespace: &Name, name: &Name) -> Option<&'a Meta> {
    macro_rules! get {
        ($map:ident, $key:ident) => {
            cluster
                .$map
                .get(&model::$key { namespace: namespace.clone(), name: name.clone() })
                .map(|object| &object.meta)
        };
    }
    match kind {
        Kind::Service => get!(services, ServiceName),
        Kind::EndpointSlice => get!(slices, SliceName),
        Kind::Endpoints => get!(endpoints, EndpointsName),
        Kind::Pod => get!(pods, PodName),
        Kind::Deployment => get!(deployments, DeploymentName),
        Kind::ReplicaSet => get!(replica_sets, ReplicaSetName),
        Kind::Node => cluster.nodes.get(name).map(|object| &object.meta),
        Kind::Namespace => cluster.namespaces.get(name).map(|object| &object.meta),
        Kind::ServiceCidr => cluster.service_cidrs.get(name).map(|object| &object.meta),
    }
}
