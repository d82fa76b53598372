//! Netlink messages of nf_tables and ctnetlink: encoding and decoding, no socket.
//!
//! A message is a header (`struct nlmsghdr`, then `struct nfgenmsg`) and
//! attributes (`struct nlattr`: length, type, value filled to 4 bytes; values of
//! nested attributes are attributes). Numbers in nf_tables attributes are in
//! network order, those in headers in host order.

pub(crate) mod abi;
pub(crate) mod batch;
mod conntrack;
mod dump;
pub(crate) mod event;
pub(crate) mod expression;
#[cfg(test)]
mod round_trip;
mod set;

use model::Family;

pub use batch::encoded;
pub(crate) use batch::{Batch, Described};
pub(crate) use conntrack::{Flow, decode_flow, delete_flow, dump_flows};
pub(crate) use dump::{Answer, Element, Request, decode, request};

/// Messages under construction, one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// A place whose length is filled in later.
#[must_use]
pub(crate) struct Open(usize);

impl Writer {
    /// Begins a message: `struct nlmsghdr` and `struct nfgenmsg`.
    pub(crate) fn begin(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
    ) -> Open {
        let open = Open(self.bytes.len());
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        open
    }

    /// Ends a message.
    pub(crate) fn end(&mut self, open: &Open) {
        let len = u32::try_from(self.bytes.len() - open.0).unwrap_or(u32::MAX);
        self.bytes[open.0..open.0 + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A number in network order.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let len = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.resize((self.bytes.len() + 1).next_multiple_of(4), 0);
    }

    /// Attributes within an attribute.
    pub(crate) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let begin = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NLA_F_NESTED).to_ne_bytes());
        inside(self);
        let len = u16::try_from(self.bytes.len() - begin).unwrap_or(u16::MAX);
        self.bytes[begin..begin + 2].copy_from_slice(&len.to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`.
    pub(crate) sequence: u32,
    /// What follows `struct nlmsghdr`.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits what one receive call returned; stops at the first broken header.
    pub(crate) fn split(mut bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
            let whole = bytes.get(..len).filter(|_| len >= NLMSG_HDRLEN)?;
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some(Self {
                kind: u16_at(whole, 4)?,
                flags: u16_at(whole, 6)?,
                sequence: u32_at(whole, 8)?,
                body: &whole[NLMSG_HDRLEN..],
            })
        })
    }

    /// The error code of an `NLMSG_ERROR`: 0 is an acknowledgement.
    pub(crate) fn error(&self) -> Option<i32> {
        let code = self.body.first_chunk().map(|code| i32::from_ne_bytes(*code));
        code.filter(|_| i32::from(self.kind) == libc::NLMSG_ERROR)
    }

    /// The family in `struct nfgenmsg`.
    pub(crate) fn family(&self) -> Option<Family> {
        let family = self.body.first().copied()?;
        Family::ALL.into_iter().find(|known| protocol_family(*known) == family)
    }

    /// The attributes after `struct nfgenmsg`.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes { bytes: self.body.get(4..).unwrap_or_default() }
    }
}

/// Attributes of a message or of a nested attribute, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The value of the first attribute of a type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(other, _)| *other == kind).map(|(_, value)| value)
    }

    pub(crate) fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self::of)
    }

    /// A number in network order.
    pub(crate) fn number(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn string(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.bytes, 0)?);
        let kind = u16_at(self.bytes, 2)? & NLA_TYPE_MASK;
        let value = self.bytes.get(4..len)?;
        self.bytes = self.bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// As the `nft` program has it.
pub(crate) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6` of `linux/netfilter.h`.
pub(crate) fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|value| u16::from_ne_bytes(*value))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

/// `linux/netlink.h`.
const NLMSG_HDRLEN: usize = 16;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_read_as_written() {
        let mut writer = Writer::default();
        for sequence in [7, 8] {
            let open = writer.begin(0xa03, 5, sequence, 2, 10);
            writer.string(1, "portolan");
            writer.nested(2, |inside| inside.number(3, 0xdead_beef));
            writer.attribute(4, &[1, 2, 3]);
            writer.end(&open);
        }
        let bytes = writer.into_bytes();
        let messages: Vec<_> = Message::split(&bytes).collect();
        assert_eq!(messages.iter().map(|message| message.sequence).collect::<Vec<_>>(), [7, 8]);
        let attributes = messages[1].attributes();
        assert_eq!(messages[1].family(), Some(Family::V4));
        assert_eq!(attributes.string(1), Some("portolan"));
        assert_eq!(attributes.nested(2).and_then(|inside| inside.number(3)), Some(0xdead_beef));
        assert_eq!(attributes.get(4), Some(&[1, 2, 3][..]));
    }

    #[test]
    fn broken_lengths_end_the_reading() {
        let mut writer = Writer::default();
        let open = writer.begin(0, 0, 1, 2, 0);
        writer.number(1, 1);
        writer.end(&open);
        let mut bytes = writer.into_bytes();
        bytes[0] = 200;
        assert_eq!(Message::split(&bytes).count(), 0);
        assert_eq!(Attributes::of(&[200, 0, 1, 0, 9]).count(), 0);
        assert_eq!(Attributes::of(&[2, 0, 1, 0]).count(), 0);
    }
}
