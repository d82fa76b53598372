//! Depth 1: manifests through `wire`, planned by `plan`, judged by `verdict`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use model::{
    Action as Do, Backend, Change, Cluster, Family, Frontend, FrontendKind, Kind, LocalDetector,
    Masquerade, NodeContext, NodeView, Outcome, Packet, ServiceView,
};
use plan::{AgentSettings, DetectorMode, NodePortAddresses};

use crate::story::{Action, Expected, Origin, Story};

/// A story's cluster and the node that handles its packets.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) node: String,
    pub(crate) settings: AgentSettings,
    /// Addresses that the node has besides those of its Node object.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// Runs a story; one line for each thing that is not as told.
pub(crate) fn run(story: &Story) -> Vec<String> {
    let mut world = World::new(story);
    let mut failures = Vec::new();
    for step in &story.steps {
        if world.take(story, &step.action) {
            continue;
        }
        let Action::Packet { from, to, protocol, expected, .. } = &step.action else { continue };
        let context = world.context();
        let packet = world.packet(&context, from, *to, *protocol);
        let judged = verdict::judge(&world.cluster, &context, &packet);
        let told = simplify(&judged.outcome);
        if told != *expected {
            let place = story.place(step);
            failures.push(format!(
                "{place}: verdict says {told:?} ({:?}), not {expected:?}",
                judged.reason
            ));
        }
        let view = plan::node_view(&world.cluster, &context);
        let planned = planned(&view, &context, &packet);
        if planned != *expected {
            failures
                .push(format!("{}: plan says {planned:?}, not {expected:?}", story.place(step)));
        }
    }
    failures
}

impl World {
    pub(crate) fn new(story: &Story) -> Self {
        let mut world = Self::of(Cluster::default());
        world.apply(story, "objects.yaml");
        world
    }

    /// `node1` of a cluster, with the usual settings.
    pub(crate) fn of(cluster: Cluster) -> Self {
        let settings = AgentSettings {
            detector: DetectorMode::NodeCidr,
            node_port_addresses: NodePortAddresses::Primary,
            masquerade_all: false,
        };
        Self { cluster, node: "node1".to_owned(), settings, addresses: BTreeSet::new() }
    }

    /// All addresses of the node.
    pub(crate) fn node_addresses(&self) -> BTreeSet<IpAddr> {
        let node = &self.cluster.nodes[self.node.as_str()];
        node.internal_ips.iter().chain(&self.addresses).copied().collect()
    }

    /// Takes a step that changes the world; false for packets.
    pub(crate) fn take(&mut self, story: &Story, action: &Action) -> bool {
        match action {
            Action::Node(name) => self.node.clone_from(name),
            Action::Settings(words) => self.set(words),
            Action::Apply(section) => self.apply(story, section),
            Action::Delete { kind, namespace, name } => {
                let kind = match kind.as_str() {
                    "Service" => Kind::Service,
                    "EndpointSlice" => Kind::EndpointSlice,
                    "Node" => Kind::Node,
                    "ServiceCIDR" => Kind::ServiceCidr,
                    _ => panic!("{}: cannot delete a {kind}", story.name),
                };
                let change = Change::Delete(kind, namespace.as_str().into(), name.as_str().into());
                self.cluster.apply(change);
            }
            Action::Packet { .. } => return false,
        }
        true
    }

    fn apply(&mut self, story: &Story, section: &str) {
        for value in story.section(section) {
            let object = wire::to_model::object(&value)
                .unwrap_or_else(|rejected| panic!("{}: {section}: {rejected:?}", story.name));
            self.cluster.apply(Change::Apply(object));
        }
    }

    fn set(&mut self, words: &[String]) {
        *self = Self { node: self.node.clone(), ..Self::of(std::mem::take(&mut self.cluster)) };
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let networks = |list: &str| list.split(',').map(|one| one.parse().unwrap()).collect();
            match name {
                "masquerade-all" => self.settings.masquerade_all = true,
                "detector" => {
                    let (kind, which) = value.split_once(':').unwrap_or((value, ""));
                    self.settings.detector = match kind {
                        "none" => DetectorMode::None,
                        "cluster" => DetectorMode::ClusterCidr(networks(which)),
                        "bridge" => DetectorMode::BridgeInterface(which.to_owned()),
                        "prefix" => DetectorMode::InterfacePrefix(which.to_owned()),
                        _ => panic!("there is no detector {kind}"),
                    };
                }
                "addresses" => {
                    self.addresses = value.split(',').map(|one| one.parse().unwrap()).collect();
                }
                "nodeport-addresses" => {
                    let (networks, local) = (networks(value), self.node_addresses());
                    self.settings.node_port_addresses =
                        NodePortAddresses::Networks { networks, local };
                }
                _ => panic!("there is no setting {name}"),
            }
        }
    }

    pub(crate) fn context(&self) -> NodeContext {
        plan::context(&self.cluster, &self.node.as_str().into(), &self.settings)
            .unwrap_or_else(|| panic!("no Node {}", self.node))
    }

    pub(crate) fn packet(
        &self,
        context: &NodeContext,
        from: &Origin,
        to: SocketAddr,
        protocol: model::Protocol,
    ) -> Packet {
        let same_family = |address: &&IpAddr| address.is_ipv4() == to.is_ipv4();
        let own = self.node_addresses();
        let node = own.iter().find(same_family).copied().unwrap_or_else(|| to.ip());
        Packet {
            node: context.node.clone(),
            from_node: *from == Origin::Node,
            interface: match from {
                Origin::Node => String::new(),
                Origin::Pod(address) => interface_of(*address),
                Origin::Client(_) | Origin::RemotePod(_) => "eth0".to_owned(),
            },
            protocol,
            source: SocketAddr::new(from.address(to.ip(), node), 40000),
            destination: to,
        }
    }
}

/// The node's interface to one of its pods.
pub(crate) fn interface_of(pod: IpAddr) -> String {
    match pod {
        IpAddr::V4(address) => {
            let [.., node, number] = address.octets();
            format!("pod{node}-{number}")
        }
        IpAddr::V6(address) => {
            let [_, _, _, node, .., number] = address.segments();
            format!("pod{node:x}-{number:x}v6")
        }
    }
}

/// An outcome as stories tell it.
pub(crate) fn simplify(outcome: &Outcome) -> Expected {
    match outcome {
        Outcome::Delivered { to, masqueraded } => {
            Expected::Delivered { to: to.clone(), masqueraded: masqueraded.clone() }
        }
        Outcome::Rejected => Expected::Refused,
        Outcome::Dropped => Expected::Dropped,
        Outcome::Untouched(_) => Expected::Untouched,
    }
}

/// What a dataplane that follows the view to the letter does with the packet.
pub(crate) fn planned(view: &NodeView, context: &NodeContext, packet: &Packet) -> Expected {
    let services = || view.services.values().map(|service| &**service);
    if let Some((service, frontend)) = services()
        .flat_map(|service| service.frontends.iter().map(move |frontend| (service, frontend)))
        .find(|(_, frontend)| matches(frontend, context, packet))
    {
        return carry(service, frontend, context, packet);
    }
    let address = packet.destination.ip();
    if services().any(|service| service.cluster_ips.contains(&address)) {
        return Expected::Refused;
    }
    if view.service_cidrs.iter().any(|network| network.contains(&address)) {
        return Expected::Dropped;
    }
    Expected::Untouched
}

fn matches(frontend: &Frontend, context: &NodeContext, packet: &Packet) -> bool {
    let address = packet.destination.ip();
    let here = match frontend.kind {
        FrontendKind::ClusterIp(ip)
        | FrontendKind::ExternalIp(ip)
        | FrontendKind::LoadBalancer(ip) => ip == address,
        FrontendKind::NodePort(family) => {
            family == Family::of(address) && context.node_addresses.contains(&address)
        }
    };
    here && frontend.protocol == packet.protocol && frontend.port.get() == packet.destination.port()
}

fn carry(
    _service: &ServiceView,
    frontend: &Frontend,
    context: &NodeContext,
    packet: &Packet,
) -> Expected {
    let source = packet.source.ip();
    if let Some(ranges) = &frontend.source_ranges {
        let vip = packet.destination.ip();
        let own = |range: &model::IpNet| {
            source == vip && context.node_addresses.iter().any(|address| range.contains(address))
        };
        if !ranges.iter().any(|range| range.contains(&source) || own(range)) {
            return Expected::Dropped;
        }
    }
    let pod = !packet.from_node
        && match &context.local_detector {
            LocalDetector::NodeCidr(networks) | LocalDetector::ClusterCidr(networks) => {
                networks.iter().any(|network| network.contains(&source))
            }
            LocalDetector::BridgeInterface(name) => packet.interface == *name,
            LocalDetector::InterfacePrefix(prefix) => packet.interface.starts_with(prefix),
            LocalDetector::None => false,
        };
    let action = if pod || packet.from_node { &frontend.internal } else { &frontend.external };
    let backends = match action {
        Do::Balance(backends) => backends,
        Do::Reject(_) => return Expected::Refused,
        Do::Drop(_) => return Expected::Dropped,
    };
    let masquerade = match frontend.masquerade {
        Masquerade::Never => false,
        Masquerade::OffCluster => !pod,
        Masquerade::Always => true,
        Masquerade::NodeOnly => packet.from_node,
    };
    let hairpin = |backend: &Backend| backend.local && backend.address.ip() == source;
    // Masquerading is done to packets that leave the node.
    let leaves = |backend: &Backend| {
        packet.from_node || !context.node_addresses.contains(&backend.address.ip())
    };
    let to: BTreeSet<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let masqueraded = backends
        .iter()
        .filter(|backend| leaves(backend) && (masquerade || hairpin(backend)))
        .map(|backend| backend.address)
        .collect();
    Expected::Delivered { to, masqueraded }
}
