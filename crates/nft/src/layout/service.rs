//! What one Service adds to the sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::{
    Action, Affinity, Backend, Family, Frontend, FrontendKind, NodeContext, Port, PortName,
    Protocol, ServiceView,
};

use super::bytes::Bytes;
use super::draw::{Draw, Entry, List, Pick, backends};
use super::sets;
use crate::expr::Name;
use crate::ruleset::{Data, Key};

/// Something of which the tables can hold one only. Several Services may claim it (a shared
/// endpoint, a load balancer address given twice by mistake); the first by name gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Spot {
    Frontend(IpAddr, Protocol, Port),
    NodePort(Family, Protocol, Port),
    ClusterIp(IpAddr),
    Hairpin(IpAddr),
}

impl Spot {
    pub(crate) fn of(frontend: &Frontend) -> Self {
        match frontend.kind {
            FrontendKind::ClusterIp(address)
            | FrontendKind::ExternalIp(address)
            | FrontendKind::LoadBalancer(address) => {
                Self::Frontend(address, frontend.protocol, frontend.port)
            }
            FrontendKind::NodePort(family) => {
                Self::NodePort(family, frontend.protocol, frontend.port)
            }
        }
    }

    /// Reads the key of a frontend or node port, and returns what follows it.
    pub(crate) fn parse(family: Family, node_port: bool, key: &[u8]) -> Option<(Self, &[u8])> {
        let (address, rest) = if node_port { (None, key) } else { read_address(family, key)? };
        let (bytes, rest) = rest.split_first_chunk::<8>()?;
        let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = known.into_iter().find(|known| known.number() == bytes[0])?;
        let port = Port::new(u16::from_be_bytes([bytes[4], bytes[5]]))?;
        let spot = match address {
            Some(address) => Self::Frontend(address, protocol, port),
            None => Self::NodePort(family, protocol, port),
        };
        Some((spot, rest))
    }

    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Frontend(_, Protocol::Tcp, _) | Self::NodePort(_, Protocol::Tcp, _))
    }

    fn family(self) -> Family {
        match self {
            Self::Frontend(address, ..) | Self::ClusterIp(address) | Self::Hairpin(address) => {
                Family::of(address)
            }
            Self::NodePort(family, ..) => family,
        }
    }

    fn bytes(self) -> Bytes {
        let mut bytes = Bytes::default();
        match self {
            Self::Frontend(address, protocol, port) => {
                bytes.address(address).protocol(protocol).port(port)
            }
            Self::NodePort(_, protocol, port) => bytes.protocol(protocol).port(port),
            Self::ClusterIp(address) => bytes.address(address),
            Self::Hairpin(address) => bytes.address(address).address(address),
        };
        bytes
    }
}

/// The spots that a Service claims, each once, sorted.
pub(crate) fn spots(service: &ServiceView) -> Vec<Spot> {
    let mut spots: Vec<Spot> = service.frontends.iter().map(Spot::of).collect();
    spots.extend(service.cluster_ips.iter().copied().map(Spot::ClusterIp));
    let endpoints = service.frontends.iter().flat_map(|frontend| {
        backends(&frontend.internal).iter().chain(backends(&frontend.external))
    });
    let local = endpoints.filter(|backend| backend.local);
    spots.extend(local.map(|backend| Spot::Hairpin(backend.address.ip())));
    spots.sort_unstable();
    spots.dedup();
    spots
}

/// Elements of many Services, by family and set; unsorted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Contribution {
    pub(crate) elements: BTreeMap<(Family, Name), Vec<(Key, Data)>>,
    pub(crate) picks: BTreeSet<(Family, Pick)>,
}

impl Contribution {
    /// Adds what a Service contributes to the spots that `owned` says are its.
    pub(crate) fn add(
        &mut self,
        context: &NodeContext,
        counters: bool,
        service: &ServiceView,
        owned: impl Fn(Spot) -> bool,
    ) {
        let mut frontends = BTreeMap::new();
        for frontend in &service.frontends {
            let spot = Spot::of(frontend);
            if owned(spot) {
                frontends.entry(spot).or_insert(frontend);
            }
        }
        let names = service_ports(&frontends);
        for (spot, frontend) in &frontends {
            self.frontend(*spot, frontend);
            self.source_ranges(context, *spot, frontend);
            self.resets(*spot, frontend);
            if counters {
                self.push(spot.family(), Places::of(*spot).counted, spot.bytes().key(), Data::None);
            }
            if frontend.affinity.is_some() {
                let family = spot.family();
                let service_port = (family, &frontend.port_name, frontend.protocol);
                self.affinity(*spot, frontend, &names[&service_port]);
            }
        }
        for spot in spots(service) {
            let set = match spot {
                Spot::ClusterIp(_) => sets::CLUSTER_IPS,
                Spot::Hairpin(_) => sets::HAIRPIN,
                Spot::Frontend(..) | Spot::NodePort(..) => continue,
            };
            if owned(spot) {
                self.push(spot.family(), set, spot.bytes().key(), Data::None);
            }
        }
    }

    fn frontend(&mut self, spot: Spot, frontend: &Frontend) {
        let family = spot.family();
        let places = Places::of(spot);
        let key = spot.bytes();
        if let Some(entry) = Entry::of(frontend) {
            self.push(family, entry.name(), key.key(), Data::None);
            let local = entry.has_local_list().then_some((true, &frontend.external));
            for (local, action) in [(false, &frontend.internal)].into_iter().chain(local) {
                let from = List { node_port: entry.node_port, local };
                self.list(family, from, &key, frontend.affinity, backends(action));
            }
        }
        // Whoever has endpoints never gets as far as the filter chains with this address. When
        // nobody has, both actions refuse; outside traffic decides how (D23).
        let refusal = match (&frontend.external, &frontend.internal) {
            (Action::Balance(_), action) | (action, _) => action,
        };
        match refusal {
            Action::Balance(_) => {}
            Action::Reject(_) => self.push(family, places.rejected, key.key(), Data::None),
            Action::Drop(_) => self.push(family, places.dropped, key.key(), Data::None),
        }
    }

    fn list(
        &mut self,
        family: Family,
        from: List,
        key: &Bytes,
        affinity: Option<Affinity>,
        backends: &[Backend],
    ) {
        let Some(draw) = Draw::among(backends) else { return };
        let seconds = affinity.map_or(0, |affinity| affinity.timeout_seconds);
        let pick = Pick { from, draw, affinity: seconds };
        let list = from.endpoints(seconds > 0);
        self.picks.insert((family, pick));
        self.push(family, pick.name(), key.key(), Data::None);
        for (number, backend) in (0_u32..).zip(backends) {
            let key = key.clone().number(number).key();
            let endpoint = endpoint(backend.address);
            let data = if seconds > 0 { padded(&endpoint) } else { endpoint.data() };
            self.push(family, list.clone(), key, data);
        }
    }

    /// D35.
    fn resets(&mut self, spot: Spot, frontend: &Frontend) {
        if !frontend.resets {
            return;
        }
        let family = spot.family();
        let places = Places::of(spot);
        let key = spot.bytes();
        self.push(family, places.resetting, key.key(), Data::None);
        for address in frontend.lasting.iter() {
            let key = key.clone().append(&endpoint(*address)).key();
            self.push(family, places.existing.clone(), key, Data::None);
        }
    }

    /// D26, D28. Ranges of a set must not overlap.
    fn source_ranges(&mut self, context: &NodeContext, spot: Spot, frontend: &Frontend) {
        let (Some(ranges), Spot::Frontend(address, ..)) = (&frontend.source_ranges, spot) else {
            return;
        };
        let family = spot.family();
        let key = spot.bytes();
        self.push(family, sets::RESTRICTED, key.key(), Data::None);
        let mut allowed: Vec<IpNet> =
            ranges.iter().copied().filter(|net| Family::of(net.addr()) == family).collect();
        let holds_node =
            |net: &IpNet| context.node_addresses.iter().any(|address| net.contains(address));
        if allowed.iter().any(holds_node) {
            allowed.push(IpNet::from(address));
        }
        for net in IpNet::aggregate(&allowed) {
            let first = key.clone().address(net.network()).clone();
            let last = key.clone().address(net.broadcast()).clone();
            self.push(family, sets::ALLOWED_SOURCES, first.key_to(&last), Data::None);
        }
    }

    /// D15, D17.
    fn affinity(&mut self, spot: Spot, frontend: &Frontend, service_port: &Bytes) {
        let family = spot.family();
        let places = Places::of(spot);
        let key = spot.bytes();
        self.push(family, places.service_ports, key.key(), padded(service_port));
        let lists =
            [(places.usable, &frontend.internal), (places.local_usable, &frontend.external)];
        for (set, action) in lists {
            for backend in backends(action) {
                let key = key.clone().append(&endpoint(backend.address)).key();
                self.push(family, set.clone(), key, Data::None);
            }
        }
    }

    fn push(&mut self, family: Family, set: Name, key: Key, data: Data) {
        self.elements.entry((family, set)).or_default().push((key, data));
    }
}

/// The sets that a frontend of one kind uses.
struct Places {
    rejected: Name,
    dropped: Name,
    service_ports: Name,
    usable: Name,
    local_usable: Name,
    resetting: Name,
    existing: Name,
    counted: Name,
}

impl Places {
    fn of(spot: Spot) -> Self {
        if matches!(spot, Spot::NodePort(..)) {
            return Self {
                rejected: sets::REJECTED_PORTS,
                dropped: sets::DROPPED_PORTS,
                service_ports: sets::PORT_SERVICE_PORTS,
                usable: sets::PORT_USABLE,
                local_usable: sets::PORT_LOCAL_USABLE,
                resetting: sets::RESETTING_PORTS,
                existing: sets::PORT_EXISTING,
                counted: sets::COUNTED_PORTS,
            };
        }
        Self {
            rejected: sets::REJECTED,
            dropped: sets::DROPPED,
            service_ports: sets::SERVICE_PORTS,
            usable: sets::USABLE,
            local_usable: sets::LOCAL_USABLE,
            resetting: sets::RESETTING,
            existing: sets::EXISTING,
            counted: sets::COUNTED,
        }
    }
}

type ServicePort<'a> = (Family, &'a PortName, Protocol);

/// One name per Service port with affinity, so that all its addresses share what they remember: the
/// key of its cluster IP, which stays whatever other addresses come and go; else of its first
/// frontend. A Service port with node ports only goes by address zero.
fn service_ports<'a>(frontends: &BTreeMap<Spot, &'a Frontend>) -> BTreeMap<ServicePort<'a>, Bytes> {
    let mut names = BTreeMap::new();
    let is_cluster_ip = |frontend: &Frontend| matches!(frontend.kind, FrontendKind::ClusterIp(_));
    let (first, rest): (Vec<_>, Vec<_>) = frontends
        .iter()
        .filter(|(_, frontend)| frontend.affinity.is_some())
        .partition(|(_, frontend)| is_cluster_ip(frontend));
    for (spot, frontend) in first.into_iter().chain(rest) {
        let family = spot.family();
        let name = match *spot {
            Spot::NodePort(_, protocol, port) => {
                let zero = match family {
                    Family::V4 => IpAddr::from([0; 4]),
                    Family::V6 => IpAddr::from([0; 16]),
                };
                Spot::Frontend(zero, protocol, port).bytes()
            }
            spot => spot.bytes(),
        };
        names.entry((family, &frontend.port_name, frontend.protocol)).or_insert(name);
    }
    names
}

/// Service ports with affinity, as the map names them, and their timeouts in seconds.
pub(crate) fn timeouts(service: &ServiceView) -> BTreeMap<(Family, Box<[u8]>), u32> {
    let frontends = service.frontends.iter().map(|frontend| (Spot::of(frontend), frontend));
    let frontends: BTreeMap<Spot, &Frontend> = frontends.collect();
    let names = service_ports(&frontends);
    let of_frontend = frontends.iter().filter_map(|(spot, frontend)| {
        let family = spot.family();
        let name = names.get(&(family, &frontend.port_name, frontend.protocol))?;
        Some(((family, name.key().start), frontend.affinity?.timeout_seconds))
    });
    of_frontend.collect()
}

/// Reads an endpoint's address and port.
pub(crate) fn parse_endpoint(family: Family, bytes: &[u8]) -> Option<SocketAddr> {
    let (address, rest) = read_address(family, bytes)?;
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    Some(SocketAddr::new(address?, port))
}

fn read_address(family: Family, bytes: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (address, rest) = match family {
        Family::V4 => bytes.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        Family::V6 => {
            bytes.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?
        }
    };
    Some((Some(address), rest))
}

/// As the maps of session affinity hold it.
fn padded(value: &Bytes) -> Data {
    Bytes::default().number(0).append(value).data()
}

fn endpoint(address: SocketAddr) -> Bytes {
    let mut bytes = Bytes::default();
    bytes.address(address.ip());
    // Port 0 cannot be in a view: `wire` drops slice ports without a number (D5).
    if let Some(port) = Port::new(address.port()) {
        bytes.port(port);
    }
    bytes
}
