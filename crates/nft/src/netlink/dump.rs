//! Reading tables back: requests, and what the kernel answers.

use model::Family;

use super::abi::*;
use super::batch::{ACK, DUMP, REQUEST, hook_number, kind_name};
use super::set::{decode_element, decode_life, decode_spec, decode_traffic, encode_element};
use super::{Attributes, Message, Writer, expression, protocol_family};
use crate::expr::Name;
use crate::ruleset::{
    Base, Chain, ChainKind, Data, Hook, Key, Life, Policy, Rule, SetSpec, TABLE, Traffic,
};

/// A question to nf_tables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// The generation: changes with every transaction of anybody.
    Generation,
    /// Whether our table of a family is there.
    Table(Family),
    /// Its chains.
    Chains(Family),
    /// One of them.
    Chain(Family, &'a str),
    /// The rules of all its chains.
    Rules(Family),
    /// The rules of one chain.
    RulesOf(Family, &'a str),
    /// Its sets.
    Sets(Family),
    /// One of them.
    Set(Family, &'a str),
    /// The elements of a set.
    Elements(Family, &'a str),
    /// Some of them, by key: answered in the same order up to the first that is not there, which is
    /// an error.
    These(Family, &'a str, &'a [&'a Key]),
}

/// One message of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The generation.
    Generation(u32),
    /// The table is there, and whether it is dormant.
    Table(bool),
    /// A chain, without its rules.
    Chain(Name, Chain),
    /// A rule of a chain.
    Rule(Name, Rule),
    /// A set, without its elements, and how many it has: kernels before 6.16 do not tell.
    Set(Name, SetSpec, Option<u32>),
    /// Elements.
    Elements(Vec<Element>),
    /// Belongs to another table, or is of no interest.
    NotOurs,
}

/// One element of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    pub(crate) key: Key,
    pub(crate) data: Data,
    pub(crate) traffic: Traffic,
    pub(crate) life: Life,
}

/// Encodes a question.
pub(crate) fn request(request: Request<'_>, sequence: u32) -> Vec<u8> {
    let (kind, flags, family) = match request {
        Request::Generation => (NFT_MSG_GETGEN, ACK, None),
        Request::Table(family) => (NFT_MSG_GETTABLE, ACK, Some(family)),
        Request::Chains(family) => (NFT_MSG_GETCHAIN, DUMP, Some(family)),
        Request::Chain(family, _) => (NFT_MSG_GETCHAIN, ACK, Some(family)),
        Request::Rules(family) | Request::RulesOf(family, _) => {
            (NFT_MSG_GETRULE, DUMP, Some(family))
        }
        Request::Sets(family) => (NFT_MSG_GETSET, DUMP, Some(family)),
        Request::Set(family, _) => (NFT_MSG_GETSET, ACK, Some(family)),
        Request::Elements(family, _) => (NFT_MSG_GETSETELEM, DUMP, Some(family)),
        Request::These(family, ..) => (NFT_MSG_GETSETELEM, ACK, Some(family)),
    };
    let mut writer = Writer::default();
    let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
    let open = writer.begin(kind, REQUEST | flags, sequence, family.map_or(0, protocol_family), 0);
    match request {
        Request::Generation | Request::Chains(_) => {}
        Request::Table(_) => writer.string(NFTA_TABLE_NAME, TABLE),
        Request::Chain(_, chain) => {
            writer.string(NFTA_CHAIN_TABLE, TABLE);
            writer.string(NFTA_CHAIN_NAME, chain);
        }
        Request::Rules(_) => writer.string(NFTA_RULE_TABLE, TABLE),
        Request::RulesOf(_, chain) => {
            writer.string(NFTA_RULE_TABLE, TABLE);
            writer.string(NFTA_RULE_CHAIN, chain);
        }
        Request::Sets(_) => writer.string(NFTA_SET_TABLE, TABLE),
        Request::Set(_, set) => {
            writer.string(NFTA_SET_TABLE, TABLE);
            writer.string(NFTA_SET_NAME, set);
        }
        Request::Elements(_, set) | Request::These(_, set, _) => {
            writer.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            writer.string(NFTA_SET_ELEM_LIST_SET, set);
        }
    }
    if let Request::These(_, _, keys) = request {
        writer.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |writer| {
            keys.iter().for_each(|key| encode_element(writer, key, &Data::None, None));
        });
    }
    writer.end(&open);
    writer.into_bytes()
}

/// Decodes one message of an answer; `None` if it is broken.
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
        NFT_MSG_NEWTABLE => {
            let flags = attributes.number(NFTA_TABLE_FLAGS).unwrap_or(0);
            Some(Answer::Table(flags & NFT_TABLE_F_DORMANT != 0))
        }
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
            Some(Answer::Set(name, decode_spec(attributes)?, attributes.number(NFTA_SET_COUNT)))
        }
        NFT_MSG_NEWSETELEM => {
            let elements = attributes.nested(NFTA_SET_ELEM_LIST_ELEMENTS).into_iter().flatten();
            elements
                .map(|(_, element)| {
                    let element = Attributes::of(element);
                    let (key, data) = decode_element(element)?;
                    let (traffic, life) = (decode_traffic(element), decode_life(element));
                    Some(Element { key, data, traffic, life })
                })
                .collect::<Option<_>>()
                .map(Answer::Elements)
        }
        _ => Some(Answer::NotOurs),
    }
}

fn base(chain: Attributes<'_>, hook: Attributes<'_>) -> Option<Base> {
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let number = hook.number(NFTA_HOOK_HOOKNUM)?;
    let kind = chain.string(NFTA_CHAIN_TYPE)?;
    let drops = chain.number(NFTA_CHAIN_POLICY) == u32::try_from(NF_DROP).ok();
    Some(Base {
        kind: [ChainKind::Filter, ChainKind::Nat]
            .into_iter()
            .find(|known| kind_name(*known) == kind)?,
        hook: hooks.into_iter().find(|known| hook_number(*known) == number)?,
        priority: i32::from_be_bytes(hook.get(NFTA_HOOK_PRIORITY)?.try_into().ok()?),
        policy: if drops { Policy::Drop } else { Policy::Accept },
    })
}
