//! How connections to a frontend are treated, as a small value that many frontends share.

use std::ops::RangeInclusive;

use model::{Action, Backend, Family, Frontend, FrontendKind, Masquerade};

use crate::expr::Name;

/// Everything about a frontend but its address, its port and its endpoints.
///
/// A frontend is one element `frontends{ address . protocol . port : goto CHAIN }`, and every
/// distinct treatment is one such chain. There are few: about as many as distinct endpoint counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Treatment {
    /// Found by port alone, on any node address.
    pub(crate) node_port: bool,
    /// Whose source address is replaced.
    pub(crate) masquerade: Mark,
    /// Endpoints for this node's pods and processes; 0 leaves them to the filter chains.
    pub(crate) internal: u32,
    /// Endpoints for everybody else, when they have a list of their own (policy Local).
    pub(crate) external: Option<u32>,
    /// Seconds for which a client keeps its endpoint; 0 without session affinity.
    pub(crate) affinity: u32,
}

/// [`Masquerade`] in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mark {
    Never,
    Always,
    OffCluster,
    NodeOnly,
}

impl Treatment {
    /// Of a frontend; `None` when it has no endpoint for anybody.
    pub(crate) fn of(frontend: &Frontend) -> Option<Self> {
        let internal = backends(&frontend.internal);
        let external = backends(&frontend.external);
        if internal.is_empty() && external.is_empty() {
            return None;
        }
        Some(Self {
            node_port: matches!(frontend.kind, FrontendKind::NodePort(_)),
            masquerade: match frontend.masquerade {
                Masquerade::Never => Mark::Never,
                Masquerade::Always => Mark::Always,
                Masquerade::OffCluster => Mark::OffCluster,
                Masquerade::NodeOnly => Mark::NodeOnly,
            },
            internal: count(internal),
            external: (internal != external).then(|| count(external)),
            affinity: frontend.affinity.map_or(0, |affinity| affinity.timeout_seconds),
        })
    }

    /// Name of its chain, such as `address-3-masquerade-off-cluster`.
    pub(crate) fn chain(self) -> Name {
        let mut name = String::from(if self.node_port { "port" } else { "address" });
        name += &format!("-{}", self.internal);
        if let Some(external) = self.external {
            name += &format!("-{external}");
        }
        name += match self.masquerade {
            Mark::Never => "-keep-source",
            Mark::Always => "-masquerade",
            Mark::OffCluster => "-masquerade-off-cluster",
            Mark::NodeOnly => "-masquerade-node",
        };
        if self.affinity > 0 {
            name += &format!("-affinity-{}s", self.affinity);
        }
        name.into()
    }
}

/// Treatments that have chains from the start: a new rule costs the kernel some 20 ms (it waits
/// for all its processors), an element of a map well below one. So a Service that is scaled
/// among the usual counts changes elements only.
pub(crate) fn usual() -> impl Iterator<Item = (Family, Treatment)> {
    const COUNTS: RangeInclusive<u32> = 1..=8;
    let kinds = [(false, Mark::OffCluster), (false, Mark::Always), (true, Mark::Always)];
    Family::ALL.into_iter().flat_map(move |family| {
        kinds.into_iter().flat_map(move |(node_port, masquerade)| {
            COUNTS.map(move |internal| {
                let treatment =
                    Treatment { node_port, masquerade, internal, external: None, affinity: 0 };
                (family, treatment)
            })
        })
    })
}

/// The endpoints of an action; none unless it balances.
pub(crate) fn backends(action: &Action) -> &[Backend] {
    match action {
        Action::Balance(backends) => backends,
        Action::Reject(_) | Action::Drop(_) => &[],
    }
}

fn count(backends: &[Backend]) -> u32 {
    u32::try_from(backends.len()).unwrap_or(u32::MAX)
}
