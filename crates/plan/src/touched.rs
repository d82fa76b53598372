//! Which objects a controller has to look at after a change.

use std::collections::BTreeSet;

use model::{Change, Cluster, DeploymentName, EndpointsName, ReplicaSetName, ServiceName};

/// What a change concerns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// For [`crate::slices`] and [`crate::endpoints`].
    pub services: BTreeSet<ServiceName>,
    /// For [`crate::mirroring`].
    pub endpoints: BTreeSet<EndpointsName>,
    /// For [`crate::deployment`].
    pub deployments: BTreeSet<DeploymentName>,
    /// For [`crate::replica_set`].
    pub replica_sets: BTreeSet<ReplicaSetName>,
    /// Whether [`crate::schedule`] has to run.
    pub schedule: bool,
    /// Whether [`crate::load_balancer`] has to run.
    pub load_balancer: bool,
}

/// What has to be looked at again. Ask **before** [`Cluster::apply`]: labels and owners that an
/// object had before matter too.
pub fn touched(cluster: &Cluster, change: &Change) -> Touched {
    let _ = (cluster, change);
    Touched::default()
}
