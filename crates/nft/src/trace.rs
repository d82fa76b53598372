//! Executes rules on a packet as nf_tables does: registers, sets, jumps, hooks.
//!
//! It knows expressions and nothing of Services: what it finds out is what the
//! rules say, not what they were meant to say.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use model::{Family, Packet};

use crate::expr::{
    CT_STATE_NEW, CT_STATUS_DNAT, CmpOp, CtKey, Expr, FibAddress, Found, Header, MetaKey, Name,
    RTN_LOCAL, Reg, Verdict,
};
use crate::fake::Memory;
use crate::ruleset::{Chain, Data, DataSpec, Hook, Key, Rule, Set, Table};

/// One way of a packet through the node.
pub(crate) struct Traced {
    pub(crate) run: Run,
    /// How many different numbers could have been drawn.
    pub(crate) choices: u32,
    pub(crate) memory: Memory,
}

/// Its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Run {
    Delivered { endpoint: SocketAddr, masquerade: bool },
    Rejected,
    Dropped,
    Untouched,
}

/// A packet on its way.
pub(crate) struct Tracer<'a> {
    table: Option<&'a Table>,
    local: &'a BTreeSet<IpAddr>,
    memory: Memory,
    draw: u32,
    choices: u32,
    family: Family,
    from_node: bool,
    interface: String,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
    /// The destination before translation.
    original: SocketAddr,
    mark: u32,
    translated: bool,
    masquerade: bool,
    registers: [u8; 64],
}

impl<'a> Tracer<'a> {
    pub(crate) fn new(
        table: Option<&'a Table>,
        local: &'a BTreeSet<IpAddr>,
        memory: Memory,
        packet: &Packet,
        draw: u32,
    ) -> Self {
        Self {
            table,
            local,
            memory,
            draw,
            choices: 1,
            family: Family::of(packet.destination.ip()),
            from_node: packet.from_node,
            interface: packet.interface.clone(),
            protocol: packet.protocol.number(),
            source: packet.source,
            destination: packet.destination,
            original: packet.destination,
            mark: 0,
            translated: false,
            masquerade: false,
            registers: [0; 64],
        }
    }

    pub(crate) fn run(mut self) -> Traced {
        let run = match self.hooks() {
            Some(end) => end,
            None if self.translated => {
                Run::Delivered { endpoint: self.destination, masquerade: self.masquerade }
            }
            None => Run::Untouched,
        };
        Traced { run, choices: self.choices, memory: self.memory }
    }

    /// `None` when the packet reaches its destination.
    fn hooks(&mut self) -> Option<Run> {
        if self.from_node {
            return self.hook(Hook::Output).or_else(|| self.hook(Hook::Postrouting));
        }
        self.hook(Hook::Prerouting).or_else(|| {
            if self.local.contains(&self.destination.ip()) {
                self.hook(Hook::Input)
            } else {
                self.hook(Hook::Forward).or_else(|| self.hook(Hook::Postrouting))
            }
        })
    }

    fn hook(&mut self, hook: Hook) -> Option<Run> {
        let chains = self.table?.chains.values();
        let mut chains: Vec<(i32, &Chain)> = chains
            .filter_map(|chain| chain.base.map(|base| (base, chain)))
            .filter(|(base, _)| base.hook == hook)
            .map(|(base, chain)| (base.priority, chain))
            .collect();
        chains.sort_by_key(|(priority, _)| *priority);
        chains.into_iter().find_map(|(_, chain)| match self.chain(chain) {
            End::Refused => Some(Run::Rejected),
            End::Dropped => Some(Run::Dropped),
            End::Accepted | End::Returned => None,
        })
    }

    fn chain(&mut self, chain: &'a Chain) -> End {
        for rule in &chain.rules {
            let Some(done) = self.rule(rule) else { continue };
            match done {
                Done::Refuse => return End::Refused,
                Done::Verdict(Verdict::Accept) => return End::Accepted,
                Done::Verdict(Verdict::Drop) => return End::Dropped,
                Done::Verdict(Verdict::Return) => return End::Returned,
                Done::Verdict(Verdict::Goto(name)) => return self.named(&name),
                Done::Verdict(Verdict::Jump(name)) => match self.named(&name) {
                    End::Returned => {}
                    end => return end,
                },
            }
        }
        End::Returned
    }

    /// The verdict of a rule; `None` if it does not match or has none.
    fn rule(&mut self, rule: &Rule) -> Option<Done> {
        for expr in rule {
            match self.step(expr) {
                Step::Next => {}
                Step::Break => return None,
                Step::Do(done) => return Some(done),
            }
        }
        None
    }

    fn named(&mut self, name: &Name) -> End {
        match self.table.and_then(|table| table.chains.get(name)) {
            Some(chain) => self.chain(chain),
            None => End::Returned,
        }
    }

    fn step(&mut self, expr: &Expr) -> Step {
        match expr {
            Expr::Payload { .. } | Expr::Meta { .. } | Expr::Ct { .. } | Expr::FibType { .. } => {
                self.load(expr);
            }
            Expr::SetMark { from } => self.mark = self.number(*from),
            Expr::Cmp { from, op, value } => {
                let equal = self.bytes(*from, value.len()) == &value[..];
                if equal != (*op == CmpOp::Equal) {
                    return Step::Break;
                }
            }
            Expr::Bitwise { from, to, mask, xor } => {
                let operand = self.bytes(*from, mask.len()).to_vec();
                let masked = operand.iter().zip(mask).map(|(byte, mask)| byte & mask);
                let result: Vec<u8> = masked.zip(xor).map(|(byte, xor)| byte ^ xor).collect();
                self.set(*to, &result);
            }
            Expr::Immediate { to, value } => self.set(*to, value),
            Expr::Lookup { set, from, then } => return self.lookup(set, *from, *then),
            Expr::Remember { map, key, data, .. } => self.remember(map, *key, *data),
            Expr::Forget { map, key, .. } => {
                if let Some(key) = self.key_of(map, *key) {
                    self.memory.remove(&(self.family, map.clone(), key));
                }
            }
            Expr::Count { .. } => {}
            Expr::Numgen { modulus, to } => {
                self.choices = self.choices.max(*modulus);
                self.set(*to, &(self.draw % modulus).to_ne_bytes());
            }
            Expr::Dnat { address, port, .. } => return self.dnat(*address, *port),
            Expr::Masquerade => {
                self.masquerade = true;
                return Step::Do(Done::Verdict(Verdict::Accept));
            }
            Expr::Reject { .. } => return Step::Do(Done::Refuse),
            Expr::Verdict(verdict) => return Step::Do(Done::Verdict(verdict.clone())),
            Expr::Foreign(_) => return Step::Break,
        }
        Step::Next
    }

    fn load(&mut self, expr: &Expr) {
        match expr {
            Expr::Payload { header, offset, len, to } => {
                let header = match header {
                    Header::Network => self.network_header(),
                    Header::Transport => self.transport_header(),
                };
                let (offset, len) = (*offset as usize, *len as usize);
                let mut value = header[offset..offset + len].to_vec();
                value.resize(len.next_multiple_of(4), 0);
                self.set(*to, &value);
            }
            Expr::Meta { key, to } => match key {
                MetaKey::Mark => self.set(*to, &self.mark.to_ne_bytes()),
                MetaKey::L4Proto => self.set(*to, &[self.protocol, 0, 0, 0]),
                MetaKey::IifName => {
                    let mut name = self.interface.as_bytes().to_vec();
                    name.resize(libc::IFNAMSIZ, 0);
                    self.set(*to, &name);
                }
            },
            Expr::Ct { key, to } => {
                let mut value = self.connection(*key);
                value.resize(value.len().next_multiple_of(4), 0);
                self.set(*to, &value);
            }
            Expr::FibType { of, to } => {
                let address = match of {
                    FibAddress::Source => self.source.ip(),
                    FibAddress::Destination => self.destination.ip(),
                };
                let kind = if self.local.contains(&address) { RTN_LOCAL } else { RTN_UNICAST };
                self.set(*to, &kind.to_ne_bytes());
            }
            _ => {}
        }
    }

    /// Of a connection whose first packet this is.
    fn connection(&self, key: CtKey) -> Vec<u8> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        match key {
            CtKey::State => CT_STATE_NEW.to_ne_bytes().to_vec(),
            CtKey::Status if self.translated => CT_STATUS_DNAT.to_ne_bytes().to_vec(),
            CtKey::Status | CtKey::Direction => vec![0; 4],
            CtKey::Protocol => vec![self.protocol],
            CtKey::OriginalDestination(_) => octets(self.original.ip()),
            CtKey::OriginalPort => self.original.port().to_be_bytes().to_vec(),
            CtKey::ReplySource(_) => octets(self.destination.ip()),
            CtKey::ReplySourcePort => self.destination.port().to_be_bytes().to_vec(),
        }
    }

    fn lookup(&mut self, name: &Name, from: Reg, then: Found) -> Step {
        let (Some(set), Some(key)) = (self.set_named(name), self.key_of(name, from)) else {
            return Step::Break;
        };
        let found = if set.spec.dynamic {
            self.memory.get(&(self.family, name.clone(), key)).cloned()
        } else if set.spec.interval {
            let inside = set.elements.iter().find(|(range, _)| within(set, range, &key.start));
            inside.map(|(_, data)| data.clone())
        } else {
            set.elements.get(&key).cloned()
        };
        match (then, found) {
            (Found::Continue, Some(_)) | (Found::ContinueIfAbsent, None) => Step::Next,
            (Found::Load(to), Some(Data::Value(value))) => {
                self.set(to, &value);
                Step::Next
            }
            (Found::Execute, Some(Data::Verdict(verdict))) => Step::Do(Done::Verdict(verdict)),
            _ => Step::Break,
        }
    }

    fn remember(&mut self, map: &Name, key: Reg, data: Reg) {
        let (Some(set), Some(key)) = (self.set_named(map), self.key_of(map, key)) else { return };
        if let DataSpec::Fields(fields) = &set.spec.data {
            let len = fields.iter().map(|field| field.padded() as usize).sum();
            let data = Data::Value(self.bytes(data, len).into());
            self.memory.entry((self.family, map.clone(), key)).or_insert(data);
        }
    }

    fn dnat(&mut self, address: Reg, port: Reg) -> Step {
        let ip = match self.family {
            Family::V4 => self.bytes(address, 4).first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
            Family::V6 => self.bytes(address, 16).first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
        };
        let port = self.bytes(port, 2).first_chunk().map(|port| u16::from_be_bytes(*port));
        let (Some(ip), Some(port)) = (ip, port) else { return Step::Break };
        self.destination = SocketAddr::new(ip, port);
        self.translated = true;
        Step::Do(Done::Verdict(Verdict::Accept))
    }

    fn set_named(&self, name: &Name) -> Option<&'a Set> {
        self.table?.sets.get(name)
    }

    fn key_of(&self, set: &Name, from: Reg) -> Option<Key> {
        let fields = &self.set_named(set)?.spec.key;
        let len = fields.iter().map(|field| field.padded() as usize).sum();
        Some(Key::new(self.bytes(from, len)))
    }

    fn network_header(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                [&[0; 12][..], &source.octets(), &destination.octets()].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                [&[0; 8][..], &source.octets(), &destination.octets()].concat()
            }
            _ => vec![0; 40],
        }
    }

    /// Its ports, and of TCP all up to the flags: the first packet of a connection has SYN.
    fn transport_header(&self) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()];
        let mut header = ports.concat();
        header.extend([0; 9]);
        header.push(0x02);
        header
    }

    fn bytes(&self, from: Reg, len: usize) -> &[u8] {
        let begin = usize::from(from.0) * 4;
        &self.registers[begin..begin + len]
    }

    fn number(&self, from: Reg) -> u32 {
        self.bytes(from, 4).first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn set(&mut self, to: Reg, value: &[u8]) {
        let begin = usize::from(to.0) * 4;
        self.registers[begin..begin + value.len()].copy_from_slice(value);
    }
}

/// How a chain ended.
enum End {
    Accepted,
    Dropped,
    Refused,
    Returned,
}

/// What an expression did.
enum Step {
    Next,
    Break,
    Do(Done),
}

enum Done {
    Verdict(Verdict),
    Refuse,
}

/// Whether each field of a key lies in the field's range.
fn within(set: &Set, range: &Key, key: &[u8]) -> bool {
    let Some(end) = &range.end else { return *range.start == *key };
    let mut at = 0;
    set.spec.key.iter().all(|field| {
        let place = at..at + field.padded() as usize;
        at = place.end;
        range.start[place.clone()] <= key[place.clone()] && key[place.clone()] <= end[place]
    })
}

/// `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
