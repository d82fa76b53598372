//! The lab's networks: who is joined with whom, and which way packets go.
//!
//! A pod is joined with its node by a pair of links and nothing else, and both route: no bridge
//! lies between pods of a node, so the node's connection tracking sees both directions of every
//! flow, also of one between two pods of the same node.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::Namespace;
use super::link::{Links, Route, sysctl};
use crate::config::AddressPlan;

/// The bridge of the external network, in the fabric.
const BRIDGE: &str = "ext0";
/// The link of a node, pod or client towards the others.
pub(crate) const UPLINK: &str = "eth0";
/// The gateway of pods in IPv6: the node's end of their link.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Why a part of the network could not be built.
#[derive(Debug, thiserror::Error)]
#[error("could not build the network of {part}")]
pub struct TopologyError {
    /// `the fabric`, `node1`, `pod default/web-x`.
    part: String,
    source: io::Error,
}

/// The namespaces outside pods.
#[derive(Debug)]
pub struct Topology {
    /// The external network itself, and the home of the API server.
    pub fabric: Namespace,
    /// A machine outside the cluster: it reaches the external network and nothing behind it.
    pub client: Namespace,
    nodes: BTreeMap<u16, Namespace>,
    count: u16,
}

impl Topology {
    /// Builds fabric, client and `count` nodes.
    ///
    /// # Errors
    /// Names the part that failed.
    pub fn build(count: u16) -> Result<Self, TopologyError> {
        let fabric = named("the fabric", new_fabric(count))?;
        let client = named("the client", new_host(&fabric, "client", AddressPlan::client()))?;
        let mut topology = Self { fabric, client, nodes: BTreeMap::new(), count };
        for index in 0..count {
            topology.start_node(index)?;
        }
        Ok(topology)
    }

    /// The namespace of a node, if it is running.
    pub fn node(&self, index: u16) -> Option<&Namespace> {
        self.nodes.get(&index)
    }

    /// Builds the namespace of a node and joins it to the external network.
    ///
    /// # Errors
    /// Names the node.
    pub fn start_node(&mut self, index: u16) -> Result<Namespace, TopologyError> {
        let name = AddressPlan::node_name(index);
        let node = named(&name, new_node(&self.fabric, index, self.count))?;
        self.nodes.insert(index, node.clone());
        Ok(node)
    }

    /// Takes a node off the external network, at once, and forgets its namespace.
    ///
    /// # Errors
    /// Names the node.
    pub fn stop_node(&mut self, index: u16) -> Result<(), TopologyError> {
        let name = AddressPlan::node_name(index);
        if self.nodes.remove(&index).is_some() {
            let unplug = self.fabric.run(|| Links::open()?.delete(&name));
            named(&name, unplug)?;
        }
        Ok(())
    }
}

/// A pod's link to its node.
#[derive(Debug)]
pub struct PodLink {
    /// The pod's own namespace.
    pub namespace: Namespace,
    /// The pod's addresses: IPv4, then IPv6.
    pub addresses: [IpAddr; 2],
    node: Namespace,
    link: String,
}

impl PodLink {
    /// Makes a namespace for a pod and joins it with its node. `link` is the name of the node's
    /// end, at most 15 bytes; `node_addresses` are what the pod sees its node as.
    ///
    /// # Errors
    /// Names the link.
    pub fn new(
        node: &Namespace,
        link: &str,
        addresses: [IpAddr; 2],
        node_addresses: [IpAddr; 2],
    ) -> Result<Self, TopologyError> {
        let namespace = named(link, join_pod(node, link, addresses, node_addresses))?;
        Ok(Self { namespace, addresses, node: node.clone(), link: link.to_owned() })
    }
}

impl Drop for PodLink {
    fn drop(&mut self) {
        // The namespace dies with its last process, at the kernel's leisure; the address must be
        // free at once. Nothing is left to do when the node is gone already.
        let _ = self.node.run(|| Links::open()?.delete(&self.link));
    }
}

fn new_fabric(count: u16) -> io::Result<Namespace> {
    let fabric = Namespace::new()?;
    fabric.run(|| {
        no_address_detection()?;
        let mut links = Links::open()?;
        links.set_up("lo", true)?;
        links.add_bridge(BRIDGE)?;
        add_external_addresses(&mut links, BRIDGE, AddressPlan::fabric())?;
        add_pod_routes(&mut links, BRIDGE, count, None)
    })?;
    Ok(fabric)
}

fn new_node(fabric: &Namespace, index: u16, count: u16) -> io::Result<Namespace> {
    let addresses = AddressPlan::node(index);
    let node = new_host(fabric, &AddressPlan::node_name(index), addresses)?;
    node.run(|| {
        sysctl("ipv4/ip_forward", "1")?;
        sysctl("ipv6/conf/all/forwarding", "1")?;
        sysctl("ipv4/conf/all/rp_filter", "0")?;
        // A packet to a load balancer address may leave where it came in: no reason to tell the
        // client of a shorter way past this node.
        sysctl("ipv4/conf/all/send_redirects", "0")?;
        let mut links = Links::open()?;
        // The gateway that pods are told of in IPv4; any link of the node answers ARP for it.
        links.add_address("lo", IpNet::from(gateway_v4(AddressPlan::node_pods(index)[0])))?;
        // The kernel looks a route up before the output hook sees a cluster IP. The fabric
        // forwards nothing, so that no packet gets any further.
        add_default_routes(&mut links, AddressPlan::fabric())?;
        add_pod_routes(&mut links, UPLINK, count, Some(index))
    })?;
    Ok(node)
}

/// A namespace with one link to the external network.
fn new_host(fabric: &Namespace, name: &str, addresses: [IpAddr; 2]) -> io::Result<Namespace> {
    let host = Namespace::new()?;
    host.run(|| {
        no_address_detection()?;
        sysctl("ipv4/conf/default/rp_filter", "0")?;
        Links::open()?.set_up("lo", true)
    })?;
    fabric.run(|| {
        let mut links = Links::open()?;
        links.add_veth(name, UPLINK, &host, Some(ethernet_address(addresses[0])))?;
        links.set_bridge(name, BRIDGE)
    })?;
    host.run(|| {
        let mut links = Links::open()?;
        links.set_up(UPLINK, true)?;
        add_external_addresses(&mut links, UPLINK, addresses)?;
        links.wait_until_running(UPLINK)
    })?;
    fabric.run(|| Links::open()?.wait_until_running(name))?;
    Ok(host)
}

fn join_pod(
    node: &Namespace,
    link: &str,
    addresses: [IpAddr; 2],
    node_addresses: [IpAddr; 2],
) -> io::Result<Namespace> {
    let pod = Namespace::new()?;
    pod.run(|| {
        no_address_detection()?;
        Links::open()?.set_up("lo", true)
    })?;
    let gateway = node.run(|| {
        let mut links = Links::open()?;
        links.add_veth(link, UPLINK, &pod, None)?;
        links.add_address(link, IpNet::new_assert(GATEWAY_V6.into(), 64))?;
        for (address, source) in addresses.into_iter().zip(node_addresses) {
            links.add_route(&Route {
                to: address.into(),
                via: None,
                link,
                source: Some(source),
            })?;
        }
        Ok(gateway_of(addresses[0]))
    })?;
    pod.run(|| {
        let mut links = Links::open()?;
        links.set_up(UPLINK, true)?;
        for address in addresses {
            links.add_address(UPLINK, address.into())?;
        }
        links.add_route(&Route { to: gateway.into(), via: None, link: UPLINK, source: None })?;
        add_default_routes(&mut links, [gateway, GATEWAY_V6.into()])?;
        links.wait_until_running(UPLINK)
    })?;
    node.run(|| Links::open()?.wait_until_running(link))?;
    Ok(pod)
}

/// A machine keeps its Ethernet address when it is started again, and what its neighbours remember
/// of it stays true. Locally administered (IEEE 802: 02), then the IPv4 address.
fn ethernet_address(address: IpAddr) -> [u8; 6] {
    let octets = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => address.octets().last_chunk().copied().unwrap_or_default(),
    };
    [2, 0, octets[0], octets[1], octets[2], octets[3]]
}

/// Addresses of this lab are unique by construction: waiting for duplicates would only cost time.
fn no_address_detection() -> io::Result<()> {
    sysctl("ipv6/conf/default/accept_dad", "0")?;
    sysctl("ipv6/conf/all/accept_dad", "0")?;
    sysctl("ipv6/conf/default/accept_ra", "0")
}

fn add_external_addresses(links: &mut Links, link: &str, addresses: [IpAddr; 2]) -> io::Result<()> {
    for (address, network) in addresses.into_iter().zip(AddressPlan::external()) {
        links.add_address(link, IpNet::new_assert(address, network.prefix_len()))?;
    }
    Ok(())
}

fn add_default_routes(links: &mut Links, gateways: [IpAddr; 2]) -> io::Result<()> {
    for (to, via) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateways) {
        let to = to.parse().map_err(io::Error::other)?;
        links.add_route(&Route { to, via: Some(via), link: UPLINK, source: None })?;
    }
    Ok(())
}

/// Routes to the pods of all nodes but `own`.
fn add_pod_routes(links: &mut Links, link: &str, count: u16, own: Option<u16>) -> io::Result<()> {
    for index in (0..count).filter(|index| Some(*index) != own) {
        for (to, via) in AddressPlan::node_pods(index).into_iter().zip(AddressPlan::node(index)) {
            links.add_route(&Route { to, via: Some(via), link, source: None })?;
        }
    }
    Ok(())
}

/// The first address of the /24 in which a pod's address lies.
fn gateway_of(address: IpAddr) -> IpAddr {
    gateway_v4(IpNet::new_assert(address, 24).trunc())
}

fn gateway_v4(network: IpNet) -> IpAddr {
    network.hosts().next().unwrap_or_else(|| network.addr())
}

fn named<T>(part: &str, result: io::Result<T>) -> Result<T, TopologyError> {
    result.map_err(|source| TopologyError { part: part.to_owned(), source })
}
