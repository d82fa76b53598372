//! Sets and their elements as attributes, and back.

use super::abi::*;
use super::expression::{decode_verdict, encode_verdict};
use super::{Attributes, Writer};
use crate::ruleset::{Data, DataSpec, Field, Key, Life, SetSpec, Traffic};

/// Writes the type of a set. `id` names it within the transaction.
pub(crate) fn encode_spec(writer: &mut Writer, spec: &SetSpec, id: u32) {
    writer.number(NFTA_SET_FLAGS, flags(spec));
    writer.number(NFTA_SET_KEY_TYPE, type_of(&spec.key));
    writer.number(NFTA_SET_KEY_LEN, len_of(&spec.key));
    match &spec.data {
        DataSpec::None => {}
        DataSpec::Fields(fields) => {
            writer.number(NFTA_SET_DATA_TYPE, type_of(fields));
            writer.number(NFTA_SET_DATA_LEN, len_of(fields));
        }
        DataSpec::Verdict => writer.number(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
    }
    writer.number(NFTA_SET_ID, id);
    if spec.counter {
        writer.nested(NFTA_SET_EXPR, |writer| writer.string(NFTA_EXPR_NAME, COUNTER));
    }
    writer.nested(NFTA_SET_DESC, |writer| {
        if spec.dynamic {
            writer.number(NFTA_SET_DESC_SIZE, DYNAMIC_SIZE);
        }
        if spec.counter {
            writer.number(NFTA_SET_DESC_SIZE, COUNTERS_SIZE);
        }
        if spec.interval {
            writer.nested(NFTA_SET_DESC_CONCAT, |writer| {
                for field in &spec.key {
                    writer.nested(NFTA_LIST_ELEM, |writer| {
                        writer.number(NFTA_SET_FIELD_LEN, field.bytes());
                    });
                }
            });
        }
    });
}

/// Reads the type of a set.
pub(crate) fn decode_spec(set: Attributes<'_>) -> Option<SetSpec> {
    let flags = set.number(NFTA_SET_FLAGS).unwrap_or(0);
    let data = match set.number(NFTA_SET_DATA_TYPE) {
        _ if flags & NFT_SET_MAP == 0 => DataSpec::None,
        Some(NFT_DATA_VERDICT) => DataSpec::Verdict,
        other => DataSpec::Fields(fields_of(other?)),
    };
    Some(SetSpec {
        key: fields_of(set.number(NFTA_SET_KEY_TYPE)?),
        data,
        interval: flags & NFT_SET_INTERVAL != 0,
        dynamic: flags & (NFT_SET_EVAL | NFT_SET_TIMEOUT) == NFT_SET_EVAL | NFT_SET_TIMEOUT,
        counter: set
            .nested(NFTA_SET_EXPR)
            .is_some_and(|expression| expression.string(NFTA_EXPR_NAME) == Some(COUNTER)),
    })
}

/// Writes one `NFTA_LIST_ELEM` of a set that counts.
pub(crate) fn encode_counted(writer: &mut Writer, key: &Key, traffic: Traffic) {
    writer.nested(NFTA_LIST_ELEM, |writer| {
        value(writer, NFTA_SET_ELEM_KEY, &key.start);
        writer.nested(NFTA_SET_ELEM_EXPR, |writer| {
            writer.string(NFTA_EXPR_NAME, COUNTER);
            writer.nested(NFTA_EXPR_DATA, |writer| {
                writer.attribute(NFTA_COUNTER_BYTES, &traffic.bytes.to_be_bytes());
                writer.attribute(NFTA_COUNTER_PACKETS, &traffic.packets.to_be_bytes());
            });
        });
    });
}

/// Writes one `NFTA_LIST_ELEM` of a set's elements.
pub(crate) fn encode_element(writer: &mut Writer, key: &Key, data: &Data, life: Option<Life>) {
    writer.nested(NFTA_LIST_ELEM, |writer| {
        if let Some(life) = life {
            writer.attribute(NFTA_SET_ELEM_TIMEOUT, &life.whole.to_be_bytes());
            writer.attribute(NFTA_SET_ELEM_EXPIRATION, &life.left.to_be_bytes());
        }
        value(writer, NFTA_SET_ELEM_KEY, &key.start);
        if let Some(end) = &key.end {
            value(writer, NFTA_SET_ELEM_KEY_END, end);
        }
        match data {
            Data::None => {}
            Data::Value(data) => value(writer, NFTA_SET_ELEM_DATA, data),
            Data::Verdict(verdict) => {
                writer.nested(NFTA_SET_ELEM_DATA, |writer| encode_verdict(writer, verdict));
            }
        }
    });
}

/// How long the element inside an `NFTA_LIST_ELEM` lives.
pub(crate) fn decode_life(element: Attributes<'_>) -> Life {
    let milliseconds = |kind| {
        element.get(kind).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    };
    Life {
        whole: milliseconds(NFTA_SET_ELEM_TIMEOUT),
        left: milliseconds(NFTA_SET_ELEM_EXPIRATION),
    }
}

/// What the element inside an `NFTA_LIST_ELEM` has counted; nothing if it does not count.
pub(crate) fn decode_traffic(element: Attributes<'_>) -> Traffic {
    let counter = element.nested(NFTA_SET_ELEM_EXPR).and_then(|one| one.nested(NFTA_EXPR_DATA));
    let number = |kind| {
        let bytes = counter.and_then(|counter| counter.get(kind));
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    };
    Traffic { packets: number(NFTA_COUNTER_PACKETS), bytes: number(NFTA_COUNTER_BYTES) }
}

/// Reads the element inside an `NFTA_LIST_ELEM`.
pub(crate) fn decode_element(element: Attributes<'_>) -> Option<(Key, Data)> {
    let bytes = |kind| element.nested(kind).and_then(|value| value.get(NFTA_DATA_VALUE));
    let key = Key {
        start: bytes(NFTA_SET_ELEM_KEY)?.into(),
        end: bytes(NFTA_SET_ELEM_KEY_END).map(Into::into),
    };
    let data = match element.nested(NFTA_SET_ELEM_DATA) {
        None => Data::None,
        Some(data) => match data.get(NFTA_DATA_VALUE) {
            Some(value) => Data::Value(value.into()),
            None => Data::Verdict(decode_verdict(data)?),
        },
    };
    Some((key, data))
}

fn value(writer: &mut Writer, kind: u16, bytes: &[u8]) {
    writer.nested(kind, |writer| writer.attribute(NFTA_DATA_VALUE, bytes));
}

fn flags(spec: &SetSpec) -> u32 {
    let map = if spec.data == DataSpec::None { 0 } else { NFT_SET_MAP };
    let interval = if spec.interval { NFT_SET_INTERVAL | NFT_SET_CONCAT } else { 0 };
    let dynamic = if spec.dynamic { NFT_SET_EVAL | NFT_SET_TIMEOUT } else { 0 };
    let counter = if spec.counter { NFT_SET_EVAL } else { 0 };
    map | interval | dynamic | counter
}

/// Types of a concatenation, six bits each, as the `nft` program writes them.
fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |joined, field| joined << TYPE_BITS | type_number(*field))
}

fn fields_of(mut joined: u32) -> Vec<Field> {
    let mut fields = Vec::new();
    while joined != 0 {
        let number = joined & ((1 << TYPE_BITS) - 1);
        let known = FIELDS.into_iter().find(|field| type_number(*field) == number);
        fields.insert(0, known.unwrap_or(Field::Foreign(number)));
        joined >>= TYPE_BITS;
    }
    fields
}

fn len_of(fields: &[Field]) -> u32 {
    match fields {
        [field] => field.bytes(),
        _ => fields.iter().map(|field| field.padded()).sum(),
    }
}

/// `enum datatypes` of nftables' `include/datatype.h`.
fn type_number(field: Field) -> u32 {
    match field {
        Field::Ipv4 => 7,
        Field::Ipv6 => 8,
        Field::Proto => 12,
        Field::Port => 13,
        Field::Number => 19,
        Field::Foreign(number) => number,
    }
}

const FIELDS: [Field; 5] = [Field::Ipv4, Field::Ipv6, Field::Proto, Field::Port, Field::Number];
/// `TYPE_BITS` of nftables' `include/datatype.h`.
const TYPE_BITS: u32 = 6;
/// `linux/net/netfilter/nft_counter.c`.
const COUNTER: &str = "counter";
/// Clients that session affinity remembers at most; the kernel wants a bound.
const DYNAMIC_SIZE: u32 = 1 << 18;
/// Elements of a set that counts: reading so many back takes the kernel some 10 ms, twice as many
/// four times as long.
const COUNTERS_SIZE: u32 = 1 << 14;
