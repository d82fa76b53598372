//! Slices that mirror hand-made Endpoints objects (semantics 3.6).

use model::{Cluster, EndpointsName};

use crate::Reconciled;

/// Brings the mirrored slices of an Endpoints object in line with it, and removes them when the
/// object is gone, opted out, or its Service has a selector.
pub fn mirroring(cluster: &Cluster, name: &EndpointsName) -> Reconciled {
    let _ = (cluster, name);
    Reconciled::default()
}
