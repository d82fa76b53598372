//! What single parts of the tables have to hold, and whole tables piece by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{Family, ServiceName};

use super::service::{Contribution, Spot};
use super::{Layout, sets};
use crate::damage::{Damage, Parts, Scope};
use crate::diff::diff;
use crate::expr::Name;
use crate::ruleset::{Elements, Field, Key, Op, Ruleset, Set, SetSpec, Table, Unread};

/// Services that come back at once.
const SERVICES_PER_STEP: usize = 1024;

impl Layout {
    /// The damaged parts of the tables as they have to be. Costs as much as there is damage, and
    /// where whole sets are concerned, as there are Services.
    pub(crate) fn part(&self, damage: &Damage) -> Ruleset {
        if damage.is_everything() {
            return self.ruleset();
        }
        let needs_all = |scope: &Scope| match scope {
            Scope::Whole => true,
            Scope::Parts(parts) => !parts.sets.is_empty(),
        };
        let mut all = Contribution::default();
        if damage.families().any(|(_, scope)| needs_all(scope)) {
            all = self.contribution(self.services.keys());
        }
        let tables = damage.families().map(|(family, scope)| {
            let table = match scope {
                Scope::Whole => self.table(family, &mut all),
                Scope::Parts(parts) => self.parts(family, parts, &mut all),
            };
            (family, table)
        });
        tables.collect()
    }

    /// Transactions that create the tables of some families, which are not there. Each brings back
    /// some Services, whole: the first of many answers in a fraction of the time that all take.
    pub(crate) fn creation(&self, families: BTreeSet<Family>) -> impl Iterator<Item = Vec<Op>> {
        let names: Vec<&ServiceName> = self.services.keys().collect();
        let steps = names.len().div_ceil(SERVICES_PER_STEP).max(1);
        (0..steps).map(move |step| {
            let mut operations = if step == 0 { self.frame(&families) } else { Vec::new() };
            let names = names.iter().skip(step * SERVICES_PER_STEP).take(SERVICES_PER_STEP);
            for ((family, set), mut elements) in self.contribution(names.copied()).elements {
                if families.contains(&family) {
                    elements.sort_unstable();
                    elements.dedup();
                    operations.push(Op::AddElements(family, set, elements));
                }
            }
            operations
        })
    }

    /// Frontends whose connections may have gone astray meanwhile.
    pub(crate) fn astray(&self, damage: &Damage) -> Vec<Spot> {
        let only_elements = |scope: &Scope| match scope {
            Scope::Parts(parts) => parts.chains.is_empty() && parts.sets.is_empty(),
            Scope::Whole => false,
        };
        if !damage.families().all(|(_, scope)| only_elements(scope)) {
            return self.cleaned_spots();
        }
        let mut spots = BTreeSet::new();
        for (family, scope) in damage.families() {
            let Scope::Parts(parts) = scope else { continue };
            let specs: BTreeMap<Name, SetSpec> = self.specs(family).into_iter().collect();
            for (name, keys) in &parts.elements {
                let Some(spec) = specs.get(name) else { continue };
                spots.extend(keys.iter().filter_map(|key| spot(family, spec, key)));
            }
        }
        spots.into_iter().collect()
    }

    /// Tables without Services.
    fn frame(&self, families: &BTreeSet<Family>) -> Vec<Op> {
        let tables = families.iter().map(|family| {
            let table = self.table(*family, &mut Contribution::default());
            (*family, table)
        });
        diff(&Ruleset::new(), &tables.collect())
    }

    /// Parts of a table; the elements of whole sets are taken out of `all`.
    fn parts(&self, family: Family, parts: &Parts, all: &mut Contribution) -> Table {
        let mut table = Table::default();
        if !parts.chains.is_empty() {
            table.chains = self.chains(family);
            table.chains.retain(|name, _| parts.chains.contains(name));
        }
        for (name, spec) in self.specs(family) {
            let place = (family, name);
            let elements: Elements = match parts.elements.get(&place.1) {
                None if !parts.sets.contains(&place.1) => continue,
                None if place.1 == sets::NODE_ADDRESSES => self.node_addresses(family),
                None => all.elements.remove(&place).unwrap_or_default().into_iter().collect(),
                Some(keys) if place.1 == sets::NODE_ADDRESSES => {
                    let addresses = self.node_addresses(family).into_iter();
                    addresses.filter(|(key, _)| keys.contains(key)).collect()
                }
                Some(keys) => self.these(&place, &spec, keys),
            };
            table.sets.insert(place.1, Set { spec, elements, unread: Unread::None });
        }
        table
    }

    /// Those of some elements that a set has to hold.
    fn these(&self, place: &(Family, Name), spec: &SetSpec, keys: &BTreeSet<Key>) -> Elements {
        let spots: BTreeSet<Spot> =
            keys.iter().filter_map(|key| spot(place.0, spec, key)).collect();
        let owners = spots.iter().filter_map(|spot| self.claimants(*spot).next());
        let owners: BTreeSet<&ServiceName> = owners.collect();
        let all = self.contribution(owners).elements.remove(place).unwrap_or_default();
        all.into_iter().filter(|(key, _)| keys.contains(key)).collect()
    }
}

/// Whose element it is, by the type of its set.
fn spot(family: Family, spec: &SetSpec, key: &Key) -> Option<Spot> {
    match spec.key[..] {
        [Field::Proto, Field::Port, ..] => {
            Spot::parse(family, true, &key.start).map(|(spot, _)| spot)
        }
        [_, Field::Proto, Field::Port, ..] => {
            Spot::parse(family, false, &key.start).map(|(spot, _)| spot)
        }
        [_] => address(family, &key.start).map(Spot::ClusterIp),
        [_, _] => address(family, &key.start).map(Spot::Hairpin),
        _ => None,
    }
}

fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => bytes.first_chunk::<4>().copied().map(IpAddr::from),
        Family::V6 => bytes.first_chunk::<16>().copied().map(IpAddr::from),
    }
}
