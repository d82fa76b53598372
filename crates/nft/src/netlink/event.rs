//! Events: what a transaction has touched.

use model::Family;

use super::abi::*;
use super::set::decode_element;
use super::{Attributes, Message};
use crate::expr::Name;
use crate::ruleset::{Key, TABLE};

/// One message of a transaction that has taken effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Our table of a family came, went or changed.
    Table(Family),
    /// A chain of it, or a rule in it.
    Chain(Family, Name),
    /// A set of it.
    Set(Family, Name),
    /// Elements of a set.
    Elements(Family, Name, Vec<Key>),
    /// The end of a transaction: the program that sent it and its process.
    End(Option<String>),
    /// Of another table, or of no interest.
    NotOurs,
}

/// Decodes an event; `None` if it is broken.
pub(crate) fn decode_event(message: Message<'_>) -> Option<Event> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Some(Event::NotOurs);
    }
    let attributes = message.attributes();
    let kind = message.kind & 0xff;
    if kind == NFT_MSG_NEWGEN {
        return Some(Event::End(process(attributes)));
    }
    let Some(family) = message.family() else { return Some(Event::NotOurs) };
    // The name of the table has the same number, 1, in all these messages.
    if attributes.string(NFTA_TABLE_NAME)? != TABLE {
        return Some(Event::NotOurs);
    }
    let name = |kind| attributes.string(kind).map(|name| Name::Owned(name.to_owned()));
    Some(match kind {
        NFT_MSG_NEWTABLE | NFT_MSG_DELTABLE => Event::Table(family),
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => Event::Chain(family, name(NFTA_CHAIN_NAME)?),
        NFT_MSG_NEWRULE | NFT_MSG_DELRULE => Event::Chain(family, name(NFTA_RULE_CHAIN)?),
        NFT_MSG_NEWSET | NFT_MSG_DELSET => Event::Set(family, name(NFTA_SET_NAME)?),
        NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM => {
            let elements = attributes.nested(NFTA_SET_ELEM_LIST_ELEMENTS)?.into_iter();
            let keys = elements
                .map(|(_, element)| decode_element(Attributes::of(element)).map(|(key, _)| key));
            Event::Elements(family, name(NFTA_SET_ELEM_LIST_SET)?, keys.collect::<Option<_>>()?)
        }
        // Named counters and the like do nothing until a rule uses them.
        _ => Event::NotOurs,
    })
}

fn process(generation: Attributes<'_>) -> Option<String> {
    let name = generation.string(NFTA_GEN_PROC_NAME)?;
    let pid = generation.number(NFTA_GEN_PROC_PID)?;
    Some(format!("{name} (process {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Batch;
    use crate::ruleset::{Data, Op};

    fn events(operation: Op) -> Vec<Option<Event>> {
        let batches = Batch::encode(&[operation], 1, usize::MAX);
        let messages = Message::split(&batches[0].bytes).filter(|message| message.kind >> 8 != 0);
        messages.map(decode_event).collect()
    }

    #[test]
    fn an_event_says_what_was_touched() {
        // What the kernel tells has the form of what it was sent.
        let set = || Name::Borrowed("s");
        let key = Key::new(&[1, 2, 3, 4]);
        let elements = vec![(key.clone(), Data::None)];
        let touched = |operation| match &events(operation)[..] {
            [Some(event)] => event.clone(),
            other => panic!("{other:?}"),
        };
        let family = Family::V6;
        assert_eq!(touched(Op::DeleteTable(family)), Event::Table(family));
        assert_eq!(touched(Op::FlushChain(family, "c".into())), Event::Chain(family, "c".into()));
        assert_eq!(touched(Op::DeleteSet(family, set())), Event::Set(family, set()));
        assert_eq!(
            touched(Op::AddElements(family, set(), elements)),
            Event::Elements(family, set(), vec![key])
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        // No kernel tells of elements without naming any.
        assert_eq!(events(Op::FlushSet(Family::V4, "s".into())), [None]);
    }
}
