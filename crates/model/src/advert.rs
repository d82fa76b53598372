//! Which node answers for which load balancer address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::name::{NodeName, ServiceName};
use crate::reason::Reason;

/// The plan of announcement: every load balancer address and its owner.
pub type Adverts = BTreeMap<IpAddr, Advert>;

/// One load balancer address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advert {
    /// The Services that share the address.
    pub services: Vec<ServiceName>,
    /// The node that answers ARP or NDP, or why nobody does.
    pub owner: Result<NodeName, Reason>,
}
