//! What a lab is made of: how many nodes, which addresses, where it keeps its state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LabError;

/// The most nodes a lab can have: they stand between .11 and the client at .250, below the pool.
pub const MAX_NODES: u16 = 100;

/// What `portolan up` was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabConfig {
    /// Number of nodes, 1 to [`MAX_NODES`].
    pub nodes: u16,
    /// Folder for the store, keys, kubeconfig, logs and control socket. Made with mode 0700.
    pub state_dir: PathBuf,
    /// Addresses for Services of type LoadBalancer; they lie on the external network.
    pub pool: Vec<IpNet>,
    /// Objects to apply once the API server answers, in this order, already parsed.
    pub manifests: Vec<Value>,
    /// Return when the lab is ready and leave it running, until `down`.
    pub detach: bool,
    /// Port of the API server on 127.0.0.1; `None` takes the last one used or any free one.
    pub api_port: Option<u16>,
    /// An audit policy: with it the API server writes `logs/audit.log` in the state folder.
    pub audit_policy_file: Option<PathBuf>,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            nodes: 2,
            state_dir: default_state_dir(),
            pool: AddressPlan::default_pool(),
            manifests: Vec::new(),
            detach: false,
            api_port: None,
            audit_policy_file: None,
        }
    }
}

impl LabConfig {
    /// Checks what can be checked before anything is started.
    ///
    /// # Errors
    /// [`LabError::Config`] names the field, the value and what would be accepted.
    pub fn validate(&self) -> Result<(), LabError> {
        if self.nodes == 0 || self.nodes > MAX_NODES {
            return Err(LabError::Config {
                field: "nodes",
                value: self.nodes.to_string(),
                reason: format!("give a number from 1 to {MAX_NODES}"),
            });
        }
        if self.pool.is_empty() {
            return Err(LabError::Config {
                field: "pool",
                value: String::new(),
                reason: "give at least one CIDR of the external network, such as 172.30.0.192/27"
                    .to_owned(),
            });
        }
        self.pool.iter().try_for_each(|pool| self.validate_pool(*pool))
    }

    fn validate_pool(&self, pool: IpNet) -> Result<(), LabError> {
        let refuse = |reason: String| {
            Err(LabError::Config { field: "pool", value: pool.to_string(), reason })
        };
        let external = AddressPlan::external();
        if !external.iter().any(|network| network.contains(&pool)) {
            let [v4, v6] = external;
            return refuse(format!("a pool must lie inside the external network: {v4} or {v6}"));
        }
        let mut taken = vec![
            ("the fabric".to_owned(), AddressPlan::fabric()),
            ("the client".to_owned(), AddressPlan::client()),
        ];
        taken.extend(
            (0..self.nodes).map(|index| (AddressPlan::node_name(index), AddressPlan::node(index))),
        );
        for (owner, addresses) in taken {
            if let Some(address) = addresses.iter().find(|address| pool.contains(*address)) {
                return refuse(format!(
                    "it overlaps the address {address} of {owner}; choose another part of the external network"
                ));
            }
        }
        Ok(())
    }
}

/// The lab's fixed addresses. All networks are private to the lab's namespaces: two labs and the
/// host never see each other's.
#[derive(Clone, Copy, Debug)]
pub struct AddressPlan;

impl AddressPlan {
    /// The external network, which joins nodes, client and fabric: IPv4, then IPv6.
    pub fn external() -> [IpNet; 2] {
        [v4_net([172, 30, 0, 0], 24), v6_net([0xfd00, 0x30, 0, 0, 0, 0, 0, 0], 64)]
    }

    /// Where `--pool` points by default.
    pub fn default_pool() -> Vec<IpNet> {
        vec![v4_net([172, 30, 0, 192], 27), v6_net([0xfd00, 0x30, 0, 0, 0, 0, 0, 0xc000], 120)]
    }

    /// The API server's side of the external network.
    pub fn fabric() -> [IpAddr; 2] {
        external_host(1)
    }

    /// The client outside the cluster.
    pub fn client() -> [IpAddr; 2] {
        external_host(250)
    }

    /// Name of a node; `index` counts from 0, names from 1.
    pub fn node_name(index: u16) -> String {
        format!("node{}", index + 1)
    }

    /// InternalIPs of a node.
    pub fn node(index: u16) -> [IpAddr; 2] {
        external_host(11 + index)
    }

    /// All pods' addresses.
    pub fn pods() -> [IpNet; 2] {
        [v4_net([10, 244, 0, 0], 16), v6_net([0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0], 48)]
    }

    /// The podCIDRs of a node.
    pub fn node_pods(index: u16) -> [IpNet; 2] {
        let third = u8::try_from(index + 1).unwrap_or(u8::MAX);
        [v4_net([10, 244, third, 0], 24), v6_net([0xfd00, 0x10, 0x244, index + 1, 0, 0, 0, 0], 64)]
    }

    /// Cluster addresses of Services.
    pub fn services() -> [IpNet; 2] {
        [v4_net([10, 96, 0, 0], 16), v6_net([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0], 112)]
    }

    /// Cluster addresses of the Service `kube-system/kube-dns`.
    pub fn dns() -> [IpAddr; 2] {
        [
            Ipv4Addr::new(10, 96, 0, 10).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x10).into(),
        ]
    }

    /// Port range of node ports, as the API server's flag wants it.
    pub const NODE_PORTS: &'static str = "30000-32767";
    /// The cluster's DNS domain.
    pub const DOMAIN: &'static str = "cluster.local";
    /// The API server's port inside the lab.
    pub const API_PORT: u16 = 6443;
}

/// `$XDG_STATE_HOME/portolan/default`, or `~/.local/state/portolan/default`.
pub fn default_state_dir() -> PathBuf {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| {
            PathBuf::from("/tmp").join(format!("portolan-{}", nix::unistd::getuid()))
        })
        .join("portolan/default")
}

/// A host of the external network. Its IPv6 address ends in the same digits, so that both read
/// alike: 172.30.0.11 and fd00:30::11.
fn external_host(last: u16) -> [IpAddr; 2] {
    let v4 = u8::try_from(last).unwrap_or(u8::MAX);
    let digits = ((last / 100) << 8) | ((last / 10 % 10) << 4) | (last % 10);
    [
        Ipv4Addr::new(172, 30, 0, v4).into(),
        Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, digits).into(),
    ]
}

fn v4_net(octets: [u8; 4], length: u8) -> IpNet {
    Ipv4Net::new_assert(octets.into(), length).into()
}

fn v6_net(segments: [u16; 8], length: u8) -> IpNet {
    Ipv6Net::new_assert(segments.into(), length).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_up_to_the_largest_lab() {
        let config = LabConfig { nodes: MAX_NODES, ..LabConfig::default() };
        config.validate().unwrap();
    }

    #[test]
    fn a_pool_over_a_node_is_refused_by_name() {
        let config =
            LabConfig { pool: vec!["172.30.0.0/28".parse().unwrap()], ..LabConfig::default() };
        let text = config.validate().unwrap_err().to_string();
        assert!(text.contains("172.30.0.0/28") && text.contains("the fabric"), "{text}");
    }

    #[test]
    fn a_pool_off_the_external_network_is_refused() {
        let config =
            LabConfig { pool: vec!["10.96.0.0/24".parse().unwrap()], ..LabConfig::default() };
        let text = config.validate().unwrap_err().to_string();
        assert!(text.contains("inside the external network"), "{text}");
    }
}
