//! Small parsers: what does not parse is absent.

use std::net::IpAddr;
use std::num::NonZeroU16;

use model::{IpNet, Name, Protocol, TargetRef, Timestamp};
use serde_json::Value;

use crate::rules::fields::Fields;
use crate::rules::ip;

/// An address, as old clients may have written it.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    ip::parse_sloppy(text.trim()).map(ip::unmapped)
}

/// A CIDR, as old clients may have written it, without host bits.
pub(super) fn cidr(text: &str) -> Option<IpNet> {
    ip::parse_cidr_sloppy(text.trim()).map(|net| net.trunc())
}

/// A port number, 1 to 65535.
pub(super) fn port(value: &Value) -> Option<NonZeroU16> {
    NonZeroU16::new(u16::try_from(value.as_i64()?).ok()?)
}

/// A protocol; absent is TCP.
pub(super) fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// A text that is not empty.
pub(super) fn name(value: &Value) -> Option<Name> {
    value.as_str().filter(|text| !text.is_empty()).map(Name::from)
}

/// An RFC 3339 time.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(parsed.as_microsecond()))
}

/// A `targetRef` with at least a kind and a name.
pub(super) fn target(value: &Value) -> Option<TargetRef> {
    Some(TargetRef {
        kind: name(value.at("/kind"))?,
        namespace: value.text("/namespace").into(),
        name: name(value.at("/name"))?,
        uid: value.text("/uid").into(),
    })
}

/// The entry of `status.conditions` of this type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.list("/status/conditions").iter().find(|condition| condition.text("/type") == kind)
}
