//! What planning depends on: the configuration, this machine's addresses and its Node object.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Family, Node};
use plan::{AgentSettings, NodePortAddresses};

use super::AgentConfig;
use super::addresses::local_addresses;

/// The part of the settings that the Node object does not change.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    config: AgentConfig,
    /// Addresses of this machine; empty when nobody asks for them.
    local: BTreeSet<IpAddr>,
}

impl Basis {
    /// Reads the machine's addresses when node ports answer on some of them.
    pub(crate) fn read(config: &AgentConfig) -> std::io::Result<Self> {
        let local = if config.node_ports.networks.is_empty() {
            BTreeSet::new()
        } else {
            local_addresses()?
        };
        Ok(Self::new(config, local))
    }

    pub(crate) fn new(config: &AgentConfig, local: BTreeSet<IpAddr>) -> Self {
        Self { config: config.clone(), local }
    }

    /// Settings for a Node as it is now (D30).
    pub(crate) fn settings(&self, node: Option<&Node>) -> AgentSettings {
        let config = &self.config;
        let ports = &config.node_ports;
        let only_primary = ports.primary && ports.networks.is_empty();
        let node_port_addresses = if only_primary && config.node_ips.is_empty() {
            NodePortAddresses::Primary
        } else {
            let mut networks = ports.networks.clone();
            let mut local = self.local.clone();
            if ports.primary {
                let primary = self.primary(node);
                networks.extend(primary.iter().copied().map(IpNet::from));
                local.extend(primary);
            }
            NodePortAddresses::Networks { networks, local }
        };
        AgentSettings {
            detector: config.detector.clone(),
            node_port_addresses,
            masquerade_all: config.masquerade_all,
        }
    }

    /// This node's own addresses: those that were given, and the InternalIPs of the other family.
    fn primary(&self, node: Option<&Node>) -> Vec<IpAddr> {
        let given = &self.config.node_ips;
        let replaced =
            |ip: &IpAddr| given.iter().any(|given| Family::of(*given) == Family::of(*ip));
        let internal = node.map(|node| &node.internal_ips[..]).unwrap_or_default();
        given.iter().chain(internal.iter().filter(|ip| !replaced(ip))).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use model::{Meta, NodeCondition};

    use super::*;

    fn node() -> Node {
        Node {
            meta: Meta::new("", "a"),
            internal_ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            pod_cidrs: Vec::new(),
            unschedulable: false,
            taints: Vec::new(),
            ready: NodeCondition::Ready,
            allocatable: Default::default(),
        }
    }

    fn addresses(settings: &AgentSettings) -> Vec<String> {
        let NodePortAddresses::Networks { networks, local } = &settings.node_port_addresses else {
            return vec!["primary".to_owned()];
        };
        let answers = |ip: &&IpAddr| networks.iter().any(|network| network.contains(*ip));
        local.iter().filter(answers).map(ToString::to_string).collect()
    }

    #[test]
    fn primary_addresses_and_networks_join() {
        // D30.
        let mut config = AgentConfig::new("a".into());
        let local: BTreeSet<IpAddr> =
            ["10.0.0.5", "198.51.100.7"].iter().map(|ip| ip.parse().unwrap()).collect();
        let of = |config: &AgentConfig| {
            addresses(&Basis::new(config, local.clone()).settings(Some(&node())))
        };
        assert_eq!(of(&config), ["primary"]);
        config.node_ports.networks = vec!["198.51.100.0/24".parse().unwrap()];
        assert_eq!(of(&config), ["192.0.2.1", "198.51.100.7", "2001:db8::1"]);
        config.node_ports.primary = false;
        assert_eq!(of(&config), ["198.51.100.7"]);
    }

    #[test]
    fn a_given_address_replaces_the_nodes_of_its_family() {
        let mut config = AgentConfig::new("a".into());
        config.node_ips = vec!["203.0.113.9".parse().unwrap()];
        let settings = Basis::new(&config, BTreeSet::new()).settings(Some(&node()));
        assert_eq!(addresses(&settings), ["203.0.113.9", "2001:db8::1"]);
    }
}
