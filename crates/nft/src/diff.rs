//! The operations that lead from one ruleset to another.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::Family;

use crate::expr::Name;
use crate::ruleset::{Chain, Data, Key, Op, Ruleset, Set, Table, Unread};

/// What has to be done to `have` so that it becomes `want`, as one transaction.
///
/// Only what differs is touched: an element that is in both stays in place. The content of a set
/// that has not been read ([`Set::unread`]) is replaced whole. A set or base chain
/// whose type differs cannot be changed in place; its table is then replaced whole, still within
/// the same transaction.
///
/// Of tables that are there, both may name the same part only: what is in neither is left alone.
pub fn diff(have: &Ruleset, want: &Ruleset) -> Vec<Op> {
    let mut operations = Vec::new();
    for family in Family::ALL {
        match (have.get(&family), want.get(&family)) {
            (None, None) => {}
            (Some(_), None) => operations.push(Op::DeleteTable(family)),
            (None, Some(want)) => create(family, want, &mut operations),
            (Some(have), Some(want)) if changeable(have, want) => {
                change(family, have, want, &mut operations);
            }
            (Some(_), Some(want)) => {
                operations.push(Op::DeleteTable(family));
                create(family, want, &mut operations);
            }
        }
    }
    operations
}

/// What leads from nothing to `want`, as [`diff`] would find it, but without copying its elements: there
/// may be hundreds of thousands.
pub(crate) fn creation(want: Ruleset) -> Vec<Op> {
    let mut operations = Vec::new();
    for (family, table) in want {
        let mut elements = Vec::new();
        operations.push(Op::AddTable(family));
        for (name, set) in table.sets {
            operations.push(Op::AddSet(family, name.clone(), set.spec));
            if !set.elements.is_empty() {
                let of_set = set.elements.into_iter().collect();
                elements.push(Op::AddElements(family, name, of_set));
            }
        }
        let chains = table.chains.iter();
        operations
            .extend(chains.map(|(name, chain)| Op::AddChain(family, name.clone(), chain.base)));
        for (name, chain) in &table.chains {
            add_rules(family, name, chain, &mut operations);
        }
        operations.append(&mut elements);
    }
    operations
}

/// The element operations that lead from `have` to `want`, both sorted by key: deletions go to
/// the first list, additions to the second.
pub(crate) fn diff_elements<'a>(
    have: impl Iterator<Item = (&'a Key, &'a Data)>,
    want: impl Iterator<Item = (&'a Key, &'a Data)>,
) -> (Vec<Key>, Vec<(Key, Data)>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for (key, old, wanted) in merge(have, want).filter(|(_, old, wanted)| old != wanted) {
        gone.extend(old.map(|_| key.clone()));
        new.extend(wanted.map(|data| (key.clone(), data.clone())));
    }
    (gone, new)
}

/// Walks two lists that are sorted by key, side by side.
pub(crate) fn merge<K: Ord, A, B>(
    left: impl Iterator<Item = (K, A)>,
    right: impl Iterator<Item = (K, B)>,
) -> impl Iterator<Item = (K, Option<A>, Option<B>)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let left = if order.is_le() { left.next() } else { None };
        let right = if order.is_ge() { right.next() } else { None };
        let (left, right) = (left.unzip(), right.unzip());
        Some((left.0.or(right.0)?, left.1, right.1))
    })
}

/// Whether `have` can become `want` without being deleted.
pub(crate) fn changeable(have: &Table, want: &Table) -> bool {
    let sets = want
        .sets
        .iter()
        .all(|(name, set)| have.sets.get(name).is_none_or(|old| old.spec == set.spec));
    let chains = want
        .chains
        .iter()
        .all(|(name, chain)| have.chains.get(name).is_none_or(|old| same_place(old, chain)));
    sets && chains
}

/// Whether packets enter both at the same place; the policy may differ.
fn same_place(one: &Chain, other: &Chain) -> bool {
    let place = |chain: &Chain| chain.base.map(|base| (base.kind, base.hook, base.priority));
    place(one) == place(other)
}

fn create(family: Family, want: &Table, operations: &mut Vec<Op>) {
    operations.push(Op::AddTable(family));
    change(family, &Table::default(), want, operations);
}

/// Order within the transaction: what is referred to comes before what refers to it.
fn change(family: Family, have: &Table, want: &Table, operations: &mut Vec<Op>) {
    if have.dormant {
        operations.push(Op::AddTable(family));
    }
    let new_sets = want.sets.iter().filter(|(name, _)| !have.sets.contains_key(*name));
    operations
        .extend(new_sets.map(|(name, set)| Op::AddSet(family, name.clone(), set.spec.clone())));
    let new_chains = want
        .chains
        .iter()
        .filter(|(name, chain)| have.chains.get(*name).is_none_or(|old| old.base != chain.base));
    operations
        .extend(new_chains.map(|(name, chain)| Op::AddChain(family, name.clone(), chain.base)));

    let emptied: Vec<&Name> = have
        .chains
        .iter()
        .filter(|(name, old)| want.chains.get(*name).is_none_or(|new| new.rules != old.rules))
        .filter(|(_, old)| !old.rules.is_empty())
        .map(|(name, _)| name)
        .collect();
    operations.extend(emptied.into_iter().map(|name| Op::FlushChain(family, name.clone())));

    let mut additions = change_sets(family, &have.sets, &want.sets, operations);
    for (name, chain) in &want.chains {
        if have.chains.get(name).is_none_or(|old| old.rules != chain.rules) {
            add_rules(family, name, chain, operations);
        }
    }
    operations.append(&mut additions);

    let old_chains = have.chains.keys().filter(|name| !want.chains.contains_key(*name));
    operations.extend(old_chains.map(|name| Op::DeleteChain(family, name.clone())));
    let old_sets = have.sets.keys().filter(|name| !want.sets.contains_key(*name));
    operations.extend(old_sets.map(|name| Op::DeleteSet(family, name.clone())));
}

fn add_rules(family: Family, name: &Name, chain: &Chain, operations: &mut Vec<Op>) {
    let rules = chain.rules.iter();
    operations.extend(rules.map(|rule| Op::AddRule(family, name.clone(), rule.clone())));
}

/// Emits the deletions, returns the additions: they may refer to chains whose rules are added
/// in between.
fn change_sets(
    family: Family,
    have: &BTreeMap<Name, Set>,
    want: &BTreeMap<Name, Set>,
    operations: &mut Vec<Op>,
) -> Vec<Op> {
    let mut additions = Vec::new();
    for (name, set) in want {
        let old = have.get(name);
        let replaced = old.is_some_and(|set| set.unread != Unread::None);
        if replaced {
            operations.push(Op::FlushSet(family, name.clone()));
        }
        let old = old.into_iter().filter(|_| !replaced).flat_map(|set| &set.elements);
        let (gone, new) = diff_elements(old, set.elements.iter());
        if !gone.is_empty() {
            operations.push(Op::DeleteElements(family, name.clone(), gone));
        }
        if !new.is_empty() {
            additions.push(Op::AddElements(family, name.clone(), new));
        }
    }
    // A verdict map that is about to go must release its chains first.
    for (name, set) in have.iter().filter(|(name, _)| !want.contains_key(*name)) {
        if !set.elements.is_empty() {
            let keys = set.elements.keys().cloned().collect();
            operations.push(Op::DeleteElements(family, name.clone(), keys));
        }
    }
    additions
}
