//! Reading tables back: requests, and what the kernel answers.

use model::Family;

use super::abi::*;
use super::batch::{ACK, DUMP, REQUEST, hook_number, kind_name};
use super::set::{decode_count, decode_element, decode_life, decode_spec};
use super::{Attributes, Message, Writer, expression, protocol_family};
use crate::expr::Name;
use crate::ruleset::{Base, Chain, ChainKind, Data, Hook, Key, Life, Rule, SetSpec, TABLE};

/// A question to nf_tables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// The generation: changes with every transaction of anybody.
    Generation,
    /// Whether our table of a family is there.
    Table(Family),
    /// Its chains.
    Chains(Family),
    /// The rules of all its chains.
    Rules(Family),
    /// Its sets.
    Sets(Family),
    /// The elements of a set.
    Elements(Family, &'a str),
}

/// One message of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The generation.
    Generation(u32),
    /// The table is there.
    Table,
    /// A chain, without its rules.
    Chain(Name, Chain),
    /// A rule of a chain.
    Rule(Name, Rule),
    /// A set, without its elements.
    Set(Name, SetSpec),
    /// Elements.
    Elements(Vec<Element>),
    /// Something of ours has been deleted (events only).
    Gone,
    /// Belongs to another table.
    NotOurs,
}

/// One element of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    pub(crate) key: Key,
    pub(crate) data: Data,
    /// How many packets have found it, if it counts.
    pub(crate) count: u64,
    pub(crate) life: Life,
}

impl Answer {
    /// Whether it is about our table.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::NotOurs | Self::Generation(_))
    }
}

/// Encodes a question.
pub(crate) fn request(request: Request<'_>, sequence: u32) -> Vec<u8> {
    let (kind, flags, family) = match request {
        Request::Generation => (NFT_MSG_GETGEN, ACK, None),
        Request::Table(family) => (NFT_MSG_GETTABLE, ACK, Some(family)),
        Request::Chains(family) => (NFT_MSG_GETCHAIN, DUMP, Some(family)),
        Request::Rules(family) => (NFT_MSG_GETRULE, DUMP, Some(family)),
        Request::Sets(family) => (NFT_MSG_GETSET, DUMP, Some(family)),
        Request::Elements(family, _) => (NFT_MSG_GETSETELEM, DUMP, Some(family)),
    };
    let mut writer = Writer::default();
    let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
    let open = writer.begin(kind, REQUEST | flags, sequence, family.map_or(0, protocol_family), 0);
    match request {
        Request::Generation | Request::Chains(_) => {}
        Request::Table(_) => writer.string(NFTA_TABLE_NAME, TABLE),
        Request::Rules(_) => writer.string(NFTA_RULE_TABLE, TABLE),
        Request::Sets(_) => writer.string(NFTA_SET_TABLE, TABLE),
        Request::Elements(_, set) => {
            writer.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            writer.string(NFTA_SET_ELEM_LIST_SET, set);
        }
    }
    writer.end(&open);
    writer.into_bytes()
}

/// Decodes one message of an answer or of an event; `None` if it is broken.
pub(crate) fn decode(message: Message<'_>) -> Option<Answer> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Some(Answer::NotOurs);
    }
    let attributes = message.attributes();
    let kind = message.kind & 0xff;
    if kind == NFT_MSG_NEWGEN {
        return attributes.number(NFTA_GEN_ID).map(Answer::Generation);
    }
    // The name of the table has the same number, 1, in all these messages.
    if message.family().is_none() || attributes.string(NFTA_TABLE_NAME) != Some(TABLE) {
        return Some(Answer::NotOurs);
    }
    match kind {
        NFT_MSG_NEWTABLE => Some(Answer::Table),
        NFT_MSG_NEWCHAIN => {
            let name = attributes.string(NFTA_CHAIN_NAME)?.to_owned().into();
            let base = match attributes.nested(NFTA_CHAIN_HOOK) {
                None => None,
                Some(hook) => Some(base(attributes, hook)?),
            };
            Some(Answer::Chain(name, Chain { base, rules: Vec::new() }))
        }
        NFT_MSG_NEWRULE => {
            let chain = attributes.string(NFTA_RULE_CHAIN)?.to_owned().into();
            let expressions = attributes.nested(NFTA_RULE_EXPRESSIONS);
            let elements = expressions.into_iter().flatten();
            let rule = elements.map(|(_, element)| expression::decode(Attributes::of(element)));
            Some(Answer::Rule(chain, rule.collect()))
        }
        NFT_MSG_NEWSET => {
            let name = attributes.string(NFTA_SET_NAME)?.to_owned().into();
            Some(Answer::Set(name, decode_spec(attributes)?))
        }
        NFT_MSG_NEWSETELEM => {
            let elements = attributes.nested(NFTA_SET_ELEM_LIST_ELEMENTS).into_iter().flatten();
            elements
                .map(|(_, element)| {
                    let element = Attributes::of(element);
                    let (key, data) = decode_element(element)?;
                    let (count, life) = (decode_count(element), decode_life(element));
                    Some(Element { key, data, count, life })
                })
                .collect::<Option<_>>()
                .map(Answer::Elements)
        }
        _ => Some(Answer::Gone),
    }
}

fn base(chain: Attributes<'_>, hook: Attributes<'_>) -> Option<Base> {
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let number = hook.number(NFTA_HOOK_HOOKNUM)?;
    let kind = chain.string(NFTA_CHAIN_TYPE)?;
    Some(Base {
        kind: [ChainKind::Filter, ChainKind::Nat]
            .into_iter()
            .find(|known| kind_name(*known) == kind)?,
        hook: hooks.into_iter().find(|known| hook_number(*known) == number)?,
        priority: i32::from_be_bytes(hook.get(NFTA_HOOK_PRIORITY)?.try_into().ok()?),
    })
}
