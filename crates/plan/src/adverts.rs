//! Which node answers for which load balancer address.

use std::collections::BTreeSet;

use model::{Adverts, Cluster, NodeName};

/// The owner of every load balancer address: among the nodes alive that may announce it, the one
/// with the highest rendezvous hash of address and name.
pub fn adverts(cluster: &Cluster, alive: &BTreeSet<NodeName>) -> Adverts {
    let _ = (cluster, alive);
    Adverts::new()
}
