//! Reading our tables back.

use std::io;

use model::Family;

use crate::damage::Parts;
use crate::error::Error;
use crate::expr::Name;
use crate::kernel::Kernel;
use crate::layout::is_entry;
use crate::netlink::batch::DUMP_INTERRUPTED;
use crate::netlink::{self, Answer, Batch, Element, Message, Request};
use crate::ruleset::{Elements, Key, Ruleset, Set, SetSpec, Table, Unread};
use crate::socket::Socket;

impl Kernel {
    fn ask(&mut self, request: Request<'_>) -> Result<Asked, Error> {
        ask(&mut self.socket, request)
    }

    pub(crate) fn generation(&mut self) -> Result<Option<u32>, Error> {
        let Asked::Answers(answers) = self.ask(Request::Generation)? else { return Ok(None) };
        Ok(answers.iter().find_map(|answer| match answer {
            Answer::Generation(generation) => Some(*generation),
            _ => None,
        }))
    }

    /// Reads until nobody changes anything meanwhile.
    pub(crate) fn read_all(&mut self, effort: Effort<'_>) -> Result<Ruleset, Error> {
        for _ in 0..READ_TRIES {
            if let Some(ruleset) = self.try_read(effort)? {
                return Ok(ruleset);
            }
        }
        let reason = format!("others changed tables during all of {READ_TRIES} tries");
        Err(Error::Answer { doing: "read back our tables", reason })
    }

    /// Whether our table of a family is there, and is dormant.
    pub(crate) fn read_header(&mut self, family: Family) -> Result<Option<bool>, Error> {
        let answers = self.ask_again(Request::Table(family))?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            Answer::Table(dormant) => Some(dormant),
            _ => None,
        }))
    }

    /// Reads parts of a table, which are to be as those of `want`.
    pub(crate) fn read_parts(
        &mut self,
        family: Family,
        parts: &Parts,
        want: &Ruleset,
    ) -> Result<Table, Error> {
        let mut table = Table::default();
        for name in &parts.chains {
            table.add(self.ask_again(Request::Chain(family, name))?);
            table.add(self.ask_again(Request::RulesOf(family, name))?);
        }
        for name in parts.sets.iter().chain(parts.elements.keys()) {
            let answers = self.ask_again(Request::Set(family, name))?;
            let Some((spec, size)) = answers.into_iter().find_map(spec_and_size) else { continue };
            let mut set = Set { spec, elements: Elements::new(), unread: Unread::None };
            match parts.elements.get(name) {
                _ if set.spec.is_filled_by_packets() => {}
                Some(keys) => {
                    let keys: Vec<&Key> = keys.iter().collect();
                    set.elements = self.held(family, name, &keys)?;
                }
                None => {
                    let effort = Effort::Compare(want);
                    let wanted = effort.wanted(family, name, self.socket.limit());
                    let read = |kernel: &mut Self| kernel.read_set(family, name, size, wanted);
                    (set.elements, set.unread) = self.again(name, read)?;
                }
            }
            table.sets.insert(name.clone(), set);
        }
        Ok(table)
    }

    /// The elements of a set, whatever their number.
    pub(crate) fn elements(&mut self, family: Family, set: &str) -> Result<Vec<Element>, Error> {
        let answers = self.ask_again(Request::Elements(family, set))?;
        Ok(elements_of(answers).collect())
    }

    /// One try at reading everything; `None` if somebody changed something meanwhile.
    fn try_read(&mut self, effort: Effort<'_>) -> Result<Option<Ruleset>, Error> {
        let generation = self.generation()?;
        let mut ruleset = Ruleset::new();
        for family in Family::ALL {
            let Some(dormant) = self.read_header(family)? else { continue };
            let Some(mut table) = self.read_table(family, effort)? else { return Ok(None) };
            table.dormant = dormant;
            ruleset.insert(family, table);
        }
        let same = generation.is_some() && generation == self.generation()?;
        Ok(same.then_some(ruleset))
    }

    fn read_table(&mut self, family: Family, effort: Effort<'_>) -> Result<Option<Table>, Error> {
        let mut table = Table::default();
        for request in [Request::Chains(family), Request::Rules(family)] {
            let Asked::Answers(answers) = self.ask(request)? else { return Ok(None) };
            table.add(answers);
        }
        let Asked::Answers(answers) = self.ask(Request::Sets(family))? else { return Ok(None) };
        for answer in answers {
            let Answer::Set(name, spec, size) = answer else { continue };
            let wanted = effort.wanted(family, &name, self.socket.limit());
            let read = if spec.is_filled_by_packets() {
                Some((Elements::new(), Unread::None))
            } else {
                self.read_set(family, &name, size, wanted)?
            };
            let Some((elements, unread)) = read else { return Ok(None) };
            table.sets.insert(name, Set { spec, elements, unread });
        }
        Ok(Some(table))
    }

    /// The elements of a set of `size`, as far as a comparison with those wanted needs them; `None`
    /// if somebody changed something meanwhile.
    ///
    /// A dump resumes every 32 KiB by walking the set from its beginning. Of very many elements
    /// those that are wanted are asked for by key instead, which takes 2 µs each, however many there
    /// are. Whether there are others too, their number tells, if the kernel does (6.16).
    fn read_set(
        &mut self,
        family: Family,
        name: &Name,
        size: Option<u32>,
        wanted: Wanted<'_>,
    ) -> Result<Option<(Elements, Unread)>, Error> {
        let size = size.and_then(|size| usize::try_from(size).ok());
        let wanted = match wanted {
            _ if size == Some(0) => return Ok(Some((Elements::new(), Unread::None))),
            Wanted::Nothing => return Ok(Some((Elements::new(), Unread::Possible))),
            Wanted::These(wanted) if size.unwrap_or(wanted.len()) >= MANY_ELEMENTS => wanted,
            Wanted::These(_) | Wanted::Everything => return self.dump(family, name),
        };
        let keys: Vec<&Key> = wanted.keys().collect();
        let held = self.held(family, name, &keys)?;
        let unread = match size {
            Some(size) if size == held.len() => Unread::None,
            Some(_) => Unread::Certain,
            None => Unread::Possible,
        };
        Ok(Some((held, unread)))
    }

    fn dump(&mut self, family: Family, set: &Name) -> Result<Option<(Elements, Unread)>, Error> {
        let Asked::Answers(answers) = self.ask(Request::Elements(family, set))? else {
            return Ok(None);
        };
        let elements = elements_of(answers).map(|element| (element.key, element.data));
        Ok(Some((elements.collect(), Unread::None)))
    }

    /// Those elements with these keys that are there.
    fn held(&mut self, family: Family, set: &str, keys: &[&Key]) -> Result<Elements, Error> {
        let mut held = Elements::new();
        let mut left = keys;
        while !left.is_empty() {
            let some = &left[..left.len().min(KEYS_AT_ONCE)];
            let (answers, missing) = match self.ask(Request::These(family, set, some))? {
                Asked::Answers(answers) => (answers, 0),
                Asked::Nothing(answers) => (answers, 1),
                Asked::Changed(_) => continue,
            };
            let found = elements_of(answers).map(|element| (element.key, element.data));
            let before = held.len();
            held.extend(found);
            left = &left[(held.len() - before + missing).min(left.len())..];
        }
        Ok(held)
    }

    /// Asks until nobody changes anything while the kernel answers; nothing if there is no such
    /// thing.
    fn ask_again(&mut self, request: Request<'_>) -> Result<Vec<Answer>, Error> {
        self.again(&format!("{request:?}"), |kernel| {
            Ok(match kernel.ask(request)? {
                Asked::Answers(answers) => Some(answers),
                Asked::Nothing(_) => Some(Vec::new()),
                Asked::Changed(_) => None,
            })
        })
    }

    fn again<T>(
        &mut self,
        what: &str,
        mut read: impl FnMut(&mut Self) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..READ_TRIES {
            if let Some(answer) = read(self)? {
                return Ok(answer);
            }
        }
        let reason = format!("others changed tables during all of {READ_TRIES} tries ({what})");
        Err(Error::Answer { doing: "read back our tables", reason })
    }
}

impl Table {
    /// Adds the chains and rules that the kernel tells of.
    fn add(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Chain(name, chain) => {
                    self.chains.entry(name).or_default().base = chain.base;
                }
                Answer::Rule(chain, rule) => self.chains.entry(chain).or_default().rules.push(rule),
                _ => {}
            }
        }
    }
}

fn spec_and_size(answer: Answer) -> Option<(SetSpec, Option<u32>)> {
    if let Answer::Set(_, spec, size) = answer { Some((spec, size)) } else { None }
}

fn elements_of(answers: Vec<Answer>) -> impl Iterator<Item = Element> {
    answers.into_iter().flat_map(|answer| match answer {
        Answer::Elements(elements) => elements,
        _ => Vec::new(),
    })
}

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort<'a> {
    /// All elements of all sets.
    Everything,
    /// What is needed to make the tables equal to these.
    Compare(&'a Ruleset),
}

/// What a set is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted<'a> {
    /// All elements have to be known.
    Everything,
    /// It is enough to know which of these are there, and whether there are others.
    These(&'a Elements),
    /// It is about to be deleted.
    Nothing,
}

impl<'a> Effort<'a> {
    /// For one set, when transactions may have at most `limit` bytes.
    ///
    /// A set that is not read whole may have to be replaced, together with all others: nobody must
    /// find them empty, so that has to be one transaction. And of those sets that tell what an
    /// earlier process served all is read.
    fn wanted(self, family: Family, name: &Name, limit: usize) -> Wanted<'a> {
        let Self::Compare(want) = self else { return Wanted::Everything };
        let Some(table) = want.get(&family) else { return Wanted::Nothing };
        let Some(set) = table.sets.get(name) else { return Wanted::Everything };
        let sets = want.values().flat_map(|table| table.sets.values());
        let bytes = sets.map(|set| Batch::size_of_elements(set.elements.len())).sum::<usize>();
        if bytes > limit || set.spec.interval || is_entry(name) {
            return Wanted::Everything;
        }
        Wanted::These(&set.elements)
    }
}

/// An answer of the kernel.
pub(crate) enum Asked {
    Answers(Vec<Answer>),
    /// Something asked for is not there; what was answered before it.
    Nothing(Vec<Answer>),
    /// The tables changed while it told about them: parts of different states.
    Changed(Vec<Answer>),
}

/// Asks and collects the whole answer.
pub(crate) fn ask(socket: &mut Socket, request: Request<'_>) -> Result<Asked, Error> {
    let doing = "read back our tables";
    let io_error = |source| Error::Io { doing, source };
    let sequence = socket.sequence(1);
    socket.send(&netlink::request(request, sequence)).map_err(io_error)?;
    let mut answers = Vec::new();
    let mut interrupted = false;
    loop {
        let bytes = socket.receive(true).map_err(io_error)?.unwrap_or_default();
        for message in Message::split(bytes).filter(|message| message.sequence == sequence) {
            interrupted |= message.flags & DUMP_INTERRUPTED != 0;
            let done = i32::from(message.kind) == libc::NLMSG_DONE;
            match message.error() {
                _ if done && interrupted => return Ok(Asked::Changed(answers)),
                _ if done => return Ok(Asked::Answers(answers)),
                Some(0) => return Ok(Asked::Answers(answers)),
                Some(code) if -code == libc::ENOENT => return Ok(Asked::Nothing(answers)),
                Some(code) => return Err(io_error(io::Error::from_raw_os_error(-code))),
                None => {
                    let broken = || format!("a broken answer to {request:?}");
                    let answer = netlink::decode(message);
                    answers.push(answer.ok_or_else(|| Error::Answer { doing, reason: broken() })?);
                }
            }
        }
    }
}

/// From here on elements are asked for by key: a dump of so many takes as long, some 150 ms.
const MANY_ELEMENTS: usize = 65_536;
/// Answers that wait at the same time; each takes up to 8 KiB of the receive buffer, which may be as
/// small as 416 KiB.
const KEYS_AT_ONCE: usize = 32;
/// Reading takes milliseconds; so many changes in a row are not honest ones.
const READ_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Data, DataSpec, Field};

    fn set(interval: bool) -> Set {
        let (key, data) = (vec![Field::Number], DataSpec::None);
        let spec = SetSpec { key, data, interval, dynamic: false, counter: false };
        let elements = (0..9_u32).map(|number| (Key::new(&number.to_be_bytes()), Data::None));
        Set { spec, elements: elements.collect(), unread: Unread::None }
    }

    #[test]
    fn a_set_is_read_in_part_only_where_it_could_be_replaced_at_one_stroke() {
        let sets = [("endpoints", false), ("allowed-sources", true), ("rejected", false)];
        let sets = sets.into_iter().map(|(name, interval)| (name.into(), set(interval)));
        let table = Table { sets: sets.collect(), ..Table::default() };
        let want = Ruleset::from([(Family::V4, table)]);
        let wanted = |family, name: &'static str, limit| {
            Effort::Compare(&want).wanted(family, &Name::Borrowed(name), limit)
        };
        let elements = &want[&Family::V4].sets["endpoints"].elements;
        assert_eq!(wanted(Family::V4, "endpoints", usize::MAX), Wanted::These(elements));
        assert_eq!(wanted(Family::V4, "endpoints", 1000), Wanted::Everything, "several strokes");
        assert_eq!(wanted(Family::V4, "allowed-sources", usize::MAX), Wanted::Everything);
        assert_eq!(wanted(Family::V4, "rejected", usize::MAX), Wanted::Everything, "an entry");
        assert_eq!(wanted(Family::V6, "endpoints", usize::MAX), Wanted::Nothing);
    }
}
