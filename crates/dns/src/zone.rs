//! What every name of the cluster means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{
    Cluster, Endpoint, EndpointSlice, Family, NodeName, Port, Protocol, Service, ServiceName,
    ServiceType,
};

/// The names of one cluster at one moment.
#[derive(Debug, Default)]
pub struct Zone {
    /// Lower case, without dots at the ends.
    domain: String,
    cluster: Cluster,
    reverse: BTreeMap<IpAddr, BTreeSet<String>>,
}

/// A question's type, as far as the zone holds data of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Port and target of a named port.
    Srv,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
    /// Start of authority.
    Soa,
    /// Everything.
    Any,
    /// A type that no name here has.
    Other,
}

/// The zone's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// How it went.
    pub code: Code,
    /// The answer section.
    pub records: Vec<Resource>,
    /// Addresses of SRV targets.
    pub additional: Vec<Resource>,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The name exists; no records means that it has none of this type (NODATA).
    Exists,
    /// No such name (NXDOMAIN).
    NoSuchName,
    /// Not a name of this cluster.
    NotOurs,
}

/// One resource record. Names are absolute, without the last dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Resource {
    /// Owner name.
    pub name: String,
    /// Type and data.
    pub data: Data,
}

/// Type and data of a record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
    /// SRV of equal priority and weight.
    Service {
        /// Port of the target.
        port: Port,
        /// Name of the target.
        target: String,
    },
    /// PTR.
    Pointer(String),
    /// TXT.
    Text(String),
}

/// Version of the specification that is served, at `dns-version.<domain>`.
const SCHEMA_VERSION: &str = "1.1.0";
/// ExternalName chains longer than this are cut.
const MAX_ALIASES: usize = 8;

impl Zone {
    /// The names of `cluster` under `domain` (such as `cluster.local`).
    pub fn new(domain: &str, cluster: &Cluster) -> Self {
        let mut zone = Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            cluster: cluster.clone(),
            reverse: BTreeMap::new(),
        };
        zone.reverse = zone.reverse_names();
        zone
    }

    /// The cluster domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Answers one question. `name` is absolute; case and a last dot do not matter.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(address) = reverse_address(&name) {
            return self.pointer(&name, address, kind);
        }
        let records = match self.relative(&name) {
            Some(relative) => self.in_domain(&relative),
            None => self.node(&name).map(|addresses| addresses_of(&name, addresses)),
        };
        match records {
            Some(records) => self.select(records, kind),
            None if self.is_ours(&name) => Answer::empty(Code::NoSuchName),
            None => Answer::empty(Code::NotOurs),
        }
    }

    /// Keeps what was asked for and follows aliases inside the zone.
    fn select(&self, records: Vec<Resource>, kind: RecordType) -> Answer {
        let mut answer = Answer::empty(Code::Exists);
        let mut pending = records;
        for _ in 0..MAX_ALIASES {
            let alias = pending.iter().find_map(|record| match &record.data {
                Data::Alias(target) => Some(target.clone()),
                _ => None,
            });
            answer.records.extend(pending.drain(..).filter(|record| record.data.is(kind)));
            let Some(target) = alias.filter(|_| kind != RecordType::Cname) else { break };
            let Some(relative) = self.relative(&target) else { break };
            pending = self.in_domain(&relative).unwrap_or_default();
        }
        for record in &answer.records {
            if let Data::Service { target, .. } = &record.data {
                let relative = self.relative(target);
                let found = relative.and_then(|relative| self.in_domain(&relative));
                answer.additional.extend(
                    found
                        .into_iter()
                        .flatten()
                        .filter(|record| matches!(record.data, Data::Address(_))),
                );
            }
        }
        answer.additional.sort();
        answer.additional.dedup();
        answer
    }

    fn pointer(&self, name: &str, address: IpAddr, kind: RecordType) -> Answer {
        let Some(names) = self.reverse.get(&address) else {
            return Answer::empty(Code::NotOurs);
        };
        let records = names
            .iter()
            .map(|target| Resource { name: name.to_owned(), data: Data::Pointer(target.clone()) });
        Answer {
            code: Code::Exists,
            records: records.filter(|record| record.data.is(kind)).collect(),
            additional: Vec::new(),
        }
    }

    /// The labels below the domain, leaf first; `None` outside of it.
    fn relative(&self, name: &str) -> Option<Vec<String>> {
        let below = name.strip_suffix(self.domain.as_str())?;
        if below.is_empty() {
            return Some(Vec::new());
        }
        let below = below.strip_suffix('.')?;
        Some(below.split('.').map(str::to_owned).collect())
    }

    fn is_ours(&self, name: &str) -> bool {
        self.relative(name).is_some()
    }

    /// All records of a name in the domain; `None` when it does not exist.
    fn in_domain(&self, labels: &[String]) -> Option<Vec<Resource>> {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let name = self.absolute(&labels);
        match labels.as_slice() {
            [] => Some(Vec::new()),
            ["dns-version"] => {
                Some(vec![Resource { name, data: Data::Text(SCHEMA_VERSION.to_owned()) }])
            }
            ["svc"] | ["pod"] => Some(Vec::new()),
            [namespace, "svc" | "pod"] => self.namespace_exists(namespace).then(Vec::new),
            [dashed, namespace, "pod"] => {
                let address = dashed_address(dashed)?;
                self.namespace_exists(namespace).then(|| addresses_of(&name, vec![address]))
            }
            [service, namespace, "svc"] => self.service(&name, self.find(namespace, service)?),
            [port, protocol, service, namespace, "svc"] if protocol.starts_with('_') => {
                let service = self.find(namespace, service)?;
                self.named_port(&name, service, port.strip_prefix('_')?, &protocol[1..])
            }
            [protocol, service, namespace, "svc"] if protocol.starts_with('_') => {
                // An empty non-terminal: names below it exist (RFC 8020).
                let service = self.find(namespace, service)?;
                let exists = |port: &&model::ServicePort| spelled(port.protocol) == &protocol[1..];
                service.ports.iter().find(exists).map(|_| Vec::new())
            }
            [host, service, namespace, "svc"] => {
                self.endpoint_host(&name, self.find(namespace, service)?, host)
            }
            _ => None,
        }
    }

    fn service(&self, name: &str, service: &Service) -> Option<Vec<Resource>> {
        if let ServiceType::ExternalName(target) = &service.kind {
            let target = target.trim_end_matches('.').to_ascii_lowercase();
            return Some(vec![Resource { name: name.to_owned(), data: Data::Alias(target) }]);
        }
        if service.is_headless() {
            let addresses = self.ready(service).filter_map(|(_, endpoint)| first(endpoint));
            return Some(addresses_of(name, addresses.collect()));
        }
        match service.cluster_ips.addresses() {
            [] => None,
            addresses => Some(addresses_of(name, addresses.to_vec())),
        }
    }

    fn named_port(
        &self,
        name: &str,
        service: &Service,
        port: &str,
        protocol: &str,
    ) -> Option<Vec<Resource>> {
        let record =
            |port, target| Resource { name: name.to_owned(), data: Data::Service { port, target } };
        let mut records = Vec::new();
        if service.is_headless() {
            for (slice, endpoint) in self.ready(service) {
                for slice_port in &slice.ports {
                    let named = slice_port.name.as_deref() == Some(port);
                    let (true, true, Some(number)) =
                        (named, spelled(slice_port.protocol) == protocol, slice_port.port)
                    else {
                        continue;
                    };
                    let Some(host) = host_label(endpoint) else { continue };
                    records.push(record(number, self.service_name(service, Some(&host))));
                }
            }
        } else {
            let matching = service.ports.iter().filter(|candidate| {
                &*candidate.name == port && spelled(candidate.protocol) == protocol
            });
            let target = self.service_name(service, None);
            records.extend(matching.map(|port| record(port.port, target.clone())));
        }
        records.sort();
        records.dedup();
        (!records.is_empty()).then_some(records)
    }

    fn endpoint_host(&self, name: &str, service: &Service, host: &str) -> Option<Vec<Resource>> {
        if !service.is_headless() {
            return None;
        }
        let named = self
            .ready(service)
            .filter(|(_, endpoint)| host_label(endpoint).as_deref() == Some(host))
            .filter_map(|(_, endpoint)| first(endpoint));
        let records = addresses_of(name, named.collect());
        (!records.is_empty()).then_some(records)
    }

    fn ready<'a>(
        &'a self,
        service: &Service,
    ) -> impl Iterator<Item = (&'a EndpointSlice, &'a Endpoint)> {
        self.cluster.slices_of(&service.name()).flat_map(|slice| {
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready);
            ready.map(|endpoint| (&**slice, endpoint))
        })
    }

    fn reverse_names(&self) -> BTreeMap<IpAddr, BTreeSet<String>> {
        let mut reverse: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for service in self.cluster.services.values() {
            for address in service.cluster_ips.addresses() {
                reverse.entry(*address).or_default().insert(self.service_name(service, None));
            }
            if !service.is_headless() {
                continue;
            }
            for (_, endpoint) in self.ready(service) {
                // Only endpoints with a host name of their own have a reverse name.
                if let (Some(address), Some(host)) = (first(endpoint), &endpoint.hostname) {
                    let name = self.service_name(service, Some(host));
                    reverse.entry(address).or_default().insert(name);
                }
            }
        }
        reverse
    }

    /// Bare names of nodes, so that `http://node1:30007` works inside the cluster.
    fn node(&self, name: &str) -> Option<Vec<IpAddr>> {
        let node = self.cluster.nodes.get(&NodeName::from(name))?;
        Some(node.internal_ips.clone())
    }

    fn find(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.cluster.services.get(&ServiceName::new(namespace, name)).map(|service| &**service)
    }

    fn namespace_exists(&self, namespace: &str) -> bool {
        self.cluster.namespaces.contains_key(namespace)
            || self.cluster.services.keys().any(|name| &*name.namespace == namespace)
    }

    fn service_name(&self, service: &Service, host: Option<&str>) -> String {
        let service = [service.meta.name.as_str(), service.meta.namespace.as_str(), "svc"];
        self.absolute(&host.into_iter().chain(service).collect::<Vec<_>>())
    }

    fn absolute(&self, labels: &[&str]) -> String {
        let mut name = labels.join(".");
        if !name.is_empty() {
            name.push('.');
        }
        name + &self.domain
    }
}

impl Answer {
    fn empty(code: Code) -> Self {
        Self { code, records: Vec::new(), additional: Vec::new() }
    }
}

impl Data {
    /// Whether a question of this type is answered by this record.
    fn is(&self, kind: RecordType) -> bool {
        match (self, kind) {
            (_, RecordType::Any) | (Self::Alias(_), _) => true,
            (Self::Address(address), RecordType::A) => address.is_ipv4(),
            (Self::Address(address), RecordType::Aaaa) => address.is_ipv6(),
            (Self::Service { .. }, RecordType::Srv)
            | (Self::Pointer(_), RecordType::Ptr)
            | (Self::Text(_), RecordType::Txt) => true,
            _ => false,
        }
    }
}

fn addresses_of(name: &str, mut addresses: Vec<IpAddr>) -> Vec<Resource> {
    addresses.sort();
    addresses.dedup();
    let record = |address| Resource { name: name.to_owned(), data: Data::Address(address) };
    addresses.into_iter().map(record).collect()
}

fn first(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first().copied()
}

/// The label of an endpoint below its headless Service: its host name, or else its address
/// with dashes.
fn host_label(endpoint: &Endpoint) -> Option<String> {
    if let Some(hostname) = &endpoint.hostname {
        return Some(hostname.to_string());
    }
    first(endpoint).map(dashed)
}

fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        // Written out in full: `fd00::1` with dashes would start or end with one.
        IpAddr::V6(address) => address.segments().map(|part| format!("{part:x}")).join("-"),
    }
}

fn dashed_address(label: &str) -> Option<IpAddr> {
    if let Ok(address) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::from)
}

fn spelled(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035, RFC 3596).
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = labels.rsplit('.').collect();
        return forward.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::from);
    }
    let nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    if nibbles.len() != 32 || nibbles.iter().any(|nibble| nibble.len() != 1) {
        return None;
    }
    let bits = u128::from_str_radix(&nibbles.concat(), 16).ok()?;
    Some(Ipv6Addr::from_bits(bits).into())
}

/// The question type that asks for addresses of a family.
impl From<Family> for RecordType {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::A,
            Family::V6 => Self::Aaaa,
        }
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
