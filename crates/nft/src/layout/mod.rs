//! What the tables have to hold for a [`NodeView`].
//!
//! Constant rules look up maps; Services and endpoints are elements. A change
//! of one Service is a change of its elements.
//!
//! ```text
//!  set frontends-masquerade{ 10.96.0.10 . udp . 53 }   one element per address and port
//!  chain frontends-masquerade: mark, goto pick         one chain per kind of frontend
//!  set pick-3{ 10.96.0.10 . udp . 53 }                 one set and chain per number of endpoints
//!  chain pick-3: dnat to … numgen random mod 3 map @endpoints
//!  endpoints{ 10.96.0.10 . udp . 53 . 0 : 10.244.1.7 . 5353 }
//! ```
//!
//! Each family has a table of its own, because keys and NAT hold addresses of
//! one length. A change of a Service changes elements of plain sets and maps,
//! which costs the kernel the same however many there are. A verdict map of all
//! frontends would look them up in one step, but the kernel verifies all of its
//! elements, with every chain behind them, whenever one changes: 0.2 ms per
//! thousand.

mod affinity;
mod bytes;
mod chains;
mod connections;
mod counts;
mod draw;
mod packet;
mod part;
mod place;
mod resets;
mod service;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Family, NodeContext, NodeView, ServiceName, ServiceView};

use self::bytes::Bytes;
use self::chains::Fixed;
pub(crate) use self::connections::cleaned_spots;
pub(crate) use self::counts::{LEFT_OUT, Owners, Tally, of_gone};
use self::draw::{List, Pick};
pub(crate) use self::packet::dnatted;
use self::resets::resets;
pub(crate) use self::service::Spot;
use self::service::{Contribution, spots};
pub(crate) use self::sets::{AFFINITY, is_entry};
use crate::dataplane::{Affinity, Settings};
use crate::diff::{diff, diff_elements, merge};
use crate::expr::Name;
use crate::ruleset::{Chain, Data, Elements, Key, Op, Ruleset, Set, SetSpec, Table, Unread};

/// The tables that a [`NodeView`] asks for, kept up to date Service by Service.
#[derive(Clone, Debug)]
pub struct Layout {
    context: NodeContext,
    settings: Settings,
    fixed: Fixed,
    services: BTreeMap<ServiceName, Placed>,
    claims: BTreeSet<(Spot, ServiceName)>,
    /// Those that have sets and chains, in the order of the rules that lead there. They stay when
    /// the last frontend with them goes: endpoint counts come and go (D46).
    picks: Vec<(Family, Pick)>,
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
    /// UDP and SCTP frontends that came, went or changed.
    pub(crate) cleaned: Vec<Spot>,
    /// Service ports whose affinity has another timeout (D18).
    pub(crate) retimed: BTreeMap<Family, Affinity>,
}

/// One Service before and after; `None` where it does not exist.
struct Changed {
    old: Option<Arc<ServiceView>>,
    new: Option<Arc<ServiceView>>,
}

impl Changed {
    fn resets(&self) -> bool {
        self.new.as_ref().is_some_and(|new| resets(new))
    }
}

impl Layout {
    /// Of a view.
    pub fn new(view: &NodeView, settings: &Settings) -> Self {
        let mut layout = Self {
            context: view.context.clone(),
            fixed: Fixed {
                detector: view.context.local_detector.clone(),
                service_cidrs: view.service_cidrs.clone(),
                mark: settings.masquerade_mark,
                drop_invalid: settings.drop_invalid,
                localhost_node_ports: settings.localhost_node_ports,
                counters: settings.counters,
                resets: view.services.values().any(|service| resets(service)),
            },
            settings: settings.clone(),
            services: view.services.iter().map(placed_as_given).collect(),
            claims: view.services.iter().flat_map(claims).collect(),
            picks: draw::usual(),
        };
        let names: Vec<&ServiceName> = layout.services.keys().collect();
        let used = layout.contribution(names).picks;
        layout.picks.extend(layout.new_picks(used));
        layout
    }

    /// Moves on to another view. Only Services whose [`Arc`] is another one are looked at, unless
    /// the node itself changed.
    ///
    /// `names`, if given, are the Services that may differ: then the others cost nothing, however
    /// many there are.
    pub fn update(&mut self, view: &NodeView, names: Option<&BTreeSet<ServiceName>>) -> Update {
        let changed = match names {
            Some(names) => names.iter().filter_map(|name| self.changed_one(view, name)).collect(),
            None => self.changed(view),
        };
        let same_rules = self.context == view.context
            && self.fixed.service_cidrs == view.service_cidrs
            && (self.fixed.resets || !changed.iter().any(|(_, changed)| changed.resets()));
        let operations =
            if same_rules { self.update_services(&changed) } else { self.update_all(view) };
        let cleaned =
            changed.iter().flat_map(|(_, changed)| connections::changed(changed)).collect();
        Update { operations, cleaned, retimed: retimed(&changed) }
    }

    /// Everything that the tables have to hold.
    pub fn ruleset(&self) -> Ruleset {
        let mut contribution = self.contribution(self.services.keys());
        Family::ALL
            .into_iter()
            .map(|family| (family, self.table(family, &mut contribution)))
            .collect()
    }

    fn chains(&self, family: Family) -> BTreeMap<Name, Chain> {
        let mut chains = chains::constant(family, &self.fixed);
        for list in List::ALL {
            chains.insert(list.chain().into(), Chain::default());
        }
        for (_, pick) in self.picks.iter().filter(|(of, _)| *of == family) {
            chains.insert(pick.name(), Chain { base: None, rules: pick.rules(family) });
            if let Some(chain) = chains.get_mut(pick.from.chain()) {
                chain.rules.push(chains::to_pick(family, *pick));
            }
        }
        chains
    }

    fn specs(&self, family: Family) -> Vec<(Name, SetSpec)> {
        let picks = self.picks.iter().filter(|(of, _)| *of == family);
        let picks = picks.map(|(_, pick)| (pick.name(), sets::of_pick(family, *pick)));
        sets::specs(family, self.settings.counters).into_iter().chain(picks).collect()
    }

    fn table(&self, family: Family, contribution: &mut Contribution) -> Table {
        let sets = self.specs(family).into_iter().map(|(name, spec)| {
            let elements = if name == sets::NODE_ADDRESSES {
                self.node_addresses(family)
            } else {
                let elements = contribution.elements.remove(&(family, name.clone()));
                elements.unwrap_or_default().into_iter().collect()
            };
            (name, Set { spec, elements, unread: Unread::None })
        });
        Table { sets: sets.collect(), chains: self.chains(family), dormant: false }
    }

    fn node_addresses(&self, family: Family) -> Elements {
        let addresses = self.context.node_addresses.iter().copied();
        let served =
            addresses.filter(|address| Family::of(*address) == family && !is_loopback(*address));
        served.map(|address| (Bytes::default().address(address).key(), Data::None)).collect()
    }

    fn changed_one(&self, view: &NodeView, name: &ServiceName) -> Option<(ServiceName, Changed)> {
        let old = self.services.get(name).map(|placed| Arc::clone(&placed.given));
        let new = view.services.get(name).map(Arc::clone);
        (old != new).then(|| (name.clone(), Changed { old, new }))
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
        let mut new = Self::new(view, &self.settings);
        let mut known = std::mem::take(&mut self.picks);
        std::mem::swap(&mut known, &mut new.picks);
        new.picks.extend(new.new_picks(known.into_iter().collect()));
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
            affected.extend(one_sided.flat_map(|spot| self.claimants(*spot)).cloned());
            affected.insert(name.clone());
        }
        let before = self.contribution(&affected);
        for (name, change) in changed {
            self.replace(name, change.new.as_ref());
        }
        let after = self.contribution(&affected);
        let mut operations = self.add_picks(after.picks.clone());
        operations.append(&mut change_elements(before, after));
        operations
    }

    fn add_picks(&mut self, used: BTreeSet<(Family, Pick)>) -> Vec<Op> {
        let new = self.new_picks(used);
        let mut operations = Vec::new();
        for (family, pick) in &new {
            let (family, name) = (*family, pick.name());
            operations.push(Op::AddSet(family, name.clone(), sets::of_pick(family, *pick)));
            operations.push(Op::AddChain(family, name.clone(), None));
            let rules = pick.rules(family).into_iter();
            operations.extend(rules.map(|rule| Op::AddRule(family, name.clone(), rule)));
            let list = pick.from.chain().into();
            operations.push(Op::AddRule(family, list, chains::to_pick(family, *pick)));
        }
        self.picks.extend(new);
        operations
    }

    /// Of those used, the ones that have no chain.
    fn new_picks(&self, mut used: BTreeSet<(Family, Pick)>) -> Vec<(Family, Pick)> {
        for known in &self.picks {
            used.remove(known);
        }
        used.into_iter().collect()
    }

    fn replace(&mut self, name: &ServiceName, new: Option<&Arc<ServiceView>>) {
        let old = self.services.remove(name);
        for spot in old.iter().flat_map(|old| spots(&old.placed)) {
            self.claims.remove(&(spot, name.clone()));
        }
        let Some(given) = new else { return };
        self.claims.extend(claims((name, given)));
        let placed = match &old {
            Some(old) => place::place(&old.placed, given),
            None => Arc::clone(given),
        };
        self.services.insert(name.clone(), Placed { given: Arc::clone(given), placed });
    }

    /// The Services that claim a spot, in order of their names.
    fn claimants(&self, spot: Spot) -> impl Iterator<Item = &ServiceName> {
        // No name comes before the empty one.
        let all = self.claims.range((spot, ServiceName::default())..);
        all.take_while(move |(other, _)| *other == spot).map(|(_, name)| name)
    }

    fn contribution<'a>(&self, names: impl IntoIterator<Item = &'a ServiceName>) -> Contribution {
        let mut contribution = Contribution::default();
        for name in names {
            let Some(service) = self.services.get(name) else { continue };
            let owned = |spot| self.claimants(spot).next() == Some(name);
            contribution.add(&self.context, self.fixed.counters, &service.placed, owned);
        }
        contribution
    }
}

fn placed_as_given((name, given): (&ServiceName, &Arc<ServiceView>)) -> (ServiceName, Placed) {
    (name.clone(), Placed { given: Arc::clone(given), placed: Arc::clone(given) })
}

fn claims(
    (name, service): (&ServiceName, &Arc<ServiceView>),
) -> impl Iterator<Item = (Spot, ServiceName)> {
    spots(service).into_iter().map(|spot| (spot, name.clone()))
}

fn retimed(changed: &[(ServiceName, Changed)]) -> BTreeMap<Family, Affinity> {
    let mut all: BTreeMap<Family, Affinity> = BTreeMap::new();
    for (_, Changed { old, new }) in changed {
        let (Some(old), Some(new)) = (old, new) else { continue };
        let old = service::timeouts(old);
        for ((family, port), seconds) in service::timeouts(new) {
            let before = old.get(&(family, port.clone()));
            if before.is_some_and(|before| *before != seconds) {
                all.entry(family).or_default().insert(port, u64::from(seconds) * 1000);
            }
        }
    }
    all
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

/// Served, if at all, by rules of their own (D31).
fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}
