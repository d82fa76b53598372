//! Which node answers for which load balancer address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{
    Advert, Adverts, Cluster, Ingress, IpMode, Node, NodeName, Reason, Service, ServiceName,
    TrafficPolicy,
};

use crate::load_balancer::is_ours;

/// Nodes with this label never announce.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The owner of every load balancer address: among the nodes alive that may announce it, the one
/// with the highest rendezvous hash of address and name, so that losing a node moves only the
/// addresses that it had.
///
/// A node may announce unless it is labelled out of load balancing; with policy Local it also needs
/// an endpoint of the Service that can answer. Whether a node is alive is for the caller to say: the
/// Ready condition of the Node object comes too late to be of use (C25).
pub fn adverts(cluster: &Cluster, alive: &BTreeSet<NodeName>) -> Adverts {
    let announcing: BTreeSet<&NodeName> = cluster
        .nodes
        .values()
        .filter(|node| alive.contains(&node.meta.name) && !is_excluded(node))
        .map(|node| &node.meta.name)
        .collect();
    let mut services: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for service in cluster.services.values().filter(|service| is_ours(service)) {
        for address in addresses(service) {
            services.entry(address).or_default().push(service);
        }
    }
    services
        .into_iter()
        .map(|(address, sharing)| {
            let names = sharing.iter().map(|service| service.name()).collect();
            let owner = owner(cluster, address, &sharing, &announcing);
            (address, Advert { services: names, owner })
        })
        .collect()
}

/// C26.
fn is_excluded(node: &Node) -> bool {
    node.meta.labels.contains_key(EXCLUDED) || node.meta.deleting.is_some()
}

fn addresses(service: &Service) -> BTreeSet<IpAddr> {
    let ingress = service.load_balancer().map_or(&[][..], |load_balancer| &load_balancer.ingress);
    let addresses = ingress.iter().filter_map(|entry| match entry {
        Ingress::Ip(address, IpMode::Vip) => Some(*address),
        Ingress::Ip(_, IpMode::Proxy) | Ingress::Hostname(_) => None,
    });
    addresses.collect()
}

fn owner(
    cluster: &Cluster,
    address: IpAddr,
    sharing: &[&Service],
    announcing: &BTreeSet<&NodeName>,
) -> Result<NodeName, Reason> {
    if announcing.is_empty() {
        return Err(Reason::Other("no node is alive that may announce addresses".to_owned()));
    }
    let mut candidates = announcing.clone();
    for service in sharing {
        if service.external_traffic_policy == TrafficPolicy::Local {
            let local = nodes_with_endpoints(cluster, &service.name(), address);
            candidates.retain(|node| local.contains(*node));
        }
    }
    let best = candidates.into_iter().max_by_key(|node| (rendezvous(address, node), *node));
    best.cloned().ok_or(Reason::NoLocalEndpoints)
}

/// The nodes on which an endpoint of the Service can answer: a ready one, or, where there is none,
/// one that serves while it terminates (D22).
fn nodes_with_endpoints(
    cluster: &Cluster,
    service: &ServiceName,
    address: IpAddr,
) -> BTreeSet<NodeName> {
    let of_family = |slice: &&std::sync::Arc<model::EndpointSlice>| {
        slice.address_type == model::AddressType::Ip(model::Family::of(address))
            && !slice.meta.labels.contains_key(crate::selected::HEADLESS)
    };
    let endpoints =
        || cluster.slices_of(service).filter(of_family).flat_map(|slice| &slice.endpoints);
    let ready: BTreeSet<NodeName> = endpoints()
        .filter(|endpoint| endpoint.conditions.ready)
        .filter_map(|endpoint| endpoint.node.clone())
        .collect();
    if !ready.is_empty() {
        return ready;
    }
    endpoints()
        .filter(|endpoint| endpoint.conditions.serving && endpoint.conditions.terminating)
        .filter_map(|endpoint| endpoint.node.clone())
        .collect()
}

/// The weight of a node for an address: FNV-1a of both, mixed so that near names are far apart.
fn rendezvous(address: IpAddr, node: &NodeName) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    match address {
        IpAddr::V4(address) => address.octets().into_iter().for_each(&mut add),
        IpAddr::V6(address) => address.octets().into_iter().for_each(&mut add),
    }
    node.as_bytes().iter().copied().for_each(&mut add);
    // Finalizer of MurmurHash3: every bit of the input changes half of the output.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
