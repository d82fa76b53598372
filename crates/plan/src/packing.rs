//! Which endpoint goes into which EndpointSlice (semantics 3.3).
//!
//! Writes are dear and full slices are not the goal: endpoints stay where they are, new ones fill
//! slices that are written anyway, and a slice that has become sparse stays sparse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{Endpoint, EndpointSlice, SlicePort, TargetRef, Write};

/// Endpoints that have the same ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Group {
    /// As they appear in the slice.
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Groups by their ports, whatever the order of these.
pub(crate) type Groups = BTreeMap<BTreeSet<SlicePort>, Group>;

/// The slices of one Service and one family, after packing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Packed {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<EndpointSlice>,
    /// Endpoints that are new or look different now.
    pub(crate) changed: Vec<Endpoint>,
}

impl Packed {
    /// The writes, with this annotation on whatever is written (`None` removes it).
    pub(crate) fn into_writes(self, annotation: &str, value: Option<&str>) -> Vec<Write> {
        let annotate = |mut slice: EndpointSlice| {
            let annotations = &mut slice.meta.annotations;
            match value {
                Some(value) => annotations.insert(annotation.to_owned(), value.to_owned()),
                None => annotations.remove(annotation),
            };
            Box::new(slice)
        };
        let delete = self.delete.into_iter().map(|slice| {
            let name = slice.name();
            Write::DeleteSlice(name, slice.meta.uid)
        });
        let create = self.create.into_iter().map(|slice| Write::CreateSlice(annotate(slice)));
        let update = self.update.into_iter().map(|slice| Write::UpdateSlice(annotate(slice)));
        create.chain(update).chain(delete).collect()
    }
}

/// How slices of one Service and one family are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packer<'a> {
    /// What every slice looks like, without a name, ports and endpoints.
    pub(crate) template: &'a EndpointSlice,
    /// Most endpoints in a slice.
    pub(crate) max: usize,
    /// Whether a slice without endpoints stands in when there would be none.
    pub(crate) placeholder: bool,
    /// Whether the template's annotations are all that a slice has; else others are kept.
    pub(crate) owns_annotations: bool,
    /// Whether new slices may be made; not while the owner is being deleted.
    pub(crate) may_create: bool,
}

impl Packer<'_> {
    /// Packs the groups, given the slices that exist.
    pub(crate) fn pack(&self, existing: &[&EndpointSlice], mut groups: Groups) -> Packed {
        let mut packed = Packed::default();
        let mut by_ports: BTreeMap<BTreeSet<SlicePort>, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in existing {
            if self.is_owned(slice) {
                let ports = slice.ports.iter().cloned().collect();
                by_ports.entry(ports).or_default().push(slice);
            } else {
                packed.delete.push((*slice).clone());
            }
        }
        for ports in by_ports.keys() {
            groups.entry(ports.clone()).or_default();
        }
        for (ports, group) in groups {
            let slices = by_ports.remove(&ports).unwrap_or_default();
            self.pack_group(&slices, group, &mut packed);
        }
        self.keep_placeholder(existing.len(), &mut packed);
        self.reuse_names(&mut packed);
        if !self.may_create {
            packed.create.clear();
        }
        packed
    }

    /// Packs the endpoints of one port list into the slices that have it (C7).
    fn pack_group(&self, slices: &[&EndpointSlice], group: Group, packed: &mut Packed) {
        let mut missing: BTreeMap<_, _> =
            group.endpoints.into_iter().map(|endpoint| (key(&endpoint), endpoint)).collect();
        let mut updated = Vec::new();
        let mut unchanged = Vec::new();
        for slice in slices {
            let mut new = EndpointSlice { endpoints: Vec::new(), ..self.refreshed(slice) };
            for old in &slice.endpoints {
                if let Some(endpoint) = missing.remove(&key(old)) {
                    if endpoint != *old {
                        packed.changed.push(endpoint.clone());
                    }
                    new.endpoints.push(endpoint);
                }
            }
            if new.endpoints.is_empty() {
                packed.delete.push((*slice).clone());
            } else if new == **slice {
                unchanged.push(new);
            } else {
                updated.push(new);
            }
        }
        packed.changed.extend(missing.values().cloned());
        self.place(missing.into_values().collect(), &mut updated, unchanged, |endpoints| {
            let ports = group.ports.clone();
            packed.create.push(EndpointSlice { ports, endpoints, ..self.template.clone() });
        });
        packed.update.extend(updated);
    }

    /// Finds a place for endpoints that are in no slice yet: slices that are written anyway, fullest
    /// first; then the one untouched slice that the rest fills best; then new slices.
    fn place(
        &self,
        mut missing: Vec<Endpoint>,
        updated: &mut Vec<EndpointSlice>,
        mut unchanged: Vec<EndpointSlice>,
        mut create: impl FnMut(Vec<Endpoint>),
    ) {
        updated.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
        for slice in updated.iter_mut() {
            let room = self.max.saturating_sub(slice.endpoints.len()).min(missing.len());
            slice.endpoints.extend(missing.drain(..room));
        }
        while !missing.is_empty() {
            let fits = |slice: &EndpointSlice| slice.endpoints.len() + missing.len() <= self.max;
            let candidates = unchanged.iter().enumerate().filter(|(_, slice)| fits(slice));
            let fullest = candidates
                .max_by_key(|(index, slice)| (slice.endpoints.len(), std::cmp::Reverse(*index)));
            if let Some((index, _)) = fullest {
                let mut slice = unchanged.remove(index);
                slice.endpoints.append(&mut missing);
                updated.push(slice);
            } else {
                let room = self.max.min(missing.len());
                create(missing.drain(..room).collect());
            }
        }
    }

    /// There is always at least one slice: the last one to go becomes the placeholder (C8).
    fn keep_placeholder(&self, existing: usize, packed: &mut Packed) {
        let none_left = existing == packed.delete.len() && packed.create.is_empty();
        if !self.placeholder || !none_left {
            return;
        }
        if let [only] = &packed.delete[..]
            && only.ports.is_empty()
            && only.endpoints.is_empty()
            && self.is_owned(only)
            && self.refreshed(only) == *only
        {
            packed.delete.clear();
        } else {
            packed.create.push(self.template.clone());
        }
    }

    /// A create and a delete become one update, so that the number of slices does not flap.
    fn reuse_names(&self, packed: &mut Packed) {
        let (mut reusable, gone): (Vec<_>, Vec<_>) =
            packed.delete.drain(..).partition(|slice| self.is_owned(slice));
        packed.delete = gone;
        let reused = packed.create.len().min(reusable.len());
        let rest = reusable.split_off(reused);
        for old in reusable {
            let Some(new) = packed.create.pop() else { break };
            let meta = self.refreshed(&old).meta;
            packed.update.push(EndpointSlice { meta, ..new });
        }
        packed.delete.extend(rest);
    }

    /// The slice with the labels and owners that it should have.
    fn refreshed(&self, slice: &EndpointSlice) -> EndpointSlice {
        let mut slice = slice.clone();
        slice.meta.labels = self.template.meta.labels.clone();
        if self.owns_annotations {
            slice.meta.annotations = self.template.meta.annotations.clone();
        }
        slice
    }

    /// Whether the slice belongs to this very owner, not to an earlier one of the same name.
    fn is_owned(&self, slice: &EndpointSlice) -> bool {
        let owned_by = |uid| slice.meta.owners.iter().any(|owner| owner.uid == uid);
        self.template.meta.owners.iter().all(|owner| owned_by(owner.uid.clone()))
    }
}

/// What makes two entries the same endpoint.
fn key(endpoint: &Endpoint) -> (Vec<IpAddr>, Option<Box<TargetRef>>) {
    (endpoint.addresses.clone(), endpoint.target.clone())
}
