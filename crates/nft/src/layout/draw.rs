//! How connections to a frontend are treated, as small values that many frontends share.
//!
//! Each value has a set, a chain, and a rule that leads who is in the set to the chain. There are
//! few, whatever the number of Services.

use std::collections::BTreeSet;

use model::{Action, Backend, Family, Frontend, FrontendKind, Masquerade};

use super::sets;
use crate::expr::Name;

/// How a frontend is entered: whose source address is replaced, and who uses which endpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    /// Found by port alone, on any node address.
    pub(crate) node_port: bool,
    /// Whose source address is replaced.
    pub(crate) masquerade: Mark,
}

/// [`Masquerade`] in an order: the usual ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mark {
    OffCluster,
    Always,
    /// And traffic from outside uses a list of its own (policy Local).
    NodeOnly,
    Never,
}

impl Mark {
    pub(crate) const ALL: [Self; 4] = [Self::OffCluster, Self::Always, Self::NodeOnly, Self::Never];
}

impl Entry {
    /// Of a frontend; `None` when it has no endpoint for anybody.
    pub(crate) fn of(frontend: &Frontend) -> Option<Self> {
        let has_endpoints =
            !backends(&frontend.internal).is_empty() || !backends(&frontend.external).is_empty();
        has_endpoints.then_some(Self {
            node_port: matches!(frontend.kind, FrontendKind::NodePort(_)),
            masquerade: match frontend.masquerade {
                Masquerade::Never => Mark::Never,
                Masquerade::Always => Mark::Always,
                Masquerade::OffCluster => Mark::OffCluster,
                Masquerade::NodeOnly => Mark::NodeOnly,
            },
        })
    }

    /// Of its set and its chain.
    pub(crate) fn name(self) -> Name {
        Name::Borrowed(match (self.node_port, self.masquerade) {
            (false, Mark::OffCluster) => "frontends-masquerade-off-cluster",
            (false, Mark::Always) => "frontends-masquerade",
            (false, Mark::NodeOnly) => "frontends-policy-local",
            (false, Mark::Never) => "frontends-keep-source",
            (true, Mark::OffCluster) => "node-ports-masquerade-off-cluster",
            (true, Mark::Always) => "node-ports-masquerade",
            (true, Mark::NodeOnly) => "node-ports-policy-local",
            (true, Mark::Never) => "node-ports-keep-source",
        })
    }

    /// Whether traffic from outside uses a list of endpoints of its own.
    pub(crate) fn has_local_list(self) -> bool {
        self.masquerade == Mark::NodeOnly
    }
}

/// From how many numbers an endpoint is drawn: the number of endpoints or, beyond a few, the next
/// power of two, of which the numbers without an endpoint are drawn again. The kernel wants a
/// constant, hence a chain for each: so a new number of endpoints hardly ever needs one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Draw(u32);

impl Draw {
    /// Up to here every number of endpoints has its own draw.
    const EXACT: u32 = 8;

    /// `None` when there is nothing to draw.
    pub(crate) fn among(endpoints: &[Backend]) -> Option<Self> {
        let count = u32::try_from(endpoints.len()).ok().filter(|count| *count > 0)?;
        let modulus = if count > Self::EXACT { count.checked_next_power_of_two()? } else { count };
        Some(Self(modulus))
    }

    /// Numbers to draw from.
    pub(crate) fn modulus(self) -> u32 {
        self.0
    }

    /// Whether some of the numbers, less than half, may have no endpoint.
    pub(crate) fn has_blanks(self) -> bool {
        self.0 > Self::EXACT
    }
}

/// One way to pick an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pick {
    pub(crate) from: List,
    pub(crate) draw: Draw,
    /// Seconds for which a client keeps its endpoint; 0 without session affinity.
    pub(crate) affinity: u32,
}

/// Which of the lists of endpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct List {
    /// Found by port alone.
    pub(crate) node_port: bool,
    /// That of outside traffic under policy Local.
    pub(crate) local: bool,
}

impl List {
    pub(crate) const ALL: [Self; 4] = [
        Self { node_port: false, local: false },
        Self { node_port: false, local: true },
        Self { node_port: true, local: false },
        Self { node_port: true, local: true },
    ];

    /// Of the chain that leads to the chain of each pick.
    pub(crate) fn chain(self) -> &'static str {
        match (self.node_port, self.local) {
            (false, false) => "pick",
            (false, true) => "pick-local",
            (true, false) => "pick-port",
            (true, true) => "pick-port-local",
        }
    }

    pub(crate) fn endpoints(self, affinity: bool) -> Name {
        match (self.node_port, self.local, affinity) {
            (false, false, false) => sets::ENDPOINTS,
            (false, true, false) => sets::LOCAL_ENDPOINTS,
            (true, false, false) => sets::PORT_ENDPOINTS,
            (true, true, false) => sets::PORT_LOCAL_ENDPOINTS,
            (false, false, true) => sets::AFFINE_ENDPOINTS,
            (false, true, true) => sets::AFFINE_LOCAL_ENDPOINTS,
            (true, false, true) => sets::AFFINE_PORT_ENDPOINTS,
            (true, true, true) => sets::AFFINE_PORT_LOCAL_ENDPOINTS,
        }
    }

    pub(crate) fn usable(self) -> Name {
        match (self.node_port, self.local) {
            (false, false) => sets::USABLE,
            (false, true) => sets::LOCAL_USABLE,
            (true, false) => sets::PORT_USABLE,
            (true, true) => sets::PORT_LOCAL_USABLE,
        }
    }
}

impl Pick {
    /// Of its set and its chain.
    pub(crate) fn name(self) -> Name {
        let (list, draw) = (self.from.chain(), self.draw.modulus());
        match self.affinity {
            0 => format!("{list}-{draw}").into(),
            seconds => format!("{list}-{draw}-affinity-{seconds}s").into(),
        }
    }

    /// What to draw from until a number has an endpoint. Each try beyond the first is less likely
    /// than not; the last, from the lower half, hits always, but not evenly: it decides about less
    /// than one connection in a thousand.
    pub(crate) fn moduli(self) -> impl Iterator<Item = u32> {
        const TRIES: usize = 10;
        let tries = if self.draw.has_blanks() { TRIES } else { 1 };
        let last = self.draw.has_blanks().then(|| self.draw.modulus() / 2);
        std::iter::repeat_n(self.draw.modulus(), tries).chain(last)
    }
}

/// Picks that have a chain from the start: a new rule costs the kernel some 20 ms (it waits for all
/// its processors), an element well below one. (Not more of them, because every rule that uses a map
/// makes adding an element to it a little slower.)
pub(crate) fn usual() -> Vec<(Family, Pick)> {
    const MOST: u32 = 128;
    let powers = (Draw::EXACT.ilog2() + 1..=MOST.ilog2()).map(|power| 1 << power);
    let draws: BTreeSet<Draw> = (1..=Draw::EXACT).chain(powers).map(Draw).collect();
    let lists = List::ALL.into_iter().filter(|list| !list.local);
    let picks = lists
        .flat_map(|from| draws.iter().map(move |draw| Pick { from, draw: *draw, affinity: 0 }));
    picks.flat_map(|pick| Family::ALL.map(|family| (family, pick))).collect()
}

/// The endpoints of an action; none unless it balances.
pub(crate) fn backends(action: &Action) -> &[Backend] {
    match action {
        Action::Balance(backends) => backends,
        Action::Reject(_) | Action::Drop(_) => &[],
    }
}
