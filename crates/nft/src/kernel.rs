//! The real kernel: the only file that changes tables.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use model::Family;

use crate::conntrack::{Cleanup, Conntrack};
use crate::dataplane::{Affinity, Netfilter, Sent};
use crate::error::Error;
use crate::expr::Name;
use crate::firewall::{RuleTables, RuleWatch};
use crate::layout::{AFFINITY, is_entry};
use crate::netlink::batch::DUMP_INTERRUPTED;
use crate::netlink::{self, Answer, Batch, Described, Element, Message, Request};
use crate::requirements;
use crate::ruleset::{Data, Key, Life, Op, Ruleset, Set, Table};
use crate::socket::Socket;
use crate::stale::Stale;
use crate::watch::{Watch, Watches};

/// nf_tables and conntrack of one network namespace.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
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

    fn send(&mut self, batch: &Batch, operations: &[Op]) -> Result<(), Error> {
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

    /// Asks and collects the whole answer; `None` if the thing asked for does not exist or the
    /// tables changed while the kernel was telling about them.
    fn ask(&mut self, request: Request<'_>) -> Result<Asked, Error> {
        let doing = "read back our tables";
        let io_error = |source| Error::Io { doing, source };
        let sequence = self.socket.sequence(1);
        self.socket.send(&netlink::request(request, sequence)).map_err(io_error)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            let bytes = self.socket.receive(true).map_err(io_error)?.unwrap_or_default();
            for message in Message::split(bytes).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                let done = i32::from(message.kind) == libc::NLMSG_DONE;
                match message.error() {
                    _ if done && interrupted => return Ok(Asked::Changed),
                    _ if done => return Ok(Asked::Answers(answers)),
                    Some(0) => return Ok(Asked::Answers(answers)),
                    Some(code) if -code == libc::ENOENT => return Ok(Asked::Nothing),
                    Some(code) => return Err(io_error(io::Error::from_raw_os_error(-code))),
                    None => {
                        let broken = || format!("a broken answer to {request:?}");
                        let answer = netlink::decode(message);
                        answers
                            .push(answer.ok_or_else(|| Error::Answer { doing, reason: broken() })?);
                    }
                }
            }
        }
    }

    fn generation(&mut self) -> Result<Option<u32>, Error> {
        let Asked::Answers(answers) = self.ask(Request::Generation)? else { return Ok(None) };
        Ok(answers.iter().find_map(|answer| match answer {
            Answer::Generation(generation) => Some(*generation),
            _ => None,
        }))
    }

    /// Reads until nobody changes anything meanwhile.
    fn read_all(&mut self, want: Option<&Ruleset>) -> Result<Ruleset, Error> {
        for _ in 0..READ_TRIES {
            if let Some(ruleset) = self.try_read(want)? {
                return Ok(ruleset);
            }
        }
        let reason = format!("others changed tables during all of {READ_TRIES} tries");
        Err(Error::Answer { doing: "read back our tables", reason })
    }

    /// One try at reading everything that a comparison with `want` needs; `None` if somebody
    /// changed something meanwhile.
    fn try_read(&mut self, want: Option<&Ruleset>) -> Result<Option<Ruleset>, Error> {
        let generation = self.generation()?;
        let mut ruleset = Ruleset::new();
        for family in Family::ALL {
            match self.ask(Request::Table(family))? {
                Asked::Nothing => continue,
                Asked::Changed => return Ok(None),
                Asked::Answers(_) => {}
            }
            let unread =
                want.map_or(Unread::None, |want| unread(family, want, self.socket.limit()));
            let Some(table) = self.read_table(family, &unread)? else { return Ok(None) };
            ruleset.insert(family, table);
        }
        let same = generation.is_some() && generation == self.generation()?;
        Ok(same.then_some(ruleset))
    }

    fn read_table(&mut self, family: Family, unread: &Unread) -> Result<Option<Table>, Error> {
        let mut table = Table::default();
        for request in [Request::Chains(family), Request::Rules(family), Request::Sets(family)] {
            let Asked::Answers(answers) = self.ask(request)? else { return Ok(None) };
            for answer in answers {
                match answer {
                    Answer::Chain(name, chain) => {
                        table.chains.insert(name, chain);
                    }
                    Answer::Rule(chain, rule) => {
                        table.chains.entry(chain).or_default().rules.push(rule);
                    }
                    Answer::Set(name, spec) => {
                        let unread = !spec.dynamic && unread.contains(&name);
                        let elements = Default::default();
                        table.sets.insert(name, Set { spec, elements, unread });
                    }
                    _ => {}
                }
            }
        }
        for (name, set) in table.sets.iter_mut().filter(|(_, set)| !set.spec.dynamic && !set.unread)
        {
            let Asked::Answers(answers) = self.ask(Request::Elements(family, name))? else {
                return Ok(None);
            };
            let lists = answers.into_iter().filter_map(|answer| match answer {
                Answer::Elements(elements) => Some(elements),
                _ => None,
            });
            set.elements = lists.flatten().map(|element| (element.key, element.data)).collect();
        }
        Ok(Some(table))
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
        let batches = Batch::encode(&ordered, first, limit);
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
        self.read_all(None)
    }

    /// Leaves out sets of very many elements. For every 32 KiB of them the kernel walks the set from
    /// its beginning, which takes half a minute for 500,000; as many others are put in their place
    /// in about a second.
    fn read_for(&mut self, want: &Ruleset) -> Result<Ruleset, Error> {
        self.read_all(Some(want))
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.conntrack.forget(stale)
    }

    fn count(&mut self, family: Family, set: &str) -> Result<Vec<(Key, Data, u64)>, Error> {
        let elements = self.elements(family, set)?.into_iter();
        Ok(elements.map(|element| (element.key, element.data, element.count)).collect())
    }

    fn retime(&mut self, family: Family, affinity: &Affinity) -> Result<(), Error> {
        let mut tries = 0..READ_TRIES;
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

impl Kernel {
    fn elements(&mut self, family: Family, set: &str) -> Result<Vec<Element>, Error> {
        for _ in 0..READ_TRIES {
            match self.ask(Request::Elements(family, set))? {
                Asked::Nothing => return Ok(Vec::new()),
                Asked::Changed => {}
                Asked::Answers(answers) => {
                    let lists = answers.into_iter().filter_map(|answer| match answer {
                        Answer::Elements(elements) => Some(elements),
                        _ => None,
                    });
                    return Ok(lists.flatten().collect());
                }
            }
        }
        let reason = format!("{set} changed during all of {READ_TRIES} tries");
        Err(Error::Answer { doing: "read elements", reason })
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

/// Which sets of a table not to read.
#[derive(PartialEq, Eq, Debug)]
enum Unread {
    /// The table is about to be deleted.
    All,
    These(BTreeSet<Name>),
    None,
}

impl Unread {
    fn contains(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
            Self::None => false,
        }
    }
}

/// Sets that are better replaced than read. Only if all of them go in one transaction, of at most
/// `limit` bytes: nobody must find them empty. And never those whose elements tell what an earlier
/// process served.
fn unread(family: Family, want: &Ruleset, limit: usize) -> Unread {
    let Some(table) = want.get(&family) else { return Unread::All };
    let sets = want.values().flat_map(|table| table.sets.values());
    let bytes = sets.map(|set| Batch::size_of_elements(set.elements.len())).sum::<usize>();
    if bytes > limit {
        return Unread::None;
    }
    let large = |name: &Name, set: &Set| {
        set.elements.len() >= MANY_ELEMENTS && !set.spec.interval && !is_entry(name)
    };
    let large = table.sets.iter().filter(|(name, set)| large(name, set));
    Unread::These(large.map(|(name, _)| name.clone()).collect())
}

enum Asked {
    Answers(Vec<Answer>),
    Nothing,
    Changed,
}

fn refused(batch: &Batch, operations: &[Op], sequence: u32, source: io::Error) -> Error {
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
fn order(operations: &[Op]) -> Vec<Op> {
    let rank = |operation: &Op| match operation {
        Op::DeleteElements(_, set, _) if is_entry(set) => 0,
        Op::AddElements(_, set, _) if is_entry(set) => 2,
        _ => 1,
    };
    // A table that is created in the same transaction has no elements to remove.
    let mut ordered = operations.to_vec();
    ordered.sort_by_key(rank);
    ordered
}

/// From here on a transaction is better sent unheard.
const LARGE_BYTES: usize = 64 << 10;
/// From here on a set is replaced rather than read: both take some 100 ms.
const MANY_ELEMENTS: usize = 16_384;
/// Reading takes milliseconds; so many changes in a row are not honest ones.
const READ_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{DataSpec, Elements, Field, SetSpec};

    fn set(count: usize) -> Set {
        let spec = SetSpec {
            key: vec![Field::Number],
            data: DataSpec::None,
            interval: false,
            dynamic: false,
            counter: false,
        };
        let elements: Elements =
            (0..count).map(|number| (Key::new(&number.to_be_bytes()), Data::None)).collect();
        Set { spec, elements, unread: false }
    }

    #[test]
    fn only_sets_of_very_many_elements_are_replaced_unread_and_only_at_one_stroke() {
        let many = || set(MANY_ELEMENTS);
        let sets = [("endpoints", many()), ("usable", set(9)), ("rejected", many())];
        let sets = sets.into_iter().map(|(name, set)| (name.into(), set)).collect();
        let table = Table { sets, ..Table::default() };
        let want = Ruleset::from([(Family::V4, table)]);
        let endpoints = [Name::from("endpoints")].into();
        assert_eq!(unread(Family::V4, &want, usize::MAX), Unread::These(endpoints));
        assert_eq!(unread(Family::V4, &want, MANY_ELEMENTS), Unread::None);
        assert_eq!(unread(Family::V6, &want, MANY_ELEMENTS), Unread::All, "it is to be deleted");
    }
}
