//! Which tracked UDP connections a change may leave stale.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use model::{Family, Port, Protocol, ServiceView};

use super::service::Spot;
use super::treatment::backends;
use super::{Changed, Layout, sets};
use crate::ruleset::Ruleset;
use crate::stale::{Stale, Target};

impl Layout {
    /// All UDP frontends.
    pub(crate) fn udp_spots(&self) -> Vec<Spot> {
        self.services.values().flat_map(|service| of_service(&service.given)).collect()
    }

    /// Where connections to these frontends may go.
    pub(crate) fn stale(&self, frontends: &BTreeSet<Spot>) -> Stale {
        let node_addresses = self.context.node_addresses.clone();
        let mut stale = Stale { node_addresses, ..Stale::default() };
        for spot in frontends {
            match *spot {
                Spot::Frontend(address, _, port) => {
                    let address = SocketAddr::new(address, port.get());
                    stale.frontends.insert(address, self.target(*spot));
                }
                Spot::NodePort(family, _, port) => {
                    stale.node_ports.insert((family, port), self.target(*spot));
                }
                Spot::ClusterIp(_) | Spot::Hairpin(_) => {}
            }
        }
        stale
    }

    fn target(&self, spot: Spot) -> Target {
        let owner = self.claims.get(&spot).and_then(|names| names.first());
        let service = owner.and_then(|name| self.services.get(name));
        let frontend = service.and_then(|service| {
            service.given.frontends.iter().find(|frontend| Spot::of(frontend) == spot)
        });
        frontend.map_or(Target::Nowhere, |frontend| {
            let lists = [&frontend.internal, &frontend.external];
            let endpoints = lists.into_iter().flat_map(backends);
            Target::Endpoints(endpoints.map(|backend| backend.address).collect())
        })
    }
}

/// UDP frontends that differ between two versions of a Service.
pub(super) fn changed(changed: &Changed) -> BTreeSet<Spot> {
    let Changed { old, new } = changed;
    let both = [old, new].into_iter().flatten();
    let frontends = both.flat_map(|service| of_service(service));
    let find = |service: &Option<std::sync::Arc<ServiceView>>, spot: Spot| {
        let mut frontends = service.iter().flat_map(|service| service.frontends.clone());
        frontends.find(|frontend| Spot::of(frontend) == spot)
    };
    frontends.filter(|spot| find(old, *spot) != find(new, *spot)).collect()
}

/// The UDP frontends that tables hold, whoever wrote them.
pub(crate) fn udp_spots(ruleset: &Ruleset) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (family, table) in ruleset {
        let keys = |name| table.sets.get(&name).into_iter().flat_map(|set| set.elements.keys());
        for set in [sets::FRONTENDS, sets::REJECTED, sets::DROPPED] {
            spots.extend(keys(set).filter_map(|key| parse(*family, &key.start)));
        }
        for set in [sets::NODE_PORTS, sets::REJECTED_PORTS, sets::DROPPED_PORTS] {
            let ports = keys(set).filter_map(|key| parse_port(&key.start));
            spots.extend(ports.map(|port| Spot::NodePort(*family, Protocol::Udp, port)));
        }
    }
    spots
}

fn of_service(service: &ServiceView) -> impl Iterator<Item = Spot> {
    let udp = service.frontends.iter().filter(|frontend| frontend.protocol == Protocol::Udp);
    udp.map(Spot::of)
}

fn parse(family: Family, key: &[u8]) -> Option<Spot> {
    let (address, rest): (IpAddr, _) = match family {
        Family::V4 => key.split_first_chunk::<4>().map(|(bytes, rest)| ((*bytes).into(), rest))?,
        Family::V6 => key.split_first_chunk::<16>().map(|(bytes, rest)| ((*bytes).into(), rest))?,
    };
    Some(Spot::Frontend(address, Protocol::Udp, parse_port(rest)?))
}

/// Of `protocol . port`, if the protocol is UDP.
fn parse_port(key: &[u8]) -> Option<Port> {
    let (protocol, port) = (key.first()?, key.get(4..6)?);
    Port::new(u16::from_be_bytes(port.try_into().ok()?))
        .filter(|_| *protocol == Protocol::Udp.number())
}
