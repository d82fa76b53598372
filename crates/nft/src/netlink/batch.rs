//! Operations as transactions: batch begin, messages, batch end.

use std::fmt;

use model::Family;

use super::abi::*;
use super::expression;
use super::set::{encode_counted, encode_element, encode_spec};
use super::{Open, Writer, family_name, protocol_family};
use crate::dataplane::Sent;
use crate::expr::Name;
use crate::ruleset::{
    Base, ChainKind, Data, Hook, Key, Life, Op, Policy, Rule, SetSpec, TABLE, Traffic,
};

/// One transaction, ready to send.
pub(crate) struct Batch {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Sequence number of batch begin; messages follow in steps of one.
    pub(crate) first: u32,
    /// For each message the operation that it belongs to.
    pub(crate) operations: Vec<usize>,
}

impl Batch {
    /// Encodes all operations, as one transaction unless it would be longer than `limit` bytes.
    /// `sequence` is the first free sequence number.
    pub(crate) fn encode<'a>(
        operations: impl IntoIterator<Item = &'a Op>,
        mut sequence: u32,
        limit: usize,
    ) -> Vec<Self> {
        let mut batches = Vec::new();
        let mut encoder = Encoder::new(sequence);
        for (index, operation) in operations.into_iter().enumerate() {
            for part in parts(operation) {
                if encoder.writer.len() + part.size() > limit && !encoder.operations.is_empty() {
                    sequence = encoder.sequence + 2;
                    batches.push(std::mem::replace(&mut encoder, Encoder::new(sequence)).finish());
                }
                encoder.operations.push(index);
                encoder.message(&part);
            }
        }
        if !encoder.operations.is_empty() {
            batches.push(encoder.finish());
        }
        batches
    }

    /// Upper bound of the bytes that so many elements of one set take in a transaction.
    pub(crate) fn size_of_elements(count: usize) -> usize {
        count * ELEMENT_BYTES + WHOLE_BYTES * count.div_ceil(ELEMENTS_PER_MESSAGE)
    }

    /// The first sequence number after it.
    pub(crate) fn next_sequence(&self) -> u32 {
        let messages = u32::try_from(self.operations.len()).unwrap_or(u32::MAX);
        self.first.wrapping_add(messages).wrapping_add(2)
    }
}

/// What operations cost as one transaction, without sending it.
pub fn encoded(operations: &[Op]) -> Sent {
    let batches = Batch::encode(operations, 1, usize::MAX);
    Sent {
        messages: batches.iter().map(|batch| batch.operations.len()).sum(),
        bytes: batches.iter().map(|batch| batch.bytes.len()).sum(),
        disturbed: false,
    }
}

/// An operation in words, for errors.
pub(crate) struct Described<'a>(pub(crate) &'a Op);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, family, name) = match self.0 {
            Op::AddTable(family) => ("add table", family, None),
            Op::DeleteTable(family) => ("delete table", family, None),
            Op::AddChain(family, name, _) => ("add chain", family, Some(name)),
            Op::FlushChain(family, name) => ("flush chain", family, Some(name)),
            Op::DeleteChain(family, name) => ("delete chain", family, Some(name)),
            Op::AddRule(family, name, _) => ("add a rule to chain", family, Some(name)),
            Op::AddSet(family, name, _) => ("add set", family, Some(name)),
            Op::FlushSet(family, name) => ("flush set", family, Some(name)),
            Op::DeleteSet(family, name) => ("delete set", family, Some(name)),
            Op::AddElements(family, name, _) => ("add elements to set", family, Some(name)),
            Op::AddTimed(family, name, _) => ("add timed elements to set", family, Some(name)),
            Op::AddCounted(family, name, _) => ("add counters to set", family, Some(name)),
            Op::DeleteElements(family, name, _) => ("delete elements of set", family, Some(name)),
        };
        write!(f, "{verb} {} {TABLE}", family_name(*family))?;
        name.map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// What fits into one message: an operation, or some of its elements.
enum Part<'a> {
    Whole(&'a Op),
    Add(Family, &'a Name, &'a [(Key, Data)]),
    AddTimed(Family, &'a Name, &'a [(Key, Data, Life)]),
    AddCounted(Family, &'a Name, &'a [(Key, Traffic)]),
    Delete(Family, &'a Name, &'a [Key]),
}

impl Part<'_> {
    /// Upper bound of its bytes.
    fn size(&self) -> usize {
        match self {
            Self::Whole(_) => WHOLE_BYTES,
            Self::Add(_, _, elements) => elements.len() * ELEMENT_BYTES + WHOLE_BYTES,
            Self::AddTimed(_, _, elements) => elements.len() * ELEMENT_BYTES + WHOLE_BYTES,
            Self::AddCounted(_, _, elements) => elements.len() * ELEMENT_BYTES + WHOLE_BYTES,
            Self::Delete(_, _, keys) => keys.len() * ELEMENT_BYTES + WHOLE_BYTES,
        }
    }
}

fn parts(operation: &Op) -> Box<dyn Iterator<Item = Part<'_>> + '_> {
    match operation {
        Op::AddElements(family, set, elements) => {
            let chunks = elements.chunks(ELEMENTS_PER_MESSAGE);
            Box::new(chunks.map(|chunk| Part::Add(*family, set, chunk)))
        }
        Op::AddTimed(family, set, elements) => {
            let chunks = elements.chunks(ELEMENTS_PER_MESSAGE);
            Box::new(chunks.map(|chunk| Part::AddTimed(*family, set, chunk)))
        }
        Op::AddCounted(family, set, elements) => {
            let chunks = elements.chunks(ELEMENTS_PER_MESSAGE);
            Box::new(chunks.map(|chunk| Part::AddCounted(*family, set, chunk)))
        }
        Op::DeleteElements(family, set, keys) => {
            let chunks = keys.chunks(ELEMENTS_PER_MESSAGE);
            Box::new(chunks.map(|chunk| Part::Delete(*family, set, chunk)))
        }
        whole => Box::new(std::iter::once(Part::Whole(whole))),
    }
}

struct Encoder {
    writer: Writer,
    first: u32,
    sequence: u32,
    operations: Vec<usize>,
    /// Where the flags of the last message are.
    last: usize,
}

impl Encoder {
    fn new(first: u32) -> Self {
        let mut writer = Writer::default();
        let begin = writer.begin(NFNL_MSG_BATCH_BEGIN, REQUEST, first, 0, NFNL_SUBSYS_NFTABLES);
        writer.end(&begin);
        Self { writer, first, sequence: first, operations: Vec::new(), last: 0 }
    }

    fn finish(mut self) -> Batch {
        let end = self.writer.begin(
            NFNL_MSG_BATCH_END,
            REQUEST,
            self.sequence + 1,
            0,
            NFNL_SUBSYS_NFTABLES,
        );
        self.writer.end(&end);
        let mut bytes = self.writer.into_bytes();
        // The acknowledgement of the last message says that all have been committed.
        let flags = self.last + NLMSG_FLAGS_AT;
        let old = u16::from_ne_bytes([bytes[flags], bytes[flags + 1]]);
        bytes[flags..flags + 2].copy_from_slice(&(old | ACK).to_ne_bytes());
        Batch { bytes, first: self.first, operations: self.operations }
    }

    fn message(&mut self, part: &Part<'_>) {
        match part {
            Part::Add(family, set, elements) => {
                self.elements(NFT_MSG_NEWSETELEM, *family, set, |writer| {
                    elements.iter().for_each(|(key, data)| encode_element(writer, key, data, None));
                });
            }
            Part::AddTimed(family, set, elements) => {
                self.elements(NFT_MSG_NEWSETELEM, *family, set, |writer| {
                    for (key, data, life) in *elements {
                        encode_element(writer, key, data, Some(*life));
                    }
                });
            }
            Part::AddCounted(family, set, elements) => {
                self.elements(NFT_MSG_NEWSETELEM, *family, set, |writer| {
                    for (key, traffic) in *elements {
                        encode_counted(writer, key, *traffic);
                    }
                });
            }
            Part::Delete(family, set, keys) => {
                self.elements(NFT_MSG_DELSETELEM, *family, set, |writer| {
                    keys.iter().for_each(|key| encode_element(writer, key, &Data::None, None));
                });
            }
            Part::Whole(operation) => self.whole(operation),
        }
    }

    fn whole(&mut self, operation: &Op) {
        match operation {
            Op::AddTable(family) => {
                self.put(NFT_MSG_NEWTABLE, NEW, *family, |writer| {
                    writer.string(NFTA_TABLE_NAME, TABLE);
                    // Wakes one that is dormant.
                    writer.number(NFTA_TABLE_FLAGS, 0);
                });
            }
            Op::DeleteTable(family) => {
                self.put(NFT_MSG_DELTABLE, REQUEST, *family, |w| w.string(NFTA_TABLE_NAME, TABLE));
            }
            Op::AddChain(family, name, base) => {
                self.put(NFT_MSG_NEWCHAIN, NEW, *family, |w| chain(w, name, base.as_ref()));
            }
            Op::DeleteChain(family, name) => {
                self.put(NFT_MSG_DELCHAIN, REQUEST, *family, |w| chain(w, name, None));
            }
            Op::FlushChain(family, name) => {
                self.put(NFT_MSG_DELRULE, REQUEST, *family, |w| rule(w, name, None));
            }
            Op::AddRule(family, name, expressions) => {
                let flags = NEW | flag(libc::NLM_F_APPEND);
                self.put(NFT_MSG_NEWRULE, flags, *family, |w| rule(w, name, Some(expressions)));
            }
            Op::AddSet(family, name, spec) => {
                let id = self.sequence;
                self.put(NFT_MSG_NEWSET, NEW, *family, |w| set(w, name, Some((spec, id))));
            }
            Op::FlushSet(family, name) => {
                self.put(NFT_MSG_DELSETELEM, REQUEST, *family, |writer| {
                    writer.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
                    writer.string(NFTA_SET_ELEM_LIST_SET, name);
                });
            }
            Op::DeleteSet(family, name) => {
                self.put(NFT_MSG_DELSET, REQUEST, *family, |w| set(w, name, None));
            }
            Op::AddElements(..)
            | Op::AddTimed(..)
            | Op::AddCounted(..)
            | Op::DeleteElements(..) => {}
        }
    }

    fn elements(
        &mut self,
        kind: u16,
        family: Family,
        set: &Name,
        inside: impl FnOnce(&mut Writer),
    ) {
        // An element that is there already means that somebody else changed the set.
        let flags = if kind == NFT_MSG_NEWSETELEM { NEW | flag(libc::NLM_F_EXCL) } else { REQUEST };
        self.put(kind, flags, family, |writer| {
            writer.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            writer.string(NFTA_SET_ELEM_LIST_SET, set);
            writer.nested(NFTA_SET_ELEM_LIST_ELEMENTS, inside);
        });
    }

    fn put(&mut self, kind: u16, flags: u16, family: Family, inside: impl FnOnce(&mut Writer)) {
        self.sequence = self.sequence.wrapping_add(1);
        self.last = self.writer.len();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let open: Open = self.writer.begin(kind, flags, self.sequence, protocol_family(family), 0);
        inside(&mut self.writer);
        self.writer.end(&open);
    }
}

fn chain(writer: &mut Writer, name: &Name, base: Option<&Base>) {
    writer.string(NFTA_CHAIN_TABLE, TABLE);
    writer.string(NFTA_CHAIN_NAME, name);
    let Some(base) = base else { return };
    writer.nested(NFTA_CHAIN_HOOK, |writer| {
        writer.number(NFTA_HOOK_HOOKNUM, hook_number(base.hook));
        writer.attribute(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
    });
    writer.attribute(NFTA_CHAIN_POLICY, &policy_number(base.policy).to_be_bytes());
    writer.string(NFTA_CHAIN_TYPE, kind_name(base.kind));
}

fn rule(writer: &mut Writer, chain: &Name, expressions: Option<&Rule>) {
    writer.string(NFTA_RULE_TABLE, TABLE);
    writer.string(NFTA_RULE_CHAIN, chain);
    if let Some(expressions) = expressions {
        writer.nested(NFTA_RULE_EXPRESSIONS, |writer| {
            expressions.iter().for_each(|expr| expression::encode(writer, expr));
        });
    }
}

fn set(writer: &mut Writer, name: &Name, spec: Option<(&SetSpec, u32)>) {
    writer.string(NFTA_SET_TABLE, TABLE);
    writer.string(NFTA_SET_NAME, name);
    if let Some((spec, id)) = spec {
        encode_spec(writer, spec, id);
    }
}

/// `enum nf_inet_hooks` of `linux/netfilter.h`.
pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

pub(crate) fn policy_number(policy: Policy) -> i32 {
    match policy {
        Policy::Accept => NF_ACCEPT,
        Policy::Drop => NF_DROP,
    }
}

pub(crate) fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

/// libc gives the flags of `linux/netlink.h` as `c_int`; all fit into the header's 16 bits.
const fn flag(flag: libc::c_int) -> u16 {
    flag.to_le_bytes()[0] as u16 | (flag.to_le_bytes()[1] as u16) << 8
}

pub(crate) const REQUEST: u16 = flag(libc::NLM_F_REQUEST);
pub(crate) const ACK: u16 = flag(libc::NLM_F_ACK);
pub(crate) const DUMP: u16 = flag(libc::NLM_F_DUMP);
pub(crate) const DUMP_INTERRUPTED: u16 = flag(libc::NLM_F_DUMP_INTR);
pub(crate) const NEW: u16 = REQUEST | flag(libc::NLM_F_CREATE);
/// Offset of `nlmsg_flags` in `struct nlmsghdr`.
const NLMSG_FLAGS_AT: usize = 6;
/// A nested attribute holds at most 64 KiB; the longest element (an IPv6 range) takes 156 bytes.
const ELEMENTS_PER_MESSAGE: usize = 256;
const ELEMENT_BYTES: usize = 160;
/// More than any message without elements takes.
const WHOLE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Message;

    fn elements(count: u32) -> Op {
        let element = |number: u32| (Key::new(&number.to_be_bytes()), Data::None);
        Op::AddElements(Family::V4, "s".into(), (0..count).map(element).collect())
    }

    #[test]
    fn a_transaction_is_framed_and_its_last_message_acknowledged() {
        let operations = [Op::AddTable(Family::V4), elements(300)];
        let batches = Batch::encode(&operations, 10, usize::MAX);
        let [batch] = &batches[..] else { panic!("one transaction") };
        assert_eq!(batch.operations, [0, 1, 1]);
        assert_eq!(batch.next_sequence(), 15);
        let messages: Vec<_> = Message::split(&batch.bytes).collect();
        assert_eq!(
            messages.iter().map(|message| message.sequence).collect::<Vec<_>>(),
            [10, 11, 12, 13, 14]
        );
        assert_eq!(messages[0].kind, NFNL_MSG_BATCH_BEGIN);
        assert_eq!(messages[4].kind, NFNL_MSG_BATCH_END);
        let acknowledged = messages.iter().map(|message| message.flags & ACK != 0);
        assert_eq!(acknowledged.collect::<Vec<_>>(), [false, false, false, true, false]);
    }

    #[test]
    fn a_limit_splits_between_messages() {
        let batches = Batch::encode(&[elements(1000)], 1, 50_000);
        assert!(batches.len() > 1);
        assert!(batches.iter().all(|batch| batch.bytes.len() <= 50_000));
        let starts = batches.windows(2).all(|pair| pair[0].next_sequence() == pair[1].first);
        assert!(starts, "sequence numbers go on");
    }

    #[test]
    fn operations_are_named_in_errors() {
        let op = Op::AddChain(Family::V6, "services".into(), None);
        assert_eq!(Described(&op).to_string(), "add chain ip6 portolan services");
        assert_eq!(Described(&Op::DeleteTable(Family::V4)).to_string(), "delete table ip portolan");
    }
}
