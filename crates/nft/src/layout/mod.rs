//! What the tables have to hold for a [`NodeView`].
//!
//! Constant rules look up maps; Services and endpoints are elements. A change
//! of one Service is a change of its elements.
//!
//! ```text
//!  frontends{ 10.96.0.10 . udp . 53 : goto address-3-… }  one element per address and port
//!  chain address-3-…: mark, goto pick-3                   one chain per distinct treatment
//!  chain pick-3: dnat to … numgen random mod 3 map @endpoints
//!  endpoints{ 10.96.0.10 . udp . 53 . 0 : 10.244.1.7 . 5353 }
//! ```
//!
//! Each family has a table of its own, because keys and NAT hold addresses of
//! one length. An endpoint that replaces another changes one element of a plain
//! map. When the number of endpoints changes, so does an element of a verdict
//! map, and the kernel then checks all chains that the map can reach: about
//! 0.1 ms per thousand frontends and hook.

mod bytes;
mod chains;
mod connections;
mod packet;
mod place;
mod service;
mod sets;
mod treatment;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Family, NodeContext, NodeView, ServiceName, ServiceView};

use self::bytes::Bytes;
use self::chains::Fixed;
pub(crate) use self::connections::udp_spots;
pub(crate) use self::service::Spot;
use self::service::{Contribution, spots};
pub(crate) use self::sets::is_entry;
use self::treatment::Treatment;
use crate::diff::{diff, diff_elements, merge};
use crate::expr::Name;
use crate::ruleset::{Data, Elements, Key, Op, Ruleset, Set, Table};

/// The tables that a [`NodeView`] asks for, kept up to date Service by Service.
#[derive(Clone, Debug)]
pub struct Layout {
    context: NodeContext,
    fixed: Fixed,
    services: BTreeMap<ServiceName, Placed>,
    claims: BTreeMap<Spot, Vec<ServiceName>>,
    /// Treatments that have chains. They stay when the last frontend with them goes: endpoint
    /// counts come and go, and kernels before 6.2 cannot delete a chain in the transaction that
    /// deletes the last map element that leads to it (D46).
    treatments: BTreeSet<(Family, Treatment)>,
}

/// A Service and how its endpoints are numbered.
#[derive(Clone, Debug)]
struct Placed {
    given: Arc<ServiceView>,
    placed: Arc<ServiceView>,
}

/// What [`Layout::update`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    /// One transaction.
    pub operations: Vec<Op>,
    /// UDP frontends that came, went or changed.
    pub(crate) udp: Vec<Spot>,
}

/// One Service before and after; `None` where it does not exist.
struct Changed {
    old: Option<Arc<ServiceView>>,
    new: Option<Arc<ServiceView>>,
}

impl Layout {
    /// Of a view; `masquerade_mark` is the packet mark bit of D11.
    pub fn new(view: &NodeView, masquerade_mark: u32) -> Self {
        let mut layout = Self {
            context: view.context.clone(),
            fixed: Fixed {
                detector: view.context.local_detector.clone(),
                service_cidrs: view.service_cidrs.clone(),
                mark: masquerade_mark,
            },
            services: BTreeMap::new(),
            claims: BTreeMap::new(),
            treatments: BTreeSet::new(),
        };
        for (name, service) in &view.services {
            layout.replace(name, Some(service));
        }
        let names: Vec<&ServiceName> = layout.services.keys().collect();
        layout.treatments = layout.contribution(names).treatments;
        layout.treatments.extend(treatment::usual());
        layout
    }

    /// Moves on to another view. Only Services whose [`Arc`] is another one are looked at, unless
    /// the node itself changed.
    pub fn update(&mut self, view: &NodeView) -> Update {
        let changed = self.changed(view);
        let same_node =
            self.context == view.context && self.fixed.service_cidrs == view.service_cidrs;
        let operations =
            if same_node { self.update_services(&changed) } else { self.update_all(view) };
        let udp = changed.iter().flat_map(|(_, changed)| connections::changed(changed)).collect();
        Update { operations, udp }
    }

    /// Everything that the tables have to hold.
    pub fn ruleset(&self) -> Ruleset {
        let mut contribution = self.contribution(self.services.keys());
        Family::ALL
            .into_iter()
            .map(|family| (family, self.table(family, &mut contribution)))
            .collect()
    }

    fn table(&self, family: Family, contribution: &mut Contribution) -> Table {
        let mut chains = chains::constant(family, &self.fixed);
        for (_, treatment) in self.treatments.iter().filter(|(of, _)| *of == family) {
            chains.extend(chains::of_treatment(family, &self.fixed, *treatment));
        }
        let sets = sets::specs(family).into_iter().map(|(name, spec)| {
            let elements = if name == sets::NODE_ADDRESSES {
                self.node_addresses(family)
            } else {
                let elements = contribution.elements.remove(&(family, name.clone()));
                elements.unwrap_or_default().into_iter().collect()
            };
            (name, Set { spec, elements })
        });
        Table { sets: sets.collect(), chains }
    }

    fn node_addresses(&self, family: Family) -> Elements {
        let addresses = self.context.node_addresses.iter().copied();
        let served =
            addresses.filter(|address| Family::of(*address) == family && !is_loopback(*address));
        served.map(|address| (Bytes::default().address(address).key(), Data::None)).collect()
    }

    fn changed(&self, view: &NodeView) -> Vec<(ServiceName, Changed)> {
        let old = self.services.iter().map(|(name, old)| (name, &old.given));
        let pairs = merge(old, view.services.iter());
        let differing = pairs.filter(|(_, old, new)| match (old, new) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new) && old != new,
            _ => true,
        });
        let changed = differing.map(|(name, old, new)| {
            (name.clone(), Changed { old: old.cloned(), new: new.cloned() })
        });
        changed.collect()
    }

    fn update_all(&mut self, view: &NodeView) -> Vec<Op> {
        let old = self.ruleset();
        let mut new = Self::new(view, self.fixed.mark);
        new.treatments.append(&mut self.treatments);
        *self = new;
        diff(&old, &self.ruleset())
    }

    fn update_services(&mut self, changed: &[(ServiceName, Changed)]) -> Vec<Op> {
        let mut affected: BTreeSet<ServiceName> = BTreeSet::new();
        for (name, Changed { old, new }) in changed {
            let old = old.as_deref().map(spots).unwrap_or_default();
            let new = new.as_deref().map(spots).unwrap_or_default();
            let one_sided = old
                .iter()
                .filter(|spot| new.binary_search(spot).is_err())
                .chain(new.iter().filter(|spot| old.binary_search(spot).is_err()));
            let others = one_sided.filter_map(|spot| self.claims.get(spot)).flatten();
            affected.extend(others.cloned());
            affected.insert(name.clone());
        }
        let before = self.contribution(&affected);
        for (name, change) in changed {
            self.replace(name, change.new.as_ref());
        }
        let after = self.contribution(&affected);
        let new: Vec<_> = after.treatments.difference(&self.treatments).copied().collect();
        let mut operations = self.add_treatments(&new);
        operations.append(&mut change_elements(before, after));
        operations
    }

    /// Chains that a treatment shares with another may exist already.
    fn add_treatments(&mut self, new: &[(Family, Treatment)]) -> Vec<Op> {
        let (mut creations, mut additions) = (Vec::new(), Vec::new());
        for (family, treatment) in new {
            let known: BTreeSet<Name> = self
                .treatments
                .iter()
                .filter(|(of, _)| of == family)
                .flat_map(|(_, known)| chains::of_treatment(*family, &self.fixed, *known))
                .map(|(name, _)| name)
                .collect();
            for (name, chain) in chains::of_treatment(*family, &self.fixed, *treatment) {
                if !known.contains(&name) {
                    creations.push(Op::AddChain(*family, name.clone(), None));
                    let rules = chain.rules.into_iter();
                    additions.extend(rules.map(|rule| Op::AddRule(*family, name.clone(), rule)));
                }
            }
            self.treatments.insert((*family, *treatment));
        }
        creations.append(&mut additions);
        creations
    }

    fn replace(&mut self, name: &ServiceName, new: Option<&Arc<ServiceView>>) {
        let old = self.services.remove(name);
        for spot in old.iter().flat_map(|old| spots(&old.placed)) {
            if let Some(names) = self.claims.get_mut(&spot) {
                names.retain(|other| other != name);
                if names.is_empty() {
                    self.claims.remove(&spot);
                }
            }
        }
        let Some(given) = new else { return };
        for spot in spots(given) {
            let names = self.claims.entry(spot).or_default();
            let at = names.partition_point(|other| other < name);
            names.insert(at, name.clone());
        }
        let placed = match &old {
            Some(old) => place::place(&old.placed, given),
            None => Arc::clone(given),
        };
        self.services.insert(name.clone(), Placed { given: Arc::clone(given), placed });
    }

    fn contribution<'a>(&self, names: impl IntoIterator<Item = &'a ServiceName>) -> Contribution {
        let mut contribution = Contribution::default();
        for name in names {
            let Some(service) = self.services.get(name) else { continue };
            let owned =
                |spot| self.claims.get(&spot).is_some_and(|names| names.first() == Some(name));
            contribution.add(&self.context, &service.placed, owned);
        }
        contribution
    }
}

/// Deletions first: an element whose data changes is deleted and added.
fn change_elements(mut before: Contribution, mut after: Contribution) -> Vec<Op> {
    let places: BTreeSet<(Family, Name)> =
        before.elements.keys().chain(after.elements.keys()).cloned().collect();
    let (mut deletions, mut additions) = (Vec::new(), Vec::new());
    for place in places {
        let mut old = before.elements.remove(&place).unwrap_or_default();
        let mut new = after.elements.remove(&place).unwrap_or_default();
        old.sort_unstable();
        new.sort_unstable();
        let pairs = |elements| <[(Key, Data)]>::iter(elements).map(|(key, data)| (key, data));
        let (gone, come) = diff_elements(pairs(&old), pairs(&new));
        let (family, set) = place;
        if !gone.is_empty() {
            deletions.push(Op::DeleteElements(family, set.clone(), gone));
        }
        if !come.is_empty() {
            additions.push(Op::AddElements(family, set, come));
        }
    }
    deletions.append(&mut additions);
    deletions
}

/// Node ports are never served on loopback addresses (D31).
fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}
