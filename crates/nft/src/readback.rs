//! Reading our tables back.

use std::collections::BTreeSet;
use std::io;

use model::Family;

use crate::error::Error;
use crate::expr::Name;
use crate::kernel::Kernel;
use crate::layout::is_entry;
use crate::netlink::batch::DUMP_INTERRUPTED;
use crate::netlink::{self, Answer, Batch, Element, Message, Request};
use crate::ruleset::{Ruleset, Set, Table};

impl Kernel {
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

    pub(crate) fn generation(&mut self) -> Result<Option<u32>, Error> {
        let Asked::Answers(answers) = self.ask(Request::Generation)? else { return Ok(None) };
        Ok(answers.iter().find_map(|answer| match answer {
            Answer::Generation(generation) => Some(*generation),
            _ => None,
        }))
    }

    /// Reads until nobody changes anything meanwhile.
    pub(crate) fn read_all(&mut self, want: Option<&Ruleset>) -> Result<Ruleset, Error> {
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

    pub(crate) fn elements(&mut self, family: Family, set: &str) -> Result<Vec<Element>, Error> {
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

/// From here on a set is replaced rather than read: both take some 100 ms.
const MANY_ELEMENTS: usize = 16_384;
/// Reading takes milliseconds; so many changes in a row are not honest ones.
const READ_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Data, DataSpec, Elements, Field, Key, SetSpec};

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
