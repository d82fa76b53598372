//! One node's view: which Services to plan again, and the view kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{
    Change, Cluster, Kind, LocalDetector, Name, NodeContext, NodeName, NodeView, Object,
    ServiceName, SliceName,
};

use crate::claims::Claims;
use crate::service;
use crate::touched::keys;

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
///
/// All but the cluster networks recognise pods of this node only, which policy Local needs to treat
/// pods of other nodes as outside traffic (D14).
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
    let object = cluster.nodes.get(node)?;
    let local_detector = match &settings.detector {
        DetectorMode::ClusterCidr(networks) => LocalDetector::ClusterCidr(networks.clone()),
        DetectorMode::NodeCidr if object.pod_cidrs.is_empty() => return None,
        DetectorMode::NodeCidr => LocalDetector::NodeCidr(object.pod_cidrs.clone()),
        DetectorMode::BridgeInterface(name) => LocalDetector::BridgeInterface(name.clone()),
        DetectorMode::InterfacePrefix(prefix) => LocalDetector::InterfacePrefix(prefix.clone()),
        DetectorMode::None => LocalDetector::None,
    };
    let mut node_addresses: BTreeSet<IpAddr> = match &settings.node_port_addresses {
        NodePortAddresses::Primary => object.internal_ips.iter().copied().collect(),
        NodePortAddresses::Networks { networks, local } => {
            let answers = |ip: &&IpAddr| networks.iter().any(|network| network.contains(*ip));
            local.iter().filter(answers).copied().collect()
        }
    };
    node_addresses.retain(|address| !address.is_loopback());
    Some(NodeContext {
        node: node.clone(),
        zone: object.zone(),
        node_addresses,
        local_detector,
        masquerade_all: settings.masquerade_all,
    })
}

/// The Services whose view may change with this change. Ask **before** [`Cluster::apply`]: a slice
/// that changes its Service concerns the old one too.
///
/// Changes of Nodes and ServiceCIDRs name no Service: [`Planner::update`] compares the context and
/// plans everything again when it differs.
pub fn affected(cluster: &Cluster, change: &Change) -> BTreeSet<ServiceName> {
    match change {
        Change::Apply(Object::Service(service)) => BTreeSet::from([service.name()]),
        Change::Apply(Object::EndpointSlice(slice)) => {
            let old = service_of_slice(cluster, slice.name());
            old.into_iter().chain(slice.service.clone()).collect()
        }
        Change::Apply(_) => BTreeSet::new(),
        Change::Delete(kind, namespace, name) => gone(cluster, *kind, namespace, name),
        Change::Complete(kind, present) => {
            let missing = keys(cluster, *kind).into_iter().filter(|key| !present.contains(key));
            missing.flat_map(|(namespace, name)| gone(cluster, *kind, &namespace, &name)).collect()
        }
    }
}

fn gone(cluster: &Cluster, kind: Kind, namespace: &Name, name: &Name) -> BTreeSet<ServiceName> {
    match kind {
        Kind::Service => BTreeSet::from([ServiceName::new(namespace.clone(), name.clone())]),
        Kind::EndpointSlice => {
            let slice = SliceName::new(namespace.clone(), name.clone());
            service_of_slice(cluster, slice).into_iter().collect()
        }
        _ => BTreeSet::new(),
    }
}

fn service_of_slice(cluster: &Cluster, name: SliceName) -> Option<ServiceName> {
    cluster.slices.get(&name)?.service.clone()
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
    claims: Claims,
    /// Whether the view was ever planned.
    planned: bool,
}

impl Planner {
    /// A planner that has planned nothing yet; the first [`Self::update`] plans everything.
    pub fn new(context: NodeContext) -> Self {
        let view = NodeView { context, service_cidrs: BTreeSet::new(), services: BTreeMap::new() };
        Self { view, claims: Claims::default(), planned: false }
    }

    /// Plans the dirty Services again, or all of them when the context differs (D49). Returns the
    /// Services whose view changed, came or went.
    pub fn update(
        &mut self,
        cluster: &Cluster,
        context: &NodeContext,
        dirty: &BTreeSet<ServiceName>,
    ) -> BTreeSet<ServiceName> {
        let mut todo = dirty.clone();
        let all = !self.planned || self.view.context != *context;
        if all {
            todo.extend(cluster.services.keys().cloned());
            todo.extend(self.view.services.keys().cloned());
        }
        self.view.context = context.clone();
        self.view.service_cidrs = service_cidrs(cluster);
        self.planned = true;

        // Claims first: who wins a contested address may change other Services than the dirty ones.
        let mut planned = BTreeMap::new();
        let mut contested = BTreeSet::new();
        for name in todo {
            let view = service(cluster, context, &name);
            let created = cluster.services.get(&name).map(|service| service.meta.created);
            contested.extend(self.claims.put(&name, created.zip(view.as_ref())));
            planned.insert(name, view);
        }
        for name in contested {
            planned.entry(name.clone()).or_insert_with(|| service(cluster, context, &name));
        }
        let changed = planned.into_iter().filter_map(|(name, view)| self.put(name, view)).collect();
        if all {
            // Services come in order, which leaves the nodes of a map half empty.
            self.view.services = std::mem::take(&mut self.view.services).into_iter().collect();
            self.claims.fill_nodes();
        }
        changed
    }

    /// The view.
    pub fn view(&self) -> &NodeView {
        &self.view
    }

    /// Puts a Service's view in place; gives the name back if that changed anything.
    fn put(&mut self, name: ServiceName, view: Option<model::ServiceView>) -> Option<ServiceName> {
        let Some(mut view) = view else {
            return self.view.services.remove(&name).map(|_| name);
        };
        self.claims.withdraw_lost(&mut view);
        if self.view.services.get(&name).is_some_and(|known| **known == view) {
            return None;
        }
        self.view.services.insert(name.clone(), Arc::new(view));
        Some(name)
    }
}

/// ServiceCIDRs of which unallocated addresses are dropped (semantics 4.6).
fn service_cidrs(cluster: &Cluster) -> BTreeSet<IpNet> {
    cluster.service_cidrs.values().flat_map(|object| &object.cidrs).map(IpNet::trunc).collect()
}
