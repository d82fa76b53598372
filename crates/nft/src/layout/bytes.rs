//! Keys and data, laid out as in registers: every field begins on 32 bits.

use std::net::IpAddr;

use model::{Port, Protocol};

use crate::ruleset::{Data, Key};

/// Bytes of a concatenation under construction.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    pub(crate) fn address(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.0.extend(address.octets()),
            IpAddr::V6(address) => self.0.extend(address.octets()),
        }
        self
    }

    pub(crate) fn protocol(&mut self, protocol: Protocol) -> &mut Self {
        self.0.extend([protocol.number(), 0, 0, 0]);
        self
    }

    pub(crate) fn port(&mut self, port: Port) -> &mut Self {
        self.0.extend(port.get().to_be_bytes());
        self.0.extend([0, 0]);
        self
    }

    /// A number in host order (`mark` for the `nft` program).
    pub(crate) fn number(&mut self, number: u32) -> &mut Self {
        self.0.extend(number.to_ne_bytes());
        self
    }

    pub(crate) fn append(&mut self, other: &Self) -> &mut Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(&self.0)
    }

    pub(crate) fn key_to(&self, end: &Self) -> Key {
        Key { start: self.0.as_slice().into(), end: Some(end.0.as_slice().into()) }
    }

    pub(crate) fn data(&self) -> Data {
        Data::Value(self.0.as_slice().into())
    }
}
