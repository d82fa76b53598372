//! Elements of sets and maps, decoded by the type of their set.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::Family;
use nft::expr::Verdict;
use nft::ruleset::{Data, DataSpec, Field, Key, SetSpec};

/// An element as values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decoded {
    key: Vec<Value>,
    /// The last keys of a range.
    end: Vec<Value>,
    data: Vec<Value>,
    verdict: Option<String>,
}

/// One field of a key or of data.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Address(IpAddr),
    Protocol(u8),
    Port(u16),
    Number(u32),
    Bytes(Vec<u8>),
}

/// What an element's key begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Frontend(IpAddr, u8, u16),
    NodePort(u8, u16),
    Address(IpAddr),
    Other,
}

/// Decodes an element; without its set's type it is bytes.
pub(super) fn decode(spec: Option<&SetSpec>, key: &Key, data: &Data) -> Decoded {
    let fields: &[Field] = spec.map_or(&[], |spec| &spec.key);
    let (values, verdict) = match (data, spec.map(|spec| &spec.data)) {
        (Data::Value(bytes), Some(DataSpec::Fields(fields))) => (values(fields, bytes), None),
        (Data::Value(bytes), _) => (values(&[], bytes), None),
        (Data::Verdict(verdict), _) => (Vec::new(), Some(name(verdict))),
        (Data::None, _) => (Vec::new(), None),
    };
    Decoded {
        key: self::values(fields, &key.start),
        end: key.end.as_deref().map(|end| self::values(fields, end)).unwrap_or_default(),
        data: values,
        verdict,
    }
}

impl Decoded {
    pub(super) fn place(&self, family: Family) -> Place {
        match self.key[..] {
            [Value::Address(ip), Value::Protocol(protocol), Value::Port(port), ..] => {
                Place::Frontend(ip, protocol, port)
            }
            [Value::Protocol(protocol), Value::Port(port), ..] => Place::NodePort(protocol, port),
            [Value::Address(ip)] if Family::of(ip) == family => Place::Address(ip),
            _ => Place::Other,
        }
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, value) in self.key.iter().enumerate() {
            let dot = if position == 0 { "" } else { " . " };
            write!(f, "{dot}{value}")?;
            match self.end.get(position) {
                Some(end) if end != value => write!(f, "-{end}")?,
                _ => {}
            }
        }
        for (position, value) in self.data.iter().enumerate() {
            write!(f, "{}{value}", if position == 0 { " : " } else { " . " })?;
        }
        self.verdict.as_ref().map_or(Ok(()), |verdict| write!(f, " : {verdict}"))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Protocol(number) => f.write_str(&protocol(*number).to_lowercase()),
            Self::Port(port) => write!(f, "{port}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Frontend(ip, number, port) => {
                write!(f, "{}/{}", SocketAddr::new(ip, port), protocol(number))
            }
            Self::NodePort(number, port) => write!(f, "node port {port}/{}", protocol(number)),
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Other => f.write_str("something else"),
        }
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

fn name(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

/// Splits bytes as they lie in registers; what no field tells of stays bytes.
fn values(fields: &[Field], mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    for field in fields {
        let padded = (field.padded() as usize).min(bytes.len());
        let (one, rest) = bytes.split_at(padded);
        values.push(value(*field, one));
        bytes = rest;
    }
    if !bytes.is_empty() {
        values.push(Value::Bytes(bytes.to_vec()));
    }
    values
}

fn value(field: Field, bytes: &[u8]) -> Value {
    let decoded = match field {
        Field::Ipv4 => {
            bytes.first_chunk::<4>().map(|ip| Value::Address(Ipv4Addr::from(*ip).into()))
        }
        Field::Ipv6 => {
            bytes.first_chunk::<16>().map(|ip| Value::Address(Ipv6Addr::from(*ip).into()))
        }
        Field::Proto => bytes.first().map(|number| Value::Protocol(*number)),
        Field::Port => bytes.first_chunk::<2>().map(|port| Value::Port(u16::from_be_bytes(*port))),
        Field::Number => bytes.first_chunk::<4>().map(|n| Value::Number(u32::from_ne_bytes(*n))),
        Field::Foreign(_) => None,
    };
    decoded.unwrap_or_else(|| Value::Bytes(bytes.to_vec()))
}
