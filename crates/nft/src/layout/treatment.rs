//! How connections to a frontend are treated, as a small value that many frontends share.

use model::{Action, Backend, Frontend, FrontendKind, Masquerade};

use super::bytes::Bytes;
use crate::expr::Name;

/// Everything about a frontend but its address, its port and its endpoints.
///
/// A frontend is one element `frontends{address . protocol . port} = treatment`, and every
/// distinct treatment is one chain. There are few: about as many as distinct endpoint counts.
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
    Never = 0,
    Always = 1,
    OffCluster = 2,
    NodeOnly = 3,
}

impl Treatment {
    /// Every mark, in order.
    pub(crate) const MARKS: [Mark; 4] =
        [Mark::Never, Mark::Always, Mark::OffCluster, Mark::NodeOnly];

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

    /// As data of the frontend maps and key of the treatment map: four numbers.
    pub(crate) fn bytes(self) -> Bytes {
        let kind = self.masquerade as u32
            | if self.node_port { NODE_PORT } else { 0 }
            | if self.external.is_some() { SPLIT } else { 0 };
        let mut bytes = Bytes::default();
        for number in [kind, self.internal, self.external.unwrap_or(0), self.affinity] {
            bytes.number(number);
        }
        bytes
    }

    /// Inverse of [`Self::bytes`]; `None` for bytes that we never write.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let numbers: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| word.try_into().map(u32::from_ne_bytes))
            .collect::<Result<_, _>>()
            .ok()?;
        let [kind, internal, external, affinity] = numbers[..] else { return None };
        let mark = usize::try_from(kind & MARK_MASK).ok()?;
        let parsed = Self {
            node_port: kind & NODE_PORT != 0,
            masquerade: *Self::MARKS.get(mark)?,
            internal,
            external: (kind & SPLIT != 0).then_some(external),
            affinity,
        };
        (parsed.bytes().as_slice() == bytes).then_some(parsed)
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

const MARK_MASK: u32 = 0xf;
const NODE_PORT: u32 = 0x10;
const SPLIT: u32 = 0x20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_and_back(
            node_port: bool, mark in 0_usize..4, internal: u32, external: Option<u32>, affinity: u32,
        ) {
            let masquerade = Treatment::MARKS[mark];
            let treatment = Treatment { node_port, masquerade, internal, external, affinity };
            prop_assert_eq!(Treatment::parse(treatment.bytes().as_slice()), Some(treatment));
        }
    }
}
