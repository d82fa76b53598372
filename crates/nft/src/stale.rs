//! Which tracked UDP connections lead nowhere (D36, D37, D38).
//!
//! TCP notices by itself that its peer is gone (D35). UDP clients that keep
//! sending from one port would keep their conntrack entry, and with it an
//! endpoint that no longer exists, forever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use model::{Family, Port};

/// UDP frontends that have changed, and where their connections may go now.
///
/// Only connections whose destination is one of these are ever stale: on an address of the Service
/// itself, or on an address on which this node serves node ports (D38).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stale {
    /// Addresses on which node ports answer.
    pub node_addresses: BTreeSet<IpAddr>,
    /// By address and port.
    pub frontends: BTreeMap<SocketAddr, Target>,
    /// By node port.
    pub node_ports: BTreeMap<(Family, Port), Target>,
}

/// Where connections to a frontend may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The frontend is gone.
    Nowhere,
    /// One of these; none when the frontend refuses.
    Endpoints(BTreeSet<SocketAddr>),
}

impl Stale {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.node_ports.is_empty()
    }

    /// Families to look in.
    pub fn families(&self) -> BTreeSet<Family> {
        let frontends = self.frontends.keys().map(|address| Family::of(address.ip()));
        frontends.chain(self.node_ports.keys().map(|(family, _)| *family)).collect()
    }

    /// Whether a UDP connection that a client opened to `destination`, and that is answered from
    /// `reply_source`, has to be forgotten.
    ///
    /// A connection that was never translated (both are the same) was opened before its Service
    /// had endpoints and must be forgotten too, unless the Service is gone: then it is none of
    /// our business.
    pub fn is_stale(&self, destination: SocketAddr, reply_source: SocketAddr) -> bool {
        let address = destination.ip();
        let node_port = || {
            let port = Port::new(destination.port())?;
            let served = self.node_addresses.contains(&address);
            self.node_ports.get(&(Family::of(address), port)).filter(|_| served)
        };
        match self.frontends.get(&destination).or_else(node_port) {
            None => false,
            Some(Target::Nowhere) => reply_source != destination,
            Some(Target::Endpoints(endpoints)) => !endpoints.contains(&reply_source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn stale() -> Stale {
        let endpoints = Target::Endpoints([at("10.244.0.5:53")].into());
        Stale {
            node_addresses: ["172.30.0.11".parse().unwrap()].into(),
            frontends: [
                (at("10.96.0.10:53"), endpoints.clone()),
                (at("10.96.0.11:53"), Target::Nowhere),
            ]
            .into(),
            node_ports: [((Family::V4, Port::new(30053).unwrap()), endpoints)].into(),
        }
    }

    #[test]
    fn only_gone_endpoints_of_changed_frontends_are_stale() {
        let stale = stale();
        assert!(stale.is_stale(at("10.96.0.10:53"), at("10.244.0.6:53")), "endpoint gone");
        assert!(stale.is_stale(at("10.96.0.10:53"), at("10.244.0.5:54")), "other target port");
        assert!(!stale.is_stale(at("10.96.0.10:53"), at("10.244.0.5:53")), "still usable");
        assert!(!stale.is_stale(at("10.96.0.12:53"), at("10.244.0.6:53")), "unchanged Service");
    }

    #[test]
    fn connections_from_before_any_endpoint_are_stale() {
        assert!(stale().is_stale(at("10.96.0.10:53"), at("10.96.0.10:53")));
        assert!(stale().is_stale(at("172.30.0.11:30053"), at("172.30.0.11:30053")));
    }

    #[test]
    fn of_a_deleted_service_only_translated_connections_are_stale() {
        // D37.
        assert!(stale().is_stale(at("10.96.0.11:53"), at("10.244.0.5:53")));
        assert!(!stale().is_stale(at("10.96.0.11:53"), at("10.96.0.11:53")));
    }

    #[test]
    fn the_same_port_on_a_foreign_address_is_no_node_port() {
        assert!(!stale().is_stale(at("192.0.2.1:30053"), at("192.0.2.1:30053")));
    }
}
