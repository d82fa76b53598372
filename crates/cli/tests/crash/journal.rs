//! What writers have sent and were told, and what a watch has seen.

use std::collections::{BTreeMap, BTreeSet};

/// All that is known about the server's state without asking it.
pub(crate) struct Journal {
    /// One for each writer. Their names do not overlap.
    pub(crate) lanes: Vec<Lane>,
    /// Events that a watch got in the last round: version, and name of the Service.
    pub(crate) seen: Vec<(u64, String)>,
    /// The newest version that anybody has seen.
    pub(crate) newest: u64,
    /// Every version of a write that was acknowledged or found.
    pub(crate) used: BTreeSet<u64>,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes that a kill cut off, done or not.
    pub(crate) settled: u64,
}

impl Journal {
    pub(crate) fn new(writers: usize) -> Self {
        let lane = |number| Lane { number, ..Lane::default() };
        Self {
            lanes: (0..writers).map(lane).collect(),
            seen: Vec::new(),
            newest: 0,
            used: BTreeSet::new(),
            acknowledged: 0,
            settled: 0,
        }
    }
}

/// What one writer knows.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) number: usize,
    /// Names given so far.
    pub(crate) names: u64,
    /// Services as of the last acknowledged write: name and resourceVersion.
    pub(crate) services: BTreeMap<String, u64>,
    /// Versions acknowledged in this round, in order.
    pub(crate) acknowledged: Vec<u64>,
    /// A write that was sent and not acknowledged.
    pub(crate) open: Option<Open>,
}

/// A write that may or may not have happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Create,
    Change,
    Delete,
}
