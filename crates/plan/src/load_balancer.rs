//! Addresses of Services of type LoadBalancer (semantics 3.8).

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::Cluster;

use crate::Reconciled;

/// The addresses that load balancers may get, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPool {
    ranges: Vec<RangeInclusive<IpAddr>>,
}

impl AddressPool {
    /// From ranges, both ends included.
    pub fn new(ranges: Vec<RangeInclusive<IpAddr>>) -> Self {
        Self { ranges }
    }

    /// From whole networks: every address of them, also the first and the last.
    pub fn from_networks(networks: &[IpNet]) -> Self {
        Self::new(networks.iter().map(|net| net.network()..=net.broadcast()).collect())
    }

    /// Whether the address belongs to the pool.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// Gives every load balancer that is ours its addresses, and takes them back. One pass over all
/// Services, so that two of them can never get the same address.
pub fn load_balancer(cluster: &Cluster, pool: &AddressPool) -> Reconciled {
    let _ = (cluster, pool);
    Reconciled::default()
}
