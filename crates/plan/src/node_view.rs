//! One node's view: which Services to plan again, and the view kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Change, Cluster, NodeContext, NodeName, NodeView, ServiceName};

/// Settings of an agent that planning depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentSettings {
    /// How traffic of this cluster's pods is recognised.
    pub detector: DetectorMode,
    /// Where node ports answer.
    pub node_port_addresses: NodePortAddresses,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
}

/// How traffic of this cluster's pods is recognised (D13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DetectorMode {
    /// By the cluster's pod networks.
    ClusterCidr(Vec<IpNet>),
    /// By the podCIDRs of this Node.
    NodeCidr,
    /// By the bridge of that name.
    BridgeInterface(String),
    /// By interfaces whose name starts so.
    InterfacePrefix(String),
    /// Not at all.
    None,
}

/// Where node ports answer (D30). Loopback addresses never do (D31).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodePortAddresses {
    /// The InternalIPs of the Node object.
    Primary,
    /// Those of the machine's addresses that lie in one of the networks.
    Networks {
        /// `--nodeport-addresses`.
        networks: Vec<IpNet>,
        /// Addresses that the machine's interfaces have.
        local: BTreeSet<IpAddr>,
    },
}

/// The context of a node; `None` while the Node, or a podCIDR that the detector needs, is missing.
pub fn context(
    cluster: &Cluster,
    node: &NodeName,
    settings: &AgentSettings,
) -> Option<NodeContext> {
    let _ = (cluster, node, settings);
    None
}

/// The Services whose view may change with this change. Ask **before** [`Cluster::apply`]: a slice
/// that changes its Service concerns the old one too.
///
/// Changes of Nodes and ServiceCIDRs name no Service: [`Planner::update`] compares the context and
/// plans everything again when it differs.
pub fn affected(cluster: &Cluster, change: &Change) -> BTreeSet<ServiceName> {
    let _ = (cluster, change);
    BTreeSet::new()
}

/// The whole view of a node, from nothing.
pub fn node_view(cluster: &Cluster, context: &NodeContext) -> NodeView {
    let mut planner = Planner::new(context.clone());
    planner.update(cluster, context, &BTreeSet::new());
    planner.view
}

/// A node's view that is kept up to date: one changed Service costs one Service.
///
/// After every update the view equals [`node_view`] of the same cluster.
#[derive(Clone, Debug)]
pub struct Planner {
    view: NodeView,
}

impl Planner {
    /// A planner that has planned nothing yet; the first [`Self::update`] plans everything.
    pub fn new(context: NodeContext) -> Self {
        let view = NodeView { context, service_cidrs: BTreeSet::new(), services: BTreeMap::new() };
        Self { view }
    }

    /// Plans the dirty Services again, or all of them when the context differs. Returns the
    /// Services whose view changed, came or went.
    pub fn update(
        &mut self,
        cluster: &Cluster,
        context: &NodeContext,
        dirty: &BTreeSet<ServiceName>,
    ) -> BTreeSet<ServiceName> {
        let _ = (cluster, dirty);
        self.view.context = context.clone();
        BTreeSet::new()
    }

    /// The view.
    pub fn view(&self) -> &NodeView {
        &self.view
    }
}
