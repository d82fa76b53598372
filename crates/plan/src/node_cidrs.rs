//! Ranges of pod addresses for nodes that bring none.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Cluster, IpNet, Node, Reason, Write};

use crate::Reconciled;
use crate::events::Reporter;

const REPORTER: Reporter = Reporter { api_version: "v1", kind: "Node", component: "cidrAllocator" };

/// The ranges that nodes get theirs from, one or one of each family, the primary family first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterCidrs(Vec<Range>);

/// A range and the prefix length of its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    all: IpNet,
    part: u8,
}

/// Why ranges cannot be given to nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadClusterCidrs {
    /// Neither one nor two.
    Count(usize),
    /// Both are of one family.
    OneFamily,
    /// The parts are larger than the whole, smaller than an address, or more than 2^16.
    Mask {
        /// The range.
        cidr: IpNet,
        /// The prefix length of its parts.
        mask: u8,
    },
}

impl std::fmt::Display for BadClusterCidrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => {
                write!(f, "{count} ranges for pods: give one, or one of each family")
            }
            Self::OneFamily => write!(f, "two ranges for pods need one of each family"),
            Self::Mask { cidr, mask } => {
                let least = cidr.prefix_len();
                let most = cidr.max_prefix_len().min(least.saturating_add(LARGEST));
                write!(f, "{cidr} cannot be given to nodes as /{mask}: want /{least} to /{most}")
            }
        }
    }
}

impl std::error::Error for BadClusterCidrs {}

impl ClusterCidrs {
    /// Ranges (`--cluster-cidr`) and the prefix lengths of a node's part of each family
    /// (`--node-cidr-mask-size-ipv4`, `--node-cidr-mask-size-ipv6`).
    ///
    /// # Errors
    /// For ranges that nodes cannot be given parts of.
    pub fn new(cidrs: &[IpNet], mask_v4: u8, mask_v6: u8) -> Result<Self, BadClusterCidrs> {
        match cidrs {
            [_] => {}
            [one, other] if one.addr().is_ipv4() != other.addr().is_ipv4() => {}
            [_, _] => return Err(BadClusterCidrs::OneFamily),
            _ => return Err(BadClusterCidrs::Count(cidrs.len())),
        }
        let range = |cidr: &IpNet| {
            let part = if cidr.addr().is_ipv4() { mask_v4 } else { mask_v6 };
            let fits = (cidr.prefix_len()..=cidr.max_prefix_len()).contains(&part)
                && part - cidr.prefix_len() <= LARGEST;
            let bad = BadClusterCidrs::Mask { cidr: *cidr, mask: part };
            fits.then_some(Range { all: cidr.trunc(), part }).ok_or(bad)
        };
        cidrs.iter().map(range).collect::<Result<_, _>>().map(Self)
    }
}

/// Gives every node without `spec.podCIDRs` the first free part of each range (kube-controller-
/// manager's node IPAM controller, `RangeAllocator`). What any node or Service has is not free.
pub fn node_cidrs(cluster: &Cluster, ranges: &ClusterCidrs) -> Reconciled {
    let mut result = Reconciled::default();
    let lacks = |node: &&Node| node.pod_cidrs.is_empty() && node.meta.deleting.is_none();
    let mut lacking = cluster.nodes.values().map(|node| &**node).filter(lacks).peekable();
    if lacking.peek().is_none() {
        return result;
    }
    let mut free: Vec<Free> = ranges.0.iter().map(|range| Free::of(cluster, *range)).collect();
    for node in lacking {
        let cidrs: Option<Vec<IpNet>> = free.iter().map(Free::first).collect();
        let Some(cidrs) = cidrs else {
            let name = &node.meta.name;
            result.report.push(Reason::Other(format!("node {name}: no range is free")));
            let text = format!("Node {name} status is now: CIDRNotAvailable");
            result.writes.push(REPORTER.normal(&node.meta, "CIDRNotAvailable", text));
            continue;
        };
        for (free, cidr) in free.iter_mut().zip(&cidrs) {
            free.take(cidr);
        }
        result.writes.push(Write::NodePodCidrs { meta: Box::new(node.meta.clone()), cidrs });
    }
    result
}

/// The parts of a range by number.
struct Free {
    range: Range,
    taken: BTreeSet<u32>,
}

impl Free {
    fn of(cluster: &Cluster, range: Range) -> Self {
        let mut free = Self { range, taken: BTreeSet::new() };
        let nodes = cluster.nodes.values().flat_map(|node| &node.pod_cidrs);
        let services = cluster.service_cidrs.values().flat_map(|services| &services.cidrs);
        nodes.chain(services).for_each(|cidr| free.take(cidr));
        free
    }

    /// Takes every part that a network overlaps.
    fn take(&mut self, cidr: &IpNet) {
        let Range { all, part } = self.range;
        if all.contains(cidr) {
            let first = self.number(cidr.network());
            self.taken.extend(first..=self.number(cidr.broadcast()));
        } else if cidr.contains(&all) {
            self.taken.extend(0..1 << (part - all.prefix_len()));
        }
    }

    fn first(&self) -> Option<IpNet> {
        let Range { all, part } = self.range;
        let number = (0..1 << (part - all.prefix_len())).find(|n| !self.taken.contains(n))?;
        let offset = u128::from(number) << (all.max_prefix_len() - part);
        let address = bits(all.network()) | offset;
        let address = match all {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(address).ok()?)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(address)),
        };
        IpNet::new(address, part).ok()
    }

    /// The part that an address of the range lies in.
    fn number(&self, address: IpAddr) -> u32 {
        let Range { all, part } = self.range;
        let offset = bits(address) - bits(all.network());
        // There are at most 2^16 parts.
        u32::try_from(offset.checked_shr(u32::from(all.max_prefix_len() - part)).unwrap_or(0))
            .unwrap_or(u32::MAX)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Bits of the number of a part, at most; upstream's limit too.
const LARGEST: u8 = 16;
