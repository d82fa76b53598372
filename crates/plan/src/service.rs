//! One Service on one node (semantics 4.1 to 4.8).

use model::{Cluster, NodeContext, ServiceName, ServiceView};

/// What the node has to do for a Service; `None` when there is no such Service.
///
/// A Service that nodes ignore has a view without frontends whose report says why.
pub fn service(
    cluster: &Cluster,
    context: &NodeContext,
    name: &ServiceName,
) -> Option<ServiceView> {
    let _ = (cluster, context, name);
    None
}
