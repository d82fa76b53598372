//! Pods of ReplicaSets.

use model::{Cluster, ReplicaSetName, Timestamp};

use crate::Reconciled;

/// Own writes that the [`Cluster`] does not show yet.
///
/// While any is open no pod is created or deleted: else a slow watch would make pods without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expectations {
    /// Pods created and not seen yet.
    pub creations: u32,
    /// Pods deleted and still seen as not being deleted.
    pub deletions: u32,
}

/// Creates and deletes pods until there are as many as wanted, adopts and releases pods by the
/// selector, and writes the status.
pub fn replica_set(
    cluster: &Cluster,
    name: &ReplicaSetName,
    expectations: Expectations,
    now: Timestamp,
) -> Reconciled {
    let _ = (cluster, name, expectations, now);
    Reconciled::default()
}
