//! Which tracked connections a change may leave stale: of UDP and SCTP, and of TCP Services that ask
//! for resets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use model::{Family, Frontend, Protocol, ServiceView};

use super::service::Spot;
use super::{Changed, Layout, sets};
use crate::ruleset::Ruleset;
use crate::stale::{Stale, Target};

impl Layout {
    /// All frontends whose connections may be stale.
    pub(crate) fn cleaned_spots(&self) -> Vec<Spot> {
        self.services.values().flat_map(|service| of_service(&service.given)).collect()
    }

    /// Where connections to these frontends may go. If rules have been missing, TCP connections to
    /// others may not have been translated.
    pub(crate) fn stale(&self, frontends: &BTreeSet<Spot>, rules_were_missing: bool) -> Stale {
        let mut stale = Stale {
            node_addresses: self.context.node_addresses.clone(),
            localhost: self.fixed.localhost_node_ports,
            ..Stale::default()
        };
        for spot in frontends {
            let Some(target) = self.target(*spot) else { continue };
            stale.add(*spot, target);
        }
        for spot in self
            .claims
            .iter()
            .map(|(spot, _)| spot)
            .filter(|spot| rules_were_missing && spot.is_tcp())
        {
            if !frontends.contains(spot) {
                stale.add(*spot, Target::Anywhere);
            }
        }
        stale
    }

    /// `None` for TCP of a Service that does not ask for resets now.
    fn target(&self, spot: Spot) -> Option<Target> {
        let owner = self.claimants(spot).next();
        let service = owner.and_then(|name| self.services.get(name));
        let frontend = service.and_then(|service| {
            service.given.frontends.iter().find(|frontend| Spot::of(frontend) == spot)
        });
        let Some(frontend) = frontend else { return Some(Target::Nowhere) };
        let target = Target::Endpoints(frontend.lasting.iter().copied().collect());
        is_cleaned(frontend).then_some(target)
    }
}

impl Stale {
    fn add(&mut self, spot: Spot, target: Target) {
        match spot {
            Spot::Frontend(address, protocol, port) => {
                let key = (protocol, SocketAddr::new(address, port.get()));
                self.frontends.insert(key, target);
            }
            Spot::NodePort(family, protocol, port) => {
                self.node_ports.insert((family, protocol, port), target);
            }
            Spot::ClusterIp(_) | Spot::Hairpin(_) => {}
        }
    }
}

/// Frontends that differ between two versions of a Service and whose connections may be stale.
pub(super) fn changed(changed: &Changed) -> BTreeSet<Spot> {
    let Changed { old, new } = changed;
    let both = [old, new].into_iter().flatten();
    let frontends = both.flat_map(|service| of_service(service));
    let find = |service: &Option<Arc<ServiceView>>, spot: Spot| {
        let mut frontends = service.iter().flat_map(|service| service.frontends.clone());
        frontends.find(|frontend| Spot::of(frontend) == spot)
    };
    frontends.filter(|spot| find(old, *spot) != find(new, *spot)).collect()
}

/// The UDP and SCTP frontends that tables hold, whoever wrote them.
pub(crate) fn cleaned_spots(ruleset: &Ruleset) -> Vec<Spot> {
    let mut spots = Vec::new();
    for (family, table) in ruleset {
        let keys = |name| table.sets.get(&name).into_iter().flat_map(|set| set.elements.keys());
        for set in sets::entries(false) {
            spots.extend(keys(set).filter_map(|key| parse(*family, false, &key.start)));
        }
        for set in sets::entries(true) {
            spots.extend(keys(set).filter_map(|key| parse(*family, true, &key.start)));
        }
    }
    spots
}

fn of_service(service: &ServiceView) -> impl Iterator<Item = Spot> {
    let cleaned = service.frontends.iter().filter(|frontend| is_cleaned(frontend));
    cleaned.map(Spot::of)
}

fn is_cleaned(frontend: &Frontend) -> bool {
    frontend.protocol != Protocol::Tcp || frontend.resets
}

/// If the protocol is UDP or SCTP.
fn parse(family: Family, node_port: bool, key: &[u8]) -> Option<Spot> {
    let (spot, _) = Spot::parse(family, node_port, key)?;
    let (Spot::Frontend(_, protocol, _) | Spot::NodePort(_, protocol, _)) = spot else {
        return None;
    };
    (protocol != Protocol::Tcp).then_some(spot)
}
