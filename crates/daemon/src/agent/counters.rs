//! What `/counters` and `portolan top` tell: what has happened to connections, by Service.

use std::collections::BTreeMap;

use model::ServiceName;
use nft::{Counters, Counts};
use serde::{Deserialize, Serialize};

/// Counters of all Services.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountersReport {
    /// By namespace and name.
    pub services: Vec<ServiceCounts>,
    /// Services and endpoints for which the kernel has no counter left, together and without names.
    pub left_out: ServiceCounts,
}

/// Counters of one Service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceCounts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// New connections that were sent to an endpoint.
    pub connections: u64,
    /// Refused: no endpoint anywhere.
    pub refused: u64,
    /// Ignored: policy Local, and no endpoint on this node.
    pub dropped: u64,
    /// Ignored: not from one of the source ranges.
    pub forbidden: u64,
    /// From clients to endpoints.
    pub to: Traffic,
    /// From endpoints to clients.
    pub from: Traffic,
    /// By address and port. The Service's own sums are of endpoints that are gone as well.
    pub endpoints: BTreeMap<String, EndpointCounts>,
}

/// Counters of one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// New connections.
    pub connections: u64,
    /// To it.
    pub to: Traffic,
    /// From it.
    pub from: Traffic,
}

/// One direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// As the kernel handles them: what the network card or the kernel joins is one.
    pub packets: u64,
    /// Of whole IP packets.
    pub bytes: u64,
}

impl CountersReport {
    pub(crate) fn of(counters: &Counters) -> Self {
        let services = counters.services.iter();
        Self {
            services: services.map(|(name, counts)| ServiceCounts::named(name, counts)).collect(),
            left_out: ServiceCounts::of(&counters.left_out),
        }
    }
}

impl ServiceCounts {
    fn named(name: &ServiceName, counts: &Counts) -> Self {
        let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
        Self { namespace, name, ..Self::of(counts) }
    }

    fn of(counts: &Counts) -> Self {
        let endpoints = counts.endpoints.iter().map(|(address, counts)| {
            let (to, from) = (counts.to.into(), counts.from.into());
            (address.to_string(), EndpointCounts { connections: counts.connections, to, from })
        });
        Self {
            connections: counts.connections,
            refused: counts.refused,
            dropped: counts.dropped,
            forbidden: counts.forbidden,
            to: counts.to_endpoints.into(),
            from: counts.from_endpoints.into(),
            endpoints: endpoints.collect(),
            ..Self::default()
        }
    }

    /// Packets, and connections that never were.
    pub(crate) fn events(&self) -> u64 {
        let packets = self.to.packets + self.from.packets;
        packets + self.connections + self.refused + self.dropped + self.forbidden
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.forbidden += other.forbidden;
        self.to.add(other.to);
        self.from.add(other.from);
    }
}

impl EndpointCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.to.add(other.to);
        self.from.add(other.from);
    }
}

impl Traffic {
    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl From<nft::ruleset::Traffic> for Traffic {
    fn from(traffic: nft::ruleset::Traffic) -> Self {
        Self { packets: traffic.packets, bytes: traffic.bytes }
    }
}
