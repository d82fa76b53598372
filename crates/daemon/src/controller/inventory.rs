//! The metadata of every object of the cluster, for garbage collection and for Namespaces.

use std::collections::BTreeSet;

use cluster::MetadataEvent;
use model::{Meta, Name, NamespaceName, Resource};

/// Metadata by resource type, ordered by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    objects: plan::Inventory,
    /// Resource types that exist; `None` before discovery.
    expected: Option<BTreeSet<Resource>>,
    complete: BTreeSet<Resource>,
    terminating: BTreeSet<NamespaceName>,
}

/// What a change of the inventory calls for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Concerns {
    /// Owners, finalizers or existence have changed.
    pub(crate) garbage: bool,
    /// Terminating Namespaces whose content has changed.
    pub(crate) namespaces: BTreeSet<NamespaceName>,
}

impl Inventory {
    /// Names the resource types that exist. What is known of others is forgotten.
    pub(crate) fn expect(&mut self, resources: BTreeSet<Resource>) {
        self.objects.retain(|resource, _| resources.contains(resource));
        self.complete.retain(|resource| resources.contains(resource));
        self.expected = Some(resources);
    }

    /// Whether every resource type has been listed once: before that a missing owner may only be
    /// not known yet.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.is_subset(&self.complete))
    }

    /// Takes one event in.
    pub(crate) fn take(&mut self, resource: &Resource, event: MetadataEvent) -> Concerns {
        let mut concerns = Concerns::default();
        match event {
            MetadataEvent::Apply(meta) => self.apply(resource, *meta, &mut concerns),
            MetadataEvent::Delete(namespace, name) => {
                self.remove(resource, &namespace, &name, &mut concerns);
            }
            MetadataEvent::Complete(present) => {
                self.complete(resource, &present, &mut concerns);
            }
        }
        concerns
    }

    /// All of it.
    pub(crate) fn objects(&self) -> &plan::Inventory {
        &self.objects
    }

    /// Namespaces that are being deleted.
    pub(crate) fn terminating(&self) -> &BTreeSet<NamespaceName> {
        &self.terminating
    }

    fn apply(&mut self, resource: &Resource, meta: Meta, concerns: &mut Concerns) {
        if is_namespace(resource) && meta.deleting.is_some() {
            self.terminating.insert(meta.name.clone());
            concerns.namespaces.insert(meta.name.clone());
        }
        self.concern_namespace(&meta.namespace, concerns);
        let list = self.objects.entry(resource.clone()).or_default();
        match position(list, &meta.namespace, &meta.name) {
            Ok(at) => {
                concerns.garbage |= differs(&list[at], &meta);
                list[at] = meta;
            }
            Err(at) => {
                concerns.garbage |= !meta.owners.is_empty() || meta.deleting.is_some();
                list.insert(at, meta);
            }
        }
    }

    fn remove(
        &mut self,
        resource: &Resource,
        namespace: &Name,
        name: &Name,
        concerns: &mut Concerns,
    ) {
        let Some(list) = self.objects.get_mut(resource) else { return };
        let Ok(at) = position(list, namespace, name) else { return };
        list.remove(at);
        // Events and Leases own nothing, and come and go all the time.
        concerns.garbage |= !matches!(resource.kind.as_str(), "Event" | "Lease");
        self.concern_namespace(namespace, concerns);
        if is_namespace(resource) {
            self.terminating.remove(name);
        }
    }

    fn complete(
        &mut self,
        resource: &Resource,
        present: &BTreeSet<(Name, Name)>,
        concerns: &mut Concerns,
    ) {
        let gone: Vec<(Name, Name)> = self
            .objects
            .get(resource)
            .into_iter()
            .flatten()
            .map(|meta| (meta.namespace.clone(), meta.name.clone()))
            .filter(|key| !present.contains(key))
            .collect();
        for (namespace, name) in gone {
            self.remove(resource, &namespace, &name, concerns);
        }
        // Also when there is none: an owner of a type that is not known counts as there.
        self.objects.entry(resource.clone()).or_default();
        let was_complete = self.is_complete();
        self.complete.insert(resource.clone());
        if self.is_complete() && !was_complete {
            concerns.garbage = true;
            concerns.namespaces.extend(self.terminating.iter().cloned());
        }
    }

    fn concern_namespace(&self, namespace: &Name, concerns: &mut Concerns) {
        if self.terminating.contains(namespace) {
            concerns.namespaces.insert(namespace.clone());
        }
    }
}

fn is_namespace(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural.as_str() == "namespaces"
}

/// Whether garbage collection could decide differently.
fn differs(old: &Meta, new: &Meta) -> bool {
    old.uid != new.uid
        || old.owners != new.owners
        || old.finalizers != new.finalizers
        || old.deleting != new.deleting
}

fn position(list: &[Meta], namespace: &Name, name: &Name) -> Result<usize, usize> {
    list.binary_search_by(|meta| (&meta.namespace, &meta.name).cmp(&(namespace, name)))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    fn resource(plural: &str, kind: &str, namespaced: bool) -> Resource {
        Resource {
            group: "".into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced,
        }
    }

    fn apply(meta: Meta) -> MetadataEvent {
        MetadataEvent::Apply(Box::new(meta))
    }

    #[test]
    fn it_is_complete_when_every_resource_has_been_listed() {
        let (pods, nodes) = (resource("pods", "Pod", true), resource("nodes", "Node", false));
        let mut inventory = Inventory::default();
        inventory.take(&pods, MetadataEvent::Complete(BTreeSet::new()));
        assert!(!inventory.is_complete());
        inventory.expect(BTreeSet::from([pods, nodes.clone()]));
        assert!(!inventory.is_complete());
        let concerns = inventory.take(&nodes, MetadataEvent::Complete(BTreeSet::new()));
        assert!(inventory.is_complete());
        assert!(concerns.garbage);
    }

    #[test]
    fn a_change_of_labels_concerns_nobody() {
        let pods = resource("pods", "Pod", true);
        let mut inventory = Inventory::default();
        let mut meta = Meta::new("default", "a");
        inventory.take(&pods, apply(meta.clone()));
        meta.labels.insert("app".into(), "web".into());
        assert_eq!(inventory.take(&pods, apply(meta.clone())), Concerns::default());
        meta.deleting = Some(Timestamp(1));
        assert!(inventory.take(&pods, apply(meta)).garbage);
    }

    #[test]
    fn content_of_a_terminating_namespace_concerns_it_until_it_is_gone() {
        let namespaces = resource("namespaces", "Namespace", false);
        let pods = resource("pods", "Pod", true);
        let mut inventory = Inventory::default();
        let mut meta = Meta::new("", "old");
        meta.deleting = Some(Timestamp(1));
        inventory.take(&namespaces, apply(meta));
        let concerns = inventory.take(&pods, apply(Meta::new("old", "a")));
        assert_eq!(concerns.namespaces, BTreeSet::from(["old".into()]));
        inventory.take(&namespaces, MetadataEvent::Delete("".into(), "old".into()));
        let concerns = inventory.take(&pods, apply(Meta::new("old", "b")));
        assert_eq!(concerns.namespaces, BTreeSet::new());
        assert_eq!(inventory.objects()[&pods].len(), 2);
    }

    #[test]
    fn a_new_list_removes_what_it_does_not_contain() {
        let pods = resource("pods", "Pod", true);
        let mut inventory = Inventory::default();
        inventory.take(&pods, apply(Meta::new("default", "b")));
        inventory.take(&pods, apply(Meta::new("default", "a")));
        let present = BTreeSet::from([("default".into(), "a".into())]);
        assert!(inventory.take(&pods, MetadataEvent::Complete(present)).garbage);
        assert_eq!(inventory.objects()[&pods], [Meta::new("default", "a")]);
    }
}
