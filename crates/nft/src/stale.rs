//! Which tracked connections lead nowhere (D36, D37, D38).
//!
//! TCP notices by itself that its peer is gone (D35), unless its Service asks for resets. UDP clients that keep
//! sending from one port would keep their conntrack entry, and with it an
//! endpoint that no longer exists, forever; so would SCTP clients that try to
//! restart their association.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use model::{Family, Port, Protocol};

/// Frontends that have changed, and where their connections may go now: of UDP and SCTP, and of TCP
/// Services that ask for resets.
///
/// Only connections whose destination is one of these are ever stale: on an address of the Service
/// itself, or on an address on which this node serves node ports (D38).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stale {
    /// Addresses on which node ports answer.
    pub node_addresses: BTreeSet<IpAddr>,
    /// Whether they answer on loopback addresses too.
    pub localhost: bool,
    /// By address and port.
    pub frontends: BTreeMap<(Protocol, SocketAddr), Target>,
    /// By node port.
    pub node_ports: BTreeMap<(Family, Protocol, Port), Target>,
}

/// Where connections to a frontend may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The frontend is gone.
    Nowhere,
    /// One of these; none when nobody is left.
    Endpoints(BTreeSet<SocketAddr>),
    /// Wherever they go, but they may have begun while our rules were missing. Such a connection is
    /// not translated however often its client repeats the first packet.
    Anywhere,
}

impl Stale {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.node_ports.is_empty()
    }

    /// Families and protocols to look in.
    pub fn places(&self) -> BTreeSet<(Family, Protocol)> {
        let frontends = self.frontends.keys();
        let frontends = frontends.map(|(protocol, at)| (Family::of(at.ip()), *protocol));
        let ports = self.node_ports.keys().map(|(family, protocol, _)| (*family, *protocol));
        frontends.chain(ports).collect()
    }

    /// Whether only connections that nobody has answered can be stale.
    pub(crate) fn are_all_unanswered(&self, family: Family, protocol: Protocol) -> bool {
        let frontends = self.frontends.iter().filter_map(|((of, at), target)| {
            (*of == protocol && Family::of(at.ip()) == family).then_some(target)
        });
        let ports = self.node_ports.iter().filter_map(|((of_family, of, _), target)| {
            (*of == protocol && *of_family == family).then_some(target)
        });
        frontends.chain(ports).all(|target| *target == Target::Anywhere)
    }

    /// Whether a connection that a client opened to `destination`, and that is answered from
    /// `reply_source`, or will be, has to be forgotten.
    ///
    /// A connection that was never translated (both are the same) was opened before its Service
    /// had endpoints and must be forgotten too, unless the Service is gone: then it is none of
    /// our business. An SCTP association outlives its Service, as a TCP connection does. TCP that was
    /// never translated notices by itself.
    pub fn is_stale(
        &self,
        protocol: Protocol,
        destination: SocketAddr,
        reply_source: SocketAddr,
        answered: bool,
    ) -> bool {
        let address = destination.ip();
        let node_port = || {
            let port = Port::new(destination.port())?;
            let loopback = self.localhost && address.is_loopback();
            let served = loopback || self.node_addresses.contains(&address);
            let key = (Family::of(address), protocol, port);
            self.node_ports.get(&key).filter(|_| served)
        };
        match self.frontends.get(&(protocol, destination)).or_else(node_port) {
            None => false,
            Some(Target::Nowhere) => protocol == Protocol::Udp && reply_source != destination,
            Some(Target::Anywhere) => reply_source == destination && !answered,
            Some(Target::Endpoints(endpoints)) => {
                let translated = protocol != Protocol::Tcp || reply_source != destination;
                translated && !endpoints.contains(&reply_source)
            }
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
            localhost: false,
            frontends: [
                ((Protocol::Udp, at("10.96.0.10:53")), endpoints.clone()),
                ((Protocol::Udp, at("10.96.0.11:53")), Target::Nowhere),
                ((Protocol::Sctp, at("10.96.0.12:53")), endpoints.clone()),
                ((Protocol::Sctp, at("10.96.0.13:53")), Target::Nowhere),
            ]
            .into(),
            node_ports: [((Family::V4, Protocol::Udp, Port::new(30053).unwrap()), endpoints)]
                .into(),
        }
    }

    fn udp(destination: &str, reply_source: &str) -> bool {
        stale().is_stale(Protocol::Udp, at(destination), at(reply_source), true)
    }

    #[test]
    fn sctp_associations_end_with_their_endpoint_not_with_their_service() {
        // D35, D37.
        let sctp = |destination, reply_source| {
            stale().is_stale(Protocol::Sctp, at(destination), at(reply_source), true)
        };
        assert!(sctp("10.96.0.12:53", "10.244.0.6:53"));
        assert!(!sctp("10.96.0.12:53", "10.244.0.5:53"));
        assert!(!sctp("10.96.0.13:53", "10.244.0.5:53"));
        assert!(!sctp("10.96.0.10:53", "10.244.0.6:53"), "that Service is UDP");
    }

    #[test]
    fn only_gone_endpoints_of_changed_frontends_are_stale() {
        assert!(udp("10.96.0.10:53", "10.244.0.6:53"), "endpoint gone");
        assert!(udp("10.96.0.10:53", "10.244.0.5:54"), "other target port");
        assert!(!udp("10.96.0.10:53", "10.244.0.5:53"), "still usable");
        assert!(!udp("10.96.0.12:53", "10.244.0.6:53"), "unchanged Service");
    }

    #[test]
    fn tcp_connections_are_stale_only_if_they_were_translated() {
        // D35.
        let endpoints = Target::Endpoints([at("10.244.0.5:80")].into());
        let key = (Protocol::Tcp, at("10.96.0.10:80"));
        let stale = Stale { frontends: [(key, endpoints)].into(), ..Stale::default() };
        let tcp = |reply_source| stale.is_stale(Protocol::Tcp, key.1, at(reply_source), true);
        assert!(tcp("10.244.0.6:80"));
        assert!(!tcp("10.244.0.5:80"));
        assert!(!tcp("10.96.0.10:80"));
    }

    #[test]
    fn connections_from_before_any_endpoint_are_stale() {
        assert!(udp("10.96.0.10:53", "10.96.0.10:53"));
        assert!(udp("172.30.0.11:30053", "172.30.0.11:30053"));
    }

    #[test]
    fn of_a_deleted_service_only_translated_connections_are_stale() {
        // D37.
        assert!(udp("10.96.0.11:53", "10.244.0.5:53"));
        assert!(!udp("10.96.0.11:53", "10.96.0.11:53"));
    }

    #[test]
    fn the_same_port_on_a_foreign_address_is_no_node_port() {
        assert!(!udp("192.0.2.1:30053", "192.0.2.1:30053"));
    }

    #[test]
    fn tcp_that_began_without_rules_is_stale_until_it_is_answered() {
        let key = (Protocol::Tcp, at("10.96.0.10:80"));
        let frontends = [(key, Target::Anywhere)].into();
        let stale = Stale { frontends, ..Stale::default() };
        let tcp = |reply_source, answered| {
            stale.is_stale(Protocol::Tcp, key.1, at(reply_source), answered)
        };
        assert!(tcp("10.96.0.10:80", false));
        assert!(!tcp("10.96.0.10:80", true), "somebody serves it");
        assert!(!tcp("10.244.0.5:80", false), "on its way to an endpoint");
        assert!(stale.are_all_unanswered(Family::V4, Protocol::Tcp));
        assert!(!self::stale().are_all_unanswered(Family::V4, Protocol::Udp));
    }
}
