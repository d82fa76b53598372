//! The arithmetic of rollouts: how far a Deployment's ReplicaSets may be scaled.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::{Deployment, IntOrPercent, ReplicaSet, ReplicaSetName, RolloutStrategy};

/// Annotation of a ReplicaSet: its place in the history.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation of a ReplicaSet: `spec.replicas` of the Deployment when it was last scaled.
pub(crate) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation of a ReplicaSet: the same with the surge.
pub(crate) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// How many pods more or fewer than wanted there may be during a rolling update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// How many more than wanted.
    pub(crate) surge: u32,
    /// How many of the wanted ones may be missing.
    pub(crate) unavailable: u32,
}

/// Resolves the percentages; a Recreate rollout has neither surge nor tolerance.
///
/// When both come out as 0 nothing could ever move, so one may be missing.
pub(crate) fn bounds(deployment: &Deployment) -> Bounds {
    let RolloutStrategy::RollingUpdate { max_unavailable, max_surge } = &deployment.strategy else {
        return Bounds { surge: 0, unavailable: 0 };
    };
    let surge = resolve(*max_surge, deployment.replicas, u64::div_ceil);
    let unavailable = resolve(*max_unavailable, deployment.replicas, |value, by| value / by);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Bounds { surge, unavailable: unavailable.min(deployment.replicas) }
}

fn resolve(value: IntOrPercent, of: u32, divide: impl FnOnce(u64, u64) -> u64) -> u32 {
    match value {
        IntOrPercent::Count(count) => count,
        IntOrPercent::Percent(percent) => {
            u32::try_from(divide(u64::from(percent) * u64::from(of), 100)).unwrap_or(u32::MAX)
        }
    }
}

/// Sum of `spec.replicas`.
pub(crate) fn wanted<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> u32 {
    sets.into_iter().map(|set| set.replicas).fold(0, u32::saturating_add)
}

/// Sum of `status.availableReplicas`.
pub(crate) fn available<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> u32 {
    sets.into_iter().map(|set| set.status.available).fold(0, u32::saturating_add)
}

/// New sizes of ReplicaSets; those not named keep theirs.
pub(crate) type Sizes = BTreeMap<ReplicaSetName, u32>;

/// The size of the newest ReplicaSet: as large as the surge allows, never larger than wanted.
/// `current` is its size now, `total` that of all of them.
pub(crate) fn new_size(deployment: &Deployment, current: u32, total: u32) -> u32 {
    let wanted = deployment.replicas;
    if current >= wanted || deployment.strategy == RolloutStrategy::Recreate {
        return wanted;
    }
    let room = wanted.saturating_add(bounds(deployment).surge).saturating_sub(total);
    current + room.min(wanted - current)
}

/// How far the old ReplicaSets, oldest first, may shrink without too few pods being available:
/// first by pods that are of no use anyway, then by available ones.
pub(crate) fn shrink(deployment: &Deployment, new: &ReplicaSet, old: &[&ReplicaSet]) -> Sizes {
    let least = deployment.replicas - bounds(deployment).unavailable;
    let total = wanted(old.iter().copied()).saturating_add(new.replicas);
    let starting = new.replicas.saturating_sub(staying(new));
    let mut room = total.saturating_sub(least).saturating_sub(starting);
    let mut sizes: Sizes = old.iter().map(|set| (set.name(), set.replicas)).collect();
    if room == 0 {
        return Sizes::new();
    }
    for set in old {
        let broken = if is_observed(set) { set.replicas - staying(set) } else { 0 }.min(room);
        sizes.insert(set.name(), set.replicas - broken);
        room -= broken;
    }
    let all_available = old.iter().fold(staying(new), |sum, set| sum.saturating_add(staying(set)));
    let mut spare = all_available.saturating_sub(least);
    for set in old {
        let size = sizes.get(&set.name()).copied().unwrap_or(set.replicas);
        let less = size.min(spare);
        sizes.insert(set.name(), size - less);
        spare -= less;
    }
    sizes.retain(|name, size| old.iter().any(|set| set.name() == *name && set.replicas != *size));
    sizes
}

/// Pods that are available and will stay so. A ReplicaSet that has just been resized may still count
/// pods that it is about to delete, or has deleted: nothing is known until it has observed its size.
fn staying(set: &ReplicaSet) -> u32 {
    if is_observed(set) { set.status.available.min(set.replicas) } else { 0 }
}

/// Whether the status was written for the present size.
fn is_observed(set: &ReplicaSet) -> bool {
    set.status.observed_generation >= set.meta.generation
}

/// Whether the Deployment was scaled since its active ReplicaSets were.
pub(crate) fn is_scaling(deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    let active = sets.iter().filter(|set| set.replicas > 0);
    active
        .filter_map(|set| annotation(set, DESIRED_REPLICAS))
        .any(|desired| desired != deployment.replicas)
}

/// Sizes after a change of `spec.replicas`, in the middle of a rollout or not.
///
/// One ReplicaSet takes everything; during a rolling update all share by their size, so that a bad
/// new version does not get all the new pods.
pub(crate) fn scale(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
) -> Sizes {
    let all: Vec<&ReplicaSet> = old.iter().copied().chain(new).collect();
    let active: Vec<&ReplicaSet> = all.iter().copied().filter(|set| set.replicas > 0).collect();
    match active[..] {
        [] => {
            let latest = new.or_else(|| all.iter().copied().max_by_key(|set| age(set)));
            return latest.map(|set| (set.name(), deployment.replicas)).into_iter().collect();
        }
        [only] => return Sizes::from([(only.name(), deployment.replicas)]),
        _ => {}
    }
    if new.is_some_and(|new| is_saturated(deployment, new)) {
        return old.iter().filter(|set| set.replicas > 0).map(|set| (set.name(), 0)).collect();
    }
    if deployment.strategy == RolloutStrategy::Recreate {
        return Sizes::new();
    }
    proportional(deployment, active)
}

/// Whether the newest ReplicaSet is as large as wanted, and available.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    new.replicas == deployment.replicas
        && annotation(new, DESIRED_REPLICAS) == Some(deployment.replicas)
        && new.status.available == deployment.replicas
}

/// Shares the difference by size; the largest takes what rounding leaves over. Among equals growth
/// goes to the newer one first, shrinking to the older one.
fn proportional(deployment: &Deployment, mut active: Vec<&ReplicaSet>) -> Sizes {
    let allowed = match deployment.replicas {
        0 => 0,
        replicas => replicas.saturating_add(bounds(deployment).surge),
    };
    let to_add = i64::from(allowed) - i64::from(wanted(active.iter().copied()));
    if to_add >= 0 {
        active.sort_by_key(|set| (Reverse(set.replicas), Reverse(age(set))));
    } else {
        active.sort_by_key(|set| (Reverse(set.replicas), age(set)));
    }
    let mut left = to_add;
    let mut sizes: Vec<i64> = Vec::new();
    for set in &active {
        let share = share(deployment, set);
        let share = if left >= 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        sizes.push(i64::from(set.replicas) + share);
        left -= share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    let named = active.iter().zip(sizes);
    named.map(|(set, size)| (set.name(), u32::try_from(size).unwrap_or(u32::MAX))).collect()
}

/// By how much a ReplicaSet would change if it kept its part of the whole.
fn share(deployment: &Deployment, set: &ReplicaSet) -> i64 {
    let size = i64::from(set.replicas);
    if deployment.replicas == 0 {
        return -size;
    }
    let after = i64::from(deployment.replicas.saturating_add(bounds(deployment).surge));
    let before = annotation(set, MAX_REPLICAS).unwrap_or(deployment.status.replicas).max(1);
    let before = i64::from(before);
    (2 * size * after + before) / (2 * before) - size
}

fn annotation(set: &ReplicaSet, key: &str) -> Option<u32> {
    set.meta.annotations.get(key)?.parse().ok()
}

/// Orders ReplicaSets from old to new.
pub(crate) fn age(set: &ReplicaSet) -> (model::Timestamp, model::Name) {
    (set.meta.created, set.meta.name.clone())
}
