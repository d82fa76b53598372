//! Random packets: most go where a Service answers, or close by.
//!
//! ```text
//!  Shot (random, knows no cluster) ── at(cluster, node addresses) ─▶ Packet
//! ```
//! An address and port drawn from pools would mostly miss: of what is sent, [`Tally`] counts how it
//! fared, so that a run that tests little fails.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::{Cluster, Ingress, Outcome, Packet, Protocol, Reason, Service, ServiceType, Verdict};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::arbitrary::{
    CLIENTS, ENDPOINTS_V4, ENDPOINTS_V6, EXTERNAL, NODE, NODES, PORTS, SERVICES, VIPS, ip,
    node_ports, protocol,
};

/// The first packet of a connection, to be aimed at what a cluster has.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    aim: Aim,
    target: Index,
    /// Where it goes when not to a Service.
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    source: Index,
    interface: &'static str,
}

/// What a packet is aimed at.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// An address, port and protocol of a Service.
    Frontend,
    /// The same from the address itself, as of a load balancer that stands on the node (D28).
    FromItself,
    /// The address, another port.
    OtherPort,
    /// The address and port, another protocol.
    OtherProtocol,
    /// Any address and port.
    Anywhere,
}

/// Packets that have not been aimed yet.
pub(crate) fn shot() -> impl Strategy<Value = Shot> {
    let aim = prop_oneof![
        12 => Just(Aim::Frontend),
        1 => Just(Aim::FromItself),
        1 => Just(Aim::OtherPort),
        1 => Just(Aim::OtherProtocol),
        3 => Just(Aim::Anywhere),
    ];
    let ports = PORTS.into_iter().chain((0..SERVICES).flat_map(node_ports)).chain([9]);
    let port = select(ports.collect::<Vec<u16>>());
    let interface = select(vec!["eth0", "veth1", "veth2"]);
    let indices = (any::<Index>(), any::<Index>());
    (aim, address(), port, protocol(), indices, interface).prop_map(
        |(aim, address, port, protocol, (target, source), interface)| Shot {
            aim,
            target,
            address,
            port,
            protocol,
            source,
            interface,
        },
    )
}

fn address() -> impl Strategy<Value = IpAddr> {
    let cluster_ips = (0..SERVICES)
        .flat_map(|index| [format!("10.96.0.1{index}"), format!("fd00:10:96::1{index}")]);
    let others = [&VIPS[..], &EXTERNAL, &NODE, &["10.96.0.99", "fd00:10:96::99", "198.51.100.1"]];
    let others = others.concat().into_iter().map(str::to_owned);
    select(cluster_ips.chain(others).collect::<Vec<_>>()).prop_map(|text| ip(&text))
}

impl Shot {
    /// The packet, aimed at the Services of a cluster where node ports answer on some addresses.
    pub(crate) fn at(&self, cluster: &Cluster, nodes: impl IntoIterator<Item = IpAddr>) -> Packet {
        let frontends = frontends(cluster, nodes);
        let aim = if frontends.is_empty() { Aim::Anywhere } else { self.aim };
        let (mut to, mut protocol) = match aim {
            Aim::Anywhere => (SocketAddr::new(self.address, self.port), self.protocol),
            _ => *self.target.get(&frontends),
        };
        match aim {
            Aim::OtherPort => to.set_port(self.port),
            Aim::OtherProtocol => protocol = self.protocol,
            _ => {}
        }
        let source = match aim {
            Aim::FromItself if VIPS.map(ip).contains(&to.ip()) => to.ip(),
            _ => self.source(to.ip()),
        };
        let from_node = NODE.map(ip).contains(&source);
        Packet {
            node: NODES[0].into(),
            from_node,
            interface: if from_node { String::new() } else { self.interface.to_owned() },
            protocol,
            source: SocketAddr::new(source, 40000),
            destination: to,
        }
    }

    fn source(&self, to: IpAddr) -> IpAddr {
        let sources = [&CLIENTS[..], &ENDPOINTS_V4, &ENDPOINTS_V6, &NODE, &VIPS].concat();
        let mut sources: Vec<IpAddr> = sources.into_iter().map(ip).collect();
        sources.retain(|address| address.is_ipv4() == to.is_ipv4());
        *self.source.get(&sources)
    }
}

/// Where Services may answer, whether somebody serves them here or not. Told from the objects alone:
/// what the plan forgets is still aimed at.
pub(crate) fn frontends(
    cluster: &Cluster,
    nodes: impl IntoIterator<Item = IpAddr>,
) -> Vec<(SocketAddr, Protocol)> {
    let nodes: Vec<IpAddr> = nodes.into_iter().collect();
    let mut frontends = Vec::new();
    for service in cluster.services.values() {
        let addresses = addresses(service);
        let has_node_ports =
            matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer(_));
        for port in &service.ports {
            let at = |address: &IpAddr| SocketAddr::new(*address, port.port.get());
            frontends.extend(addresses.iter().map(|address| (at(address), port.protocol)));
            let Some(number) = port.node_port.filter(|_| has_node_ports) else { continue };
            let at = |address: &IpAddr| SocketAddr::new(*address, number.get());
            frontends.extend(nodes.iter().map(|address| (at(address), port.protocol)));
        }
    }
    frontends
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let mut addresses = service.cluster_ips.addresses().to_vec();
    addresses.extend(&service.external_ips);
    let ingress = service.load_balancer().map_or(&[][..], |balancer| &balancer.ingress);
    addresses.extend(ingress.iter().filter_map(|entry| match entry {
        Ingress::Ip(address, _) => Some(*address),
        Ingress::Hostname(_) => None,
    }));
    addresses
}

/// How packets fared.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    pub(crate) fn add(&mut self, packet: &Packet, verdict: &Verdict) {
        let outcome = match &verdict.outcome {
            Outcome::Delivered { masqueraded, .. } if masqueraded.is_empty() => "delivered",
            Outcome::Delivered { .. } => "masqueraded",
            Outcome::Rejected => "refused",
            Outcome::Dropped => "dropped",
            Outcome::Untouched(_) => "untouched",
        };
        let why = match &verdict.reason {
            Some(Reason::SourceRange) => "source range",
            Some(Reason::NoLocalEndpoints) => "no local endpoints",
            Some(Reason::NoEndpoints) => "no endpoints",
            Some(Reason::UndeclaredPort) => "undeclared port",
            Some(Reason::TerminatingFallback) => "terminating",
            Some(Reason::ZoneHints | Reason::NodeHints) => "hints",
            _ => "other reasons",
        };
        let from = if packet.source.ip() == packet.destination.ip() {
            "from the address itself"
        } else if packet.from_node {
            "from the node"
        } else {
            "from elsewhere"
        };
        let family = if packet.destination.is_ipv4() { "IPv4" } else { "IPv6" };
        for what in ["packets", outcome, why, from, family] {
            *self.0.entry(what).or_default() += 1;
        }
    }

    /// Fails when of a thousand packets less than so many are of some kind.
    pub(crate) fn assert_varied(&self, wanted: &[(&str, usize)]) {
        eprintln!("{self:?}");
        let count = |what: &str| self.0.get(what).copied().unwrap_or_default();
        for (what, least) in wanted {
            let enough = 1000 * count(what) >= least * count("packets");
            assert!(enough, "of a thousand packets less than {least}: {what}; {self:?}");
        }
    }
}
