//! A kernel for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{Family, Outcome, Packet};

use crate::dataplane::{Netfilter, Sent};
use crate::error::Error;
use crate::expr::{Expr, Name, Verdict};
use crate::ruleset::{Data, Key, Op, Ruleset, Set, Table};
use crate::stale::Stale;
use crate::trace::{Run, Tracer};

/// Holds tables as nf_tables would, refuses transactions as nf_tables would or on demand, and
/// traces packets through the rules that it holds.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    tables: Ruleset,
    local: BTreeSet<IpAddr>,
    memory: Memory,
    /// Transactions until one is refused.
    fail_in: Option<usize>,
    /// What [`Netfilter::forget`] was asked.
    forgotten: Vec<Stale>,
}

/// Elements of dynamic maps.
pub(crate) type Memory = BTreeMap<(Family, Name, Key), Data>;

impl Fake {
    /// An empty kernel of a node with these addresses.
    pub fn new(local: BTreeSet<IpAddr>) -> Self {
        Self { local, ..Self::default() }
    }

    /// Refuses the `n`-th next transaction (1 is the next one).
    pub fn fail_nth(&mut self, n: usize) {
        self.fail_in = Some(n);
    }

    /// Changes tables behind the dataplane's back.
    pub fn tamper(&mut self, change: impl FnOnce(&mut Ruleset)) {
        change(&mut self.tables);
    }

    /// What it was asked to forget, in order.
    pub fn forgotten(&self) -> &[Stale] {
        &self.forgotten
    }

    /// What may happen to the first packet of a connection: every number that `numgen` can draw
    /// is followed. Remembers nothing.
    pub fn trace(&self, packet: &Packet) -> Outcome {
        let (mut to, mut masqueraded) = (BTreeSet::new(), BTreeSet::new());
        let mut draw = 0;
        loop {
            let traced = self.tracer(packet, draw).run();
            match traced.run {
                Run::Delivered { endpoint, masquerade } => {
                    to.insert(endpoint);
                    masqueraded.extend(masquerade.then_some(endpoint));
                }
                Run::Rejected => return Outcome::Rejected,
                Run::Dropped => return Outcome::Dropped,
                Run::Untouched => return Outcome::Untouched(packet.destination.ip()),
            }
            draw += 1;
            if draw >= traced.choices {
                return Outcome::Delivered { to, masqueraded };
            }
        }
    }

    /// What happens to it when `numgen` draws `draw` (modulo its modulus). Session affinity is
    /// remembered, without ever timing out.
    pub fn connect(&mut self, packet: &Packet, draw: u32) -> Outcome {
        let traced = self.tracer(packet, draw).run();
        self.memory = traced.memory;
        match traced.run {
            Run::Delivered { endpoint, masquerade } => Outcome::Delivered {
                to: [endpoint].into(),
                masqueraded: masquerade.then_some(endpoint).into_iter().collect(),
            },
            Run::Rejected => Outcome::Rejected,
            Run::Dropped => Outcome::Dropped,
            Run::Untouched => Outcome::Untouched(packet.destination.ip()),
        }
    }

    fn tracer<'a>(&'a self, packet: &Packet, draw: u32) -> Tracer<'a> {
        let family = Family::of(packet.destination.ip());
        Tracer::new(self.tables.get(&family), &self.local, self.memory.clone(), packet, draw)
    }
}

impl Netfilter for Fake {
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error> {
        self.fail_in = self.fail_in.and_then(|left| left.checked_sub(1));
        if self.fail_in == Some(0) {
            self.fail_in = None;
            return Err(Error::Faked("it was told to".to_owned()));
        }
        let mut tables = self.tables.clone();
        for operation in operations {
            let refusal = || Error::Faked(format!("{operation:?}"));
            apply(&mut tables, operation).ok_or_else(refusal)?;
        }
        check(&tables).map_err(Error::Faked)?;
        self.tables = tables;
        Ok(Sent { messages: operations.len(), ..Sent::default() })
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        Ok(self.tables.clone())
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.forgotten.push(stale.clone());
        Ok(0)
    }
}

/// `None` where nf_tables answers ENOENT, EEXIST or EBUSY.
fn apply(tables: &mut Ruleset, operation: &Op) -> Option<()> {
    match operation {
        Op::AddTable(family) => {
            tables.entry(*family).or_default().dormant = false;
        }
        Op::DeleteTable(family) => {
            tables.remove(family)?;
        }
        Op::AddChain(family, name, base) => {
            let chains = &mut tables.get_mut(family)?.chains;
            chains.entry(name.clone()).or_default().base = *base;
        }
        Op::FlushChain(family, name) => {
            tables.get_mut(family)?.chains.get_mut(name)?.rules.clear();
        }
        Op::DeleteChain(family, name) => {
            let gone = tables.get_mut(family)?.chains.remove(name)?;
            return gone.rules.is_empty().then_some(());
        }
        Op::AddRule(family, name, rule) => {
            tables.get_mut(family)?.chains.get_mut(name)?.rules.push(rule.clone());
        }
        Op::AddSet(family, name, spec) => {
            let set =
                Set { spec: spec.clone(), elements: BTreeMap::new(), unread: Default::default() };
            tables.get_mut(family)?.sets.entry(name.clone()).or_insert(set);
        }
        Op::FlushSet(family, name) => {
            tables.get_mut(family)?.sets.get_mut(name)?.elements.clear();
        }
        Op::DeleteSet(family, name) => {
            tables.get_mut(family)?.sets.remove(name)?;
        }
        Op::AddElements(family, name, elements) => {
            let set = tables.get_mut(family)?.sets.get_mut(name)?;
            for (key, data) in elements {
                if set.elements.insert(key.clone(), data.clone()).is_some() {
                    return None;
                }
            }
        }
        // It remembers for ever, see `connect`, and counts nothing.
        Op::AddTimed(..) | Op::AddCounted(..) => {}
        Op::DeleteElements(family, name, keys) => {
            let set = tables.get_mut(family)?.sets.get_mut(name)?;
            for key in keys {
                set.elements.remove(key)?;
            }
        }
    }
    Some(())
}

/// Whether everything that is referred to is there.
fn check(tables: &Ruleset) -> Result<(), String> {
    for table in tables.values() {
        let expressions = table.chains.values().flat_map(|chain| chain.rules.iter().flatten());
        for expression in expressions {
            match expression {
                Expr::Lookup { set, .. }
                | Expr::Remember { map: set, .. }
                | Expr::Forget { map: set, .. }
                | Expr::Count { set, .. }
                    if !table.sets.contains_key(set) =>
                {
                    return Err(format!("a rule uses set {set}, which is not there"));
                }
                Expr::Verdict(verdict) => check_verdict(table, verdict)?,
                _ => {}
            }
        }
        for data in table.sets.values().flat_map(|set| set.elements.values()) {
            if let Data::Verdict(verdict) = data {
                check_verdict(table, verdict)?;
            }
        }
    }
    Ok(())
}

fn check_verdict(table: &Table, verdict: &Verdict) -> Result<(), String> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) if !table.chains.contains_key(chain) => {
            Err(format!("a verdict leads to chain {chain}, which is not there"))
        }
        _ => Ok(()),
    }
}
