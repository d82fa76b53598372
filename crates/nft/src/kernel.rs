//! The real kernel: the only file that changes tables.

use std::collections::BTreeMap;
use std::io;

use model::Family;

use crate::conntrack::{Cleanup, Conntrack};
use crate::damage::{Damage, Scope};
use crate::dataplane::{Affinity, Netfilter, Sent};
use crate::error::Error;
use crate::firewall::{RuleTables, RuleWatch};
use crate::layout::{AFFINITY, is_entry};
use crate::netlink::{Batch, Described, Element, Message};
use crate::readback::Effort;
use crate::requirements;
use crate::ruleset::{Life, Op, Ruleset};
use crate::socket::Socket;
use crate::stale::Stale;
use crate::watch::{Watch, Watches};

/// nf_tables and conntrack of one network namespace.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) socket: Socket,
    conntrack: Conntrack,
    watches: Watches,
}

impl Kernel {
    /// Opens the current network namespace's, which it then keeps to, whatever namespace the
    /// calling thread enters later.
    ///
    /// # Errors
    /// When netlink sockets cannot be opened.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(0)?;
        Ok(Self { socket, conntrack: Conntrack::open()?, watches: Watches::default() })
    }

    /// What was done about stale connections since the last call, for each family of which any were
    /// looked at.
    pub fn take_cleanups(&mut self) -> BTreeMap<Family, Cleanup> {
        self.conntrack.take_cleanups()
    }

    pub(crate) fn watch(&self) -> Result<Watch, Error> {
        self.watches.open(self.socket.port())
    }

    pub(crate) fn watch_rules(&self, tables: RuleTables) -> Result<RuleWatch, Error> {
        Ok(RuleWatch::new(self.watches.open_unfiltered()?, tables))
    }

    fn send(&mut self, batch: &Batch, operations: &[&Op]) -> Result<(), Error> {
        let doing = "send a transaction to nf_tables";
        self.socket.send(&batch.bytes).map_err(|source| Error::Io { doing, source })?;
        // The kernel has answered before `send` returns.
        let mut acknowledged = false;
        let last = batch.next_sequence().wrapping_sub(2);
        let mut refusal = None;
        let doing = "read nf_tables' answer to a transaction";
        loop {
            let received = self.socket.receive(false);
            let Some(bytes) = received.map_err(|source| Error::Io { doing, source })? else {
                break;
            };
            for message in Message::split(bytes) {
                match message.error() {
                    Some(0) => acknowledged |= message.sequence == last,
                    Some(code) => {
                        let refused = || (message.sequence, io::Error::from_raw_os_error(-code));
                        refusal.get_or_insert_with(refused);
                    }
                    None => {}
                }
            }
        }
        match refusal {
            Some((sequence, source)) => Err(refused(batch, operations, sequence, source)),
            None if acknowledged => Ok(()),
            None => Err(Error::Answer { doing, reason: "it did not acknowledge".to_owned() }),
        }
    }
}

impl Netfilter for Kernel {
    /// As one transaction, unless it is longer than this process may send at once: without
    /// CAP_NET_ADMIN on the host that is about 400 KiB (`net.core.wmem_max` twice), some 4,000
    /// elements. What is longer goes in several transactions, ordered so that a Service appears
    /// only when all that belongs to it is there.
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error> {
        let ordered = order(operations);
        let limit = self.socket.limit();
        let first = self.socket.sequence(0);
        let batches = Batch::encode(ordered.iter().copied(), first, limit);
        let mut sent = Sent::default();
        let large = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() > LARGE_BYTES;
        let muted = if large { self.watches.mute() } else { None };
        let before = if muted.is_some() { self.generation()? } else { None };
        for batch in &batches {
            self.socket.sequence(batch.next_sequence().wrapping_sub(batch.first));
            self.send(batch, &ordered)?;
            sent.messages += batch.operations.len();
            sent.bytes += batch.bytes.len();
        }
        if muted.is_some() {
            drop(muted);
            let own = u32::try_from(batches.len()).unwrap_or(u32::MAX);
            let expected = before.map(|generation| generation.wrapping_add(own));
            sent.disturbed = expected != self.generation()?;
        }
        Ok(sent)
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        self.read_all(Effort::Everything)
    }

    fn read_for(&mut self, want: &Ruleset) -> Result<Ruleset, Error> {
        self.read_all(Effort::Compare(want))
    }

    fn has_table(&mut self, family: Family) -> Result<bool, Error> {
        Ok(self.read_header(family)?.is_some())
    }

    fn read_damaged(&mut self, damage: &Damage, want: &Ruleset) -> Result<Ruleset, Error> {
        let mut ruleset = Ruleset::new();
        let mut whole = None;
        for (family, scope) in damage.families() {
            let table = match scope {
                Scope::Parts(_) if !self.has_table(family)? => None,
                Scope::Parts(parts) => Some(self.read_parts(family, parts, want)?),
                Scope::Whole => {
                    if whole.is_none() {
                        whole = Some(self.read_for(want)?);
                    }
                    whole.as_mut().and_then(|whole| whole.remove(&family))
                }
            };
            ruleset.extend(table.map(|table| (family, table)));
        }
        Ok(ruleset)
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.conntrack.forget(stale)
    }

    fn retime(&mut self, family: Family, affinity: &Affinity) -> Result<(), Error> {
        let mut tries = 0..RETIME_TRIES;
        loop {
            let operations = retimed(family, affinity, self.elements(family, &AFFINITY)?);
            // What ends or begins by itself meanwhile makes the kernel refuse.
            match self.commit(&operations) {
                Err(error) if tries.next().is_none() => return Err(error),
                Err(_) => {}
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// Gives what clients remember of some Service ports the life that it would have had with the new
/// timeout from the last connection on.
fn retimed(family: Family, affinity: &Affinity, elements: Vec<Element>) -> Vec<Op> {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for Element { key, data, life, .. } in elements {
        let port = affinity.iter().find(|(port, _)| key.start.ends_with(port));
        let Some((_, whole)) = port.filter(|(_, whole)| **whole != life.whole) else { continue };
        let since = life.whole.saturating_sub(life.left);
        if let Some(left) = whole.checked_sub(since).filter(|left| *left > 0) {
            come.push((key.clone(), data, Life { whole: *whole, left }));
        }
        gone.push(key);
    }
    if gone.is_empty() {
        return Vec::new();
    }
    vec![Op::DeleteElements(family, AFFINITY, gone), Op::AddTimed(family, AFFINITY, come)]
}

fn refused(batch: &Batch, operations: &[&Op], sequence: u32, source: io::Error) -> Error {
    let total = batch.operations.len();
    let index = sequence.wrapping_sub(batch.first).wrapping_sub(1) as usize;
    let operation = batch.operations.get(index).and_then(|operation| operations.get(*operation));
    match operation {
        Some(operation) => Error::Refused {
            doing: format!("{}{}", Described(operation), requirements::lacking(operation, &source)),
            position: index + 1,
            total,
            source,
        },
        None => Error::Refused { doing: "commit".to_owned(), position: total, total, source },
    }
}

/// Moves element operations that show Services to packets to where a split does no harm:
/// removals first, additions last.
fn order(operations: &[Op]) -> Vec<&Op> {
    let rank = |operation: &&Op| match operation {
        Op::DeleteElements(_, set, _) if is_entry(set) => 0,
        Op::AddElements(_, set, _) if is_entry(set) => 2,
        _ => 1,
    };
    // A table that is created in the same transaction has no elements to remove.
    let mut ordered: Vec<&Op> = operations.iter().collect();
    ordered.sort_by_key(rank);
    ordered
}

/// From here on a transaction is better sent unheard.
const LARGE_BYTES: usize = 64 << 10;
/// Ends and beginnings of affinity in a row that make a change of its timeout fail.
const RETIME_TRIES: usize = 20;
