//! Which node a pod runs on.

use model::Cluster;

use crate::Reconciled;

/// Binds every pod that has no node and can run somewhere; says of the others why they cannot.
pub fn schedule(cluster: &Cluster) -> Reconciled {
    let _ = cluster;
    Reconciled::default()
}
