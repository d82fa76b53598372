//! What somebody else may have done to our tables, and what was put right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::Family;

use crate::expr::Name;
use crate::netlink::event::Event;
use crate::netlink::family_name;
use crate::ruleset::{Key, Op, Ruleset, TABLE, Table, Unread};

/// The parts of our tables that others have touched, as far as the kernel's events tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    families: BTreeMap<Family, Scope>,
    /// Who did it: program and process.
    pub by: BTreeSet<String>,
}

/// What of a table may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Anything.
    Whole,
    /// Only these.
    Parts(Parts),
}

/// Parts of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// Chains with their rules.
    pub chains: BTreeSet<Name>,
    /// Sets with their elements.
    pub sets: BTreeSet<Name>,
    /// Single elements of sets that are not among [`Self::sets`].
    pub elements: BTreeMap<Name, BTreeSet<Key>>,
}

impl Damage {
    /// Anything may have changed.
    pub fn everything() -> Self {
        Self::of(Family::ALL.map(|family| (family, Scope::Whole)))
    }

    /// Of some families.
    pub fn of(families: impl IntoIterator<Item = (Family, Scope)>) -> Self {
        Self { families: families.into_iter().collect(), by: BTreeSet::new() }
    }

    /// Nothing of ours.
    pub fn is_none(&self) -> bool {
        self.families.is_empty()
    }

    /// Whether nothing can be left out of a comparison.
    pub fn is_everything(&self) -> bool {
        let whole = |family| self.families.get(&family) == Some(&Scope::Whole);
        Family::ALL.into_iter().all(whole)
    }

    /// What of each family's table; nothing of those that are absent.
    pub fn families(&self) -> impl Iterator<Item = (Family, &Scope)> {
        self.families.iter().map(|(family, scope)| (*family, scope))
    }

    /// The same people, but anything.
    pub(crate) fn widened(&self) -> Self {
        Self { by: self.by.clone(), ..Self::everything() }
    }

    /// Leaves a family out.
    pub(crate) fn without(mut self, family: Family) -> Self {
        self.families.remove(&family);
        self
    }

    /// Adds what another one names.
    pub fn extend(&mut self, other: Self) {
        self.by.extend(other.by);
        for (family, scope) in other.families {
            match scope {
                Scope::Whole => drop(self.families.insert(family, Scope::Whole)),
                Scope::Parts(other) => {
                    let Some(parts) = self.parts(family) else { continue };
                    parts.chains.extend(other.chains);
                    other.sets.into_iter().for_each(|set| parts.add_set(set));
                    other.elements.into_iter().for_each(|(set, keys)| parts.add_keys(set, keys));
                }
            }
        }
    }

    /// Adds what an event of a foreign transaction tells.
    pub(crate) fn note(&mut self, event: Event) {
        match event {
            Event::NotOurs | Event::End(_) => {}
            Event::Table(family) => drop(self.families.insert(family, Scope::Whole)),
            Event::Chain(family, chain) => {
                if let Some(parts) = self.parts(family) {
                    parts.chains.insert(chain);
                }
            }
            Event::Set(family, set) => {
                if let Some(parts) = self.parts(family) {
                    parts.add_set(set);
                }
            }
            Event::Elements(family, set, keys) => {
                if let Some(parts) = self.parts(family) {
                    parts.add_keys(set, keys);
                }
            }
        }
    }

    /// Of a family, unless all of it is damaged anyway.
    fn parts(&mut self, family: Family) -> Option<&mut Parts> {
        let empty = || Scope::Parts(Parts::default());
        match self.families.entry(family).or_insert_with(empty) {
            Scope::Whole => None,
            Scope::Parts(parts) => Some(parts),
        }
    }
}

impl Parts {
    fn add_set(&mut self, set: Name) {
        self.elements.remove(&set);
        self.sets.insert(set);
    }

    /// So many elements are looked at one by one; of more, the whole set.
    fn add_keys(&mut self, set: Name, keys: impl IntoIterator<Item = Key>) {
        if self.sets.contains(&set) {
            return;
        }
        let known = self.elements.entry(set.clone()).or_default();
        known.extend(keys);
        // Ranges are found whole, not by their ends.
        if known.len() > MOST_KEYS || known.iter().any(|key| key.end.is_some()) {
            self.add_set(set);
        }
    }

    /// What is left of a table.
    pub(crate) fn of(&self, table: &Table) -> Table {
        let mut part = Table { dormant: table.dormant, ..Table::default() };
        for name in &self.chains {
            part.chains.extend(table.chains.get(name).map(|chain| (name.clone(), chain.clone())));
        }
        for name in self.sets.iter().chain(self.elements.keys()) {
            let Some(set) = table.sets.get(name) else { continue };
            let mut set = set.clone();
            if let Some(keys) = self.elements.get(name) {
                set.elements.retain(|key, _| keys.contains(key));
            }
            part.sets.insert(name.clone(), set);
        }
        part
    }
}

/// What of our tables was not as it should have been, and has been put right.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// Part by part.
    pub parts: BTreeMap<Part, Change>,
    /// Who had changed it, as far as is known: program and process.
    pub by: BTreeSet<String>,
}

/// A part of our tables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// A table with all that it holds.
    Table(Family),
    /// A chain or its rules.
    Chain(Family, Name),
    /// A set or its elements.
    Set(Family, Name),
}

/// How many elements of a set came and went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Elements that were missing or wrong.
    pub added: usize,
    /// Elements that were too many or wrong.
    pub removed: usize,
}

impl Mended {
    /// Of the operations that lead from one to the other.
    pub(crate) fn by_operations(operations: &[Op], have: &Ruleset, want: &Ruleset) -> Self {
        let mut mended = Self::default();
        for operation in operations {
            let (part, added, removed) = match operation {
                Op::AddTable(family) | Op::DeleteTable(family) => (Part::Table(*family), 0, 0),
                Op::AddChain(family, name, _)
                | Op::FlushChain(family, name)
                | Op::DeleteChain(family, name)
                | Op::AddRule(family, name, _) => (Part::Chain(*family, name.clone()), 0, 0),
                Op::AddSet(family, name, _)
                | Op::FlushSet(family, name)
                | Op::DeleteSet(family, name) => (Part::Set(*family, name.clone()), 0, 0),
                Op::AddElements(family, name, elements) => {
                    (Part::Set(*family, name.clone()), elements.len(), 0)
                }
                Op::AddTimed(..) | Op::AddCounted(..) => continue,
                Op::DeleteElements(family, name, keys) => {
                    (Part::Set(*family, name.clone()), 0, keys.len())
                }
            };
            let change = mended.parts.entry(part).or_default();
            change.added += added;
            change.removed += removed;
        }
        mended.leave_out(have, want);
        mended
    }

    /// Leaves out what comes with a table, and sets that were only replaced because they could not be
    /// compared.
    fn leave_out<'a>(&mut self, have: &'a Ruleset, want: &'a Ruleset) {
        let tables: BTreeSet<Family> = self.parts.keys().filter_map(Part::table).collect();
        self.parts.retain(|part, change| match part {
            Part::Table(_) => true,
            Part::Chain(family, _) => !tables.contains(family),
            Part::Set(family, _) if tables.contains(family) => false,
            Part::Set(family, name) => {
                let set = |ruleset: &'a Ruleset| ruleset.get(family)?.sets.get(name);
                let replaced = set(have).filter(|held| held.unread != Unread::None);
                let Some(held) = replaced else { return true };
                let wanted = set(want).into_iter().flat_map(|set| &set.elements);
                let missing = wanted.filter(|(key, data)| held.elements.get(*key) != Some(*data));
                *change = Change { added: missing.count(), removed: 0 };
                held.unread == Unread::Certain || change.added > 0
            }
        });
    }

    /// Nothing was wrong.
    pub fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds another repair.
    pub(crate) fn extend(&mut self, other: Self) {
        self.by.extend(other.by);
        for (part, change) in other.parts {
            let sum = self.parts.entry(part).or_default();
            sum.added += change.added;
            sum.removed += change.removed;
        }
    }
}

impl Part {
    fn table(&self) -> Option<Family> {
        if let Self::Table(family) = self { Some(*family) } else { None }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(family) => write!(f, "table {} {TABLE}", family_name(*family)),
            Self::Chain(family, name) => {
                write!(f, "chain {} {TABLE} {name}", family_name(*family))
            }
            Self::Set(family, name) => write!(f, "set {} {TABLE} {name}", family_name(*family)),
        }
    }
}

/// `set ip portolan endpoints (2 elements added, 1 removed), and 3 more`.
impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (part, change)) in self.parts.iter().take(MOST_NAMED).enumerate() {
            write!(f, "{}{part}", if number > 0 { ", " } else { "" })?;
            match change {
                Change { added: 0, removed: 0 } => {}
                Change { added, removed: 0 } => write!(f, " (elements added: {added})")?,
                Change { added: 0, removed } => write!(f, " (elements removed: {removed})")?,
                Change { added, removed } => {
                    write!(f, " (elements added: {added}, removed: {removed})")?;
                }
            }
        }
        match self.parts.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            Some(more) => write!(f, ", and {more} more"),
            None => Ok(()),
        }
    }
}

/// Beyond, whole sets are compared; reading so many elements one by one takes half a millisecond.
const MOST_KEYS: usize = 256;
/// Parts that are named in one line.
const MOST_NAMED: usize = 8;
