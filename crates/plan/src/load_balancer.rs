//! Addresses of Services of type LoadBalancer (semantics 3.8).
//!
//! A Service is ours when its class is unset or `portolan`; all others belong to other controllers.
//! Addresses are given for the families of `spec.ipFamilies`, one per family.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpAddrRange, IpNet, Ipv4AddrRange, Ipv6AddrRange};
use model::{
    Cluster, Family, Ingress, IpMode, Reason, Service, ServiceName, ServicePort, TrafficPolicy,
    Write,
};

use crate::Reconciled;
use crate::events::Reporter;

const REPORTER: Reporter =
    Reporter { api_version: "v1", kind: "Service", component: "service-controller" };

/// Keeps a Service until its address is free again.
pub(crate) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// Addresses that a Service asks for, separated by commas; `spec.loadBalancerIP` can name only one.
const REQUEST: &str = "portolan.dev/load-balancer-ips";
/// Services of one namespace with the same value may share an address (C29).
const SHARING_KEY: &str = "portolan.dev/load-balancer-sharing-key";
/// The `loadBalancerClass` that we answer to besides none.
const CLASS: &str = "portolan";

/// The addresses that load balancers may get, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPool {
    ranges: Vec<RangeInclusive<IpAddr>>,
}

impl AddressPool {
    /// From ranges, both ends included.
    pub fn new(ranges: Vec<RangeInclusive<IpAddr>>) -> Self {
        Self { ranges }
    }

    /// From whole networks: every address of them, also the first and the last.
    pub fn from_networks(networks: &[IpNet]) -> Self {
        Self::new(networks.iter().map(|net| net.network()..=net.broadcast()).collect())
    }

    /// Whether there is no address at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the address belongs to the pool.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    fn of_family(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        let ranges = self.ranges.iter().filter(move |range| Family::of(*range.start()) == family);
        ranges
            .flat_map(|range| match (*range.start(), *range.end()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    Some(IpAddrRange::from(Ipv4AddrRange::new(first, last)))
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    Some(IpAddrRange::from(Ipv6AddrRange::new(first, last)))
                }
                _ => None,
            })
            .flatten()
    }
}

/// Gives every load balancer that is ours its addresses, and takes them back. One pass over all
/// Services, so that two of them can never get the same address unless both want to share it.
///
/// Addresses that a Service already has are kept while they are in the pool; then those asked for are
/// given, and then the first free ones, older Services first (C21). Without a pool nobody controls
/// load balancers here: only what an earlier pool has left behind is taken back.
pub fn load_balancer(cluster: &Cluster, pool: &AddressPool) -> Reconciled {
    let mut result = Reconciled::default();
    let mut ours: Vec<&Service> = Vec::new();
    for service in cluster.services.values() {
        if wants_address(service) && (!pool.is_empty() || is_held(service)) {
            ours.push(service);
        } else {
            release(service, &mut result.writes);
        }
    }
    ours.sort_by_key(|service| (service.meta.created, service.name()));
    let mut allocation = Allocation::new(cluster, pool, &ours);
    for &service in &ours {
        allocation.keep(service);
    }
    for service in ours {
        let failures = allocation.complete(service);
        write(service, allocation.of(service), &failures, &mut result);
    }
    result
}

/// Whether this controller looks after the Service (C20).
pub(crate) fn is_ours(service: &Service) -> bool {
    let class = service.load_balancer().map(|load_balancer| &load_balancer.class);
    class.is_some_and(|class| class.as_deref().is_none_or(|class| class == CLASS))
}

fn wants_address(service: &Service) -> bool {
    is_ours(service) && service.meta.deleting.is_none()
}

/// Whether the Service has had an address of ours and has not given it back.
fn is_held(service: &Service) -> bool {
    service.meta.finalizers.contains(FINALIZER)
}

/// Takes back what a Service that is deleted, or of another type now, still holds of ours.
fn release(service: &Service, writes: &mut Vec<Write>) {
    let is_foreign = service.load_balancer().is_some() && !is_ours(service);
    if is_foreign || !is_held(service) {
        return;
    }
    // C30.
    writes.push(REPORTER.normal(&service.meta, "DeletingLoadBalancer", "Deleting load balancer"));
    writes.push(ingress_write(service, Vec::new()));
    writes.push(finalizer_write(service, false));
    writes.push(REPORTER.normal(&service.meta, "DeletedLoadBalancer", "Deleted load balancer"));
}

/// Who has which address.
struct Allocation<'a> {
    pool: &'a AddressPool,
    /// Addresses that nobody may have: those of the nodes.
    forbidden: BTreeSet<IpAddr>,
    owners: BTreeMap<IpAddr, Vec<&'a Service>>,
    given: BTreeMap<ServiceName, BTreeMap<Family, IpAddr>>,
    /// Addresses that somebody asks for by name are given to others last.
    requested: BTreeSet<IpAddr>,
}

impl<'a> Allocation<'a> {
    fn new(cluster: &Cluster, pool: &'a AddressPool, services: &[&'a Service]) -> Self {
        Self {
            pool,
            forbidden: cluster.nodes.values().flat_map(|node| node.internal_ips.clone()).collect(),
            owners: BTreeMap::new(),
            given: BTreeMap::new(),
            requested: services.iter().flat_map(|service| requests(service).addresses).collect(),
        }
    }

    /// Keeps what the Service has, unless it asks for another address now.
    fn keep(&mut self, service: &'a Service) {
        let requests = requests(service).addresses;
        for address in present(service) {
            let family = Family::of(address);
            let wanted = requests.iter().find(|other| Family::of(**other) == family);
            let is_wanted = wanted.is_none_or(|wanted| *wanted == address);
            let is_free = self.refusal(service, address).is_none();
            if is_wanted && service.families.contains(&family) && is_free {
                self.give(service, address);
            }
        }
    }

    /// Gives the Service an address of every family that it still lacks; says what failed (C22).
    fn complete(&mut self, service: &'a Service) -> Vec<Reason> {
        let Requests { addresses, invalid } = requests(service);
        let mut failures: Vec<Reason> = invalid;
        for &family in &service.families {
            if self.of(service).is_some_and(|given| given.contains_key(&family)) {
                continue;
            }
            let requested = addresses.iter().find(|address| Family::of(**address) == family);
            let answer = match requested {
                Some(&address) => self.refusal(service, address).map_or(Ok(address), Err),
                None => self.shared(service, family).map_or_else(|| self.first_free(family), Ok),
            };
            match answer {
                Ok(address) => self.give(service, address),
                Err(reason) => {
                    failures.push(reason);
                    self.keep_present(service, family);
                }
            }
        }
        failures
    }

    /// What the Service has is better than nothing while it cannot have what it asks for.
    fn keep_present(&mut self, service: &'a Service, family: Family) {
        let address = present(service).find(|address| Family::of(*address) == family);
        if let Some(address) = address.filter(|address| self.refusal(service, *address).is_none()) {
            self.give(service, address);
        }
    }

    fn of(&self, service: &Service) -> Option<&BTreeMap<Family, IpAddr>> {
        self.given.get(&service.name())
    }

    fn give(&mut self, service: &'a Service, address: IpAddr) {
        let name = service.name();
        let given = self.given.entry(name).or_default();
        if given.contains_key(&Family::of(address)) {
            return;
        }
        given.insert(Family::of(address), address);
        self.owners.entry(address).or_default().push(service);
    }

    /// Why the Service cannot be given this address now.
    fn refusal(&self, service: &Service, address: IpAddr) -> Option<Reason> {
        if !self.pool.contains(address) {
            return Some(Reason::Other(format!("{address} is not in the address pool")));
        }
        if self.forbidden.contains(&address) {
            return Some(Reason::Other(format!("{address} belongs to a node")));
        }
        let owners = self.owners.get(&address)?;
        let obstacle = owners.iter().find_map(|owner| obstacle(service, owner))?;
        Some(Reason::Other(format!("{address} {obstacle}")))
    }

    /// An address that others have and want to share with this Service.
    fn shared(&self, service: &Service, family: Family) -> Option<IpAddr> {
        sharing_key(service)?;
        let mut taken = self.owners.keys().filter(|address| Family::of(**address) == family);
        taken.find(|address| self.refusal(service, **address).is_none()).copied()
    }

    fn first_free(&self, family: Family) -> Result<IpAddr, Reason> {
        let is_free = |address: &IpAddr| {
            !self.owners.contains_key(address) && !self.forbidden.contains(address)
        };
        let free = || self.pool.of_family(family).filter(is_free);
        let unrequested = free().find(|address| !self.requested.contains(address));
        unrequested.or_else(|| free().next()).ok_or_else(|| {
            let has_any = self.pool.of_family(family).next().is_some();
            Reason::Other(if has_any {
                format!("every {family} address of the pool is in use")
            } else {
                format!("the address pool has no {family} address")
            })
        })
    }
}

/// Why a Service cannot share an address with another that has it (C29): both must want to, no
/// port may be in both, and each node that answers for one must be able to answer for the other.
fn obstacle(service: &Service, owner: &Service) -> Option<String> {
    let name = owner.name();
    let key = sharing_key(service);
    let in_reach = service.meta.namespace == owner.meta.namespace;
    if key.is_none() || key != sharing_key(owner) || !in_reach {
        return Some(format!("belongs to Service {name}"));
    }
    let both = |one: &&ServicePort| {
        owner.ports.iter().any(|other| (one.protocol, one.port) == (other.protocol, other.port))
    };
    if let Some(port) = service.ports.iter().find(both) {
        let (port, protocol) = (port.port, port.protocol);
        return Some(format!("is shared by Service {name}, which has port {port}/{protocol} too"));
    }
    let local = |service: &Service| service.external_traffic_policy == TrafficPolicy::Local;
    if (local(service) || local(owner)) && service.selector != owner.selector {
        return Some(format!(
            "is shared by Service {name}: with externalTrafficPolicy Local both need the same \
             selector"
        ));
    }
    None
}

fn sharing_key(service: &Service) -> Option<&str> {
    service.meta.annotations.get(SHARING_KEY).map(String::as_str).filter(|key| !key.is_empty())
}

/// The addresses that a Service has in its status.
fn present(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let ingress = service.load_balancer().map_or(&[][..], |one| &one.ingress);
    ingress.iter().filter_map(|entry| match entry {
        Ingress::Ip(address, _) => Some(*address),
        Ingress::Hostname(_) => None,
    })
}

struct Requests {
    addresses: Vec<IpAddr>,
    invalid: Vec<Reason>,
}

/// What a Service asks for: the annotation wins over `spec.loadBalancerIP` (C23).
fn requests(service: &Service) -> Requests {
    let mut requests = Requests { addresses: Vec::new(), invalid: Vec::new() };
    let Some(text) = service.meta.annotations.get(REQUEST) else {
        requests.addresses.extend(service.load_balancer().and_then(|one| one.requested));
        return requests;
    };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(address) => requests.addresses.push(address),
            Err(_) => requests.invalid.push(Reason::Other(format!(
                "annotation {REQUEST}: {part:?} is not an IP address"
            ))),
        }
    }
    requests
}

/// Writes what differs; the finalizer comes before the first address (C24).
fn write(
    service: &Service,
    given: Option<&BTreeMap<Family, IpAddr>>,
    failures: &[Reason],
    result: &mut Reconciled,
) {
    let wanted: Vec<Ingress> = service
        .families
        .iter()
        .filter_map(|family| given?.get(family))
        .map(|address| Ingress::Ip(*address, IpMode::Vip))
        .collect();
    let has = service.load_balancer().map_or(&[][..], |one| &one.ingress);
    let lacks_finalizer = !service.meta.finalizers.contains(FINALIZER);
    if lacks_finalizer {
        let text = "Ensuring load balancer";
        result.writes.push(REPORTER.normal(&service.meta, "EnsuringLoadBalancer", text));
        result.writes.push(finalizer_write(service, true));
    }
    let differs = wanted != has;
    if differs {
        result.writes.push(ingress_write(service, wanted));
        if failures.is_empty() {
            let text = "Ensured load balancer";
            result.writes.push(REPORTER.normal(&service.meta, "EnsuredLoadBalancer", text));
        }
    }
    for reason in failures {
        let text = format!("Error syncing load balancer: {reason}");
        if lacks_finalizer || differs {
            let failed = REPORTER.warning(&service.meta, "SyncLoadBalancerFailed", text);
            result.writes.push(failed);
        }
        result.report.push(Reason::Other(format!("Service {}: {reason}", service.name())));
    }
}

fn ingress_write(service: &Service, ingress: Vec<Ingress>) -> Write {
    Write::ServiceIngress { name: service.name(), uid: service.meta.uid.clone(), ingress }
}

fn finalizer_write(service: &Service, present: bool) -> Write {
    Write::ServiceFinalizer {
        name: service.name(),
        uid: service.meta.uid.clone(),
        finalizer: FINALIZER.to_owned(),
        present,
    }
}
