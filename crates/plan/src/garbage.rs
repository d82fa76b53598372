//! Objects whose owners are gone.
//!
//! Owners are told apart by uid: an owner of the same name and another uid is another object. Two
//! finalizers of the owner change the order of things: with `foregroundDeletion` it stays until its
//! dependents are gone, with `orphan` it goes and they stay.

use std::collections::{BTreeMap, BTreeSet};

use model::{Meta, Name, Owner, Resource, Uid, Write};

use crate::Reconciled;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The metadata of every object of the cluster, by resource type.
pub type Inventory = BTreeMap<Resource, Vec<Meta>>;

/// Deletes what has owners that are all gone, and carries out foreground and orphaning deletion.
///
/// The inventory must be complete: an owner that is not in it counts as gone. As different resource
/// types are seen at different moments, a [`Write::Delete`] should be confirmed by reading the owners
/// before it is carried out.
pub fn garbage(inventory: &Inventory) -> Reconciled {
    let graph = Graph::new(inventory);
    let mut result = Reconciled::default();
    for (resource, meta) in graph.objects.values() {
        if meta.deleting.is_some() {
            graph.finish(resource, meta, &mut result.writes);
        } else {
            graph.collect(resource, meta, &mut result.writes);
        }
    }
    result
}

/// All objects, and who depends on whom.
struct Graph<'a> {
    objects: BTreeMap<&'a Uid, (&'a Resource, &'a Meta)>,
    dependents: BTreeMap<&'a Uid, BTreeSet<&'a Uid>>,
    /// Kinds that the inventory covers, with their group.
    kinds: BTreeSet<(&'a Name, &'a Name)>,
}

impl<'a> Graph<'a> {
    fn new(inventory: &'a Inventory) -> Self {
        let mut graph = Self {
            objects: BTreeMap::new(),
            dependents: BTreeMap::new(),
            kinds: inventory.keys().map(|resource| (&resource.group, &resource.kind)).collect(),
        };
        for (resource, objects) in inventory {
            for meta in objects {
                // Some objects are served under two groups; one of them is enough.
                graph.objects.entry(&meta.uid).or_insert((resource, meta));
                for owner in &meta.owners {
                    graph.dependents.entry(&owner.uid).or_default().insert(&meta.uid);
                }
            }
        }
        graph
    }

    /// Deletes an object when no owner keeps it.
    fn collect(&self, resource: &Resource, meta: &Meta, writes: &mut Vec<Write>) {
        if meta.owners.is_empty() {
            return;
        }
        let states: Vec<(&Owner, OwnerState)> =
            meta.owners.iter().map(|owner| (owner, self.state(owner, meta))).collect();
        if !states.iter().any(|(_, state)| *state == OwnerState::Keeps) {
            writes.push(Write::Delete {
                resource: resource.clone(),
                meta: Box::new(meta.clone()),
                grace_seconds: None,
            });
            return;
        }
        // Another owner keeps it: the one that waits for it need not wait any longer.
        let waiting = states.iter().filter(|(_, state)| *state == OwnerState::Waits);
        writes.extend(waiting.map(|(owner, _)| Write::RemoveOwner {
            resource: resource.clone(),
            meta: Box::new(meta.clone()),
            owner: owner.uid.clone(),
        }));
    }

    /// Takes the next step of an object's own deletion.
    fn finish(&self, resource: &Resource, meta: &Meta, writes: &mut Vec<Write>) {
        let dependents: Vec<(&Resource, &Meta)> = self
            .dependents
            .get(&meta.uid)
            .into_iter()
            .flatten()
            .filter_map(|uid| self.objects.get(*uid).copied())
            .collect();
        let remove = |finalizer: &str| Write::RemoveFinalizer {
            resource: resource.clone(),
            meta: Box::new(meta.clone()),
            finalizer: finalizer.to_owned(),
        };
        if meta.finalizers.contains(ORPHAN) {
            writes.extend(dependents.iter().map(|(resource, dependent)| Write::RemoveOwner {
                resource: (*resource).clone(),
                meta: Box::new((*dependent).clone()),
                owner: meta.uid.clone(),
            }));
            if dependents.is_empty() {
                writes.push(remove(ORPHAN));
            }
        } else if meta.finalizers.contains(FOREGROUND) {
            let blocks = |owner: &Owner| owner.uid == meta.uid && owner.block_owner_deletion;
            if !dependents.iter().any(|(_, dependent)| dependent.owners.iter().any(blocks)) {
                writes.push(remove(FOREGROUND));
            }
        }
    }

    fn state(&self, owner: &Owner, dependent: &Meta) -> OwnerState {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let is_known =
            self.kinds.iter().any(|(known, kind)| known.as_str() == group && **kind == owner.kind);
        if !is_known {
            return OwnerState::Keeps;
        }
        match self.objects.get(&owner.uid) {
            Some((resource, meta))
                if resource.namespaced && meta.namespace != dependent.namespace =>
            {
                OwnerState::Gone
            }
            Some((_, meta)) if meta.deleting.is_some() && meta.finalizers.contains(FOREGROUND) => {
                OwnerState::Waits
            }
            Some(_) => OwnerState::Keeps,
            None => OwnerState::Gone,
        }
    }
}

/// What an owner means for its dependent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OwnerState {
    /// It lives, or nobody can tell.
    Keeps,
    /// It is being deleted and waits until its dependents are gone.
    Waits,
    /// It is gone, or never was in the dependent's Namespace.
    Gone,
}
