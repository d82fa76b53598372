//! Settings of the agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use model::NodeName;
use nft::sysctl::Tuning;
use plan::DetectorMode;
use serde_json::Value;

use super::firewall::PassChain;

/// Settings of the agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Path of the kubeconfig; `None` looks for one, then for the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, instead of the one that the kubeconfig names.
    pub server: Option<String>,
    /// Name of the Node object of this machine.
    pub node: NodeName,
    /// This node's own addresses, each instead of the Node's InternalIPs of its family.
    pub node_ips: Vec<IpAddr>,
    /// How traffic of this cluster's pods is recognised (D13).
    pub detector: DetectorMode,
    /// Where node ports answer (D30).
    pub node_ports: NodePorts,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Which bit of the packet mark says "masquerade this" (D11), 0 to 31.
    pub masquerade_bit: u8,
    /// Interface on which load balancer addresses are announced; `None` announces nothing.
    pub announce_interface: Option<String>,
    /// Where `/healthz` and `/livez` are served; `None` serves them nowhere.
    pub health_bind: Option<SocketAddr>,
    /// Where `/metrics`, `/services` and the like are served; `None` serves them nowhere.
    pub metrics_bind: Option<SocketAddr>,
    /// Whether an address that is taken ends the agent; otherwise it is tried again.
    pub bind_hard_fail: bool,
    /// Longest delay before the kernel is tried again after it refused. A change that has waited
    /// for twice as long makes the agent unhealthy (semantics 4.10).
    pub sync_period: Duration,
    /// What the kernel's connection tracking is set to (D41).
    pub conntrack: Conntrack,
    /// Count connections, packets and bytes by Service and endpoint, for `/counters` and `/metrics`.
    pub counters: bool,
    /// Chains of the host's firewall in which Services pass (D40).
    pub pass_chains: Vec<PassChain>,
    /// What becomes of what a kube-proxy has left in the kernel.
    pub leftovers: Leftovers,
    /// The configuration in kube-proxy's words, for `/configz`.
    pub configuration: Value,
    /// The command line's flags, for `/flagz`.
    pub flags: BTreeMap<String, String>,
}

/// Where node ports answer (D30, D31).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePorts {
    /// On the Node's own addresses.
    pub primary: bool,
    /// On those addresses of the machine that lie in one of these networks.
    pub networks: Vec<IpNet>,
    /// On loopback addresses.
    pub loopback: bool,
}

/// Settings of connection tracking (D41). Zero leaves the kernel's value as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conntrack {
    /// Tracked connections per processor; 0 leaves the limit as it is, whatever `min` says.
    pub max_per_core: u32,
    /// Tracked connections at least.
    pub min: u32,
    /// How long an idle established TCP connection is tracked.
    pub tcp_established_timeout: Duration,
    /// How long a TCP connection that one side has closed is tracked.
    pub tcp_close_wait_timeout: Duration,
    /// Whether TCP packets outside of the window are tracked, too.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow without an answer is tracked.
    pub udp_timeout: Duration,
    /// How long a UDP flow with answers is tracked.
    pub udp_stream_timeout: Duration,
}

/// What becomes of a kube-proxy's rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leftovers {
    /// They are reported.
    Report,
    /// They are removed as soon as ours do their work.
    Remove,
}

impl Default for Conntrack {
    /// kube-proxy's.
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: Duration::from_hours(24),
            tcp_close_wait_timeout: Duration::from_hours(1),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        }
    }
}

impl Conntrack {
    /// What the kernel is told on a machine with that many processors.
    pub(crate) fn tuning(&self, processors: u32) -> Tuning {
        const MOST: u32 = 1024 * 1024;
        let set = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let wanted = processors.saturating_mul(self.max_per_core).min(MOST).max(self.min);
        Tuning {
            least_connections: (self.max_per_core > 0).then_some(wanted),
            tcp_established: set(self.tcp_established_timeout),
            tcp_close_wait: set(self.tcp_close_wait_timeout),
            udp: set(self.udp_timeout),
            udp_stream: set(self.udp_stream_timeout),
            tcp_be_liberal: self.tcp_be_liberal,
        }
    }
}

impl AgentConfig {
    /// kube-proxy's defaults for this node.
    pub fn new(node: NodeName) -> Self {
        Self {
            kubeconfig: None,
            server: None,
            node,
            node_ips: Vec::new(),
            detector: DetectorMode::NodeCidr,
            node_ports: NodePorts { primary: true, ..NodePorts::default() },
            masquerade_all: false,
            masquerade_bit: 14,
            announce_interface: None,
            health_bind: Some(SocketAddr::from(([0; 16], 10256))),
            metrics_bind: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
            bind_hard_fail: true,
            sync_period: Duration::from_secs(30),
            conntrack: Conntrack::default(),
            counters: false,
            pass_chains: Vec::new(),
            leftovers: Leftovers::Report,
            configuration: Value::Null,
            flags: BTreeMap::new(),
        }
    }

    /// What the kernel is written with.
    pub(crate) fn dataplane(&self) -> nft::Settings {
        nft::Settings {
            masquerade_mark: 1 << self.masquerade_bit,
            drop_invalid: !nft::sysctl::is_liberal(),
            localhost_node_ports: self.node_ports.loopback,
            counters: self.counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_tune_as_kube_proxy_does_and_zero_leaves_alone() {
        // D41.
        let mut conntrack = Conntrack::default();
        for processors in [1, 2, 8, 64] {
            assert_eq!(conntrack.tuning(processors), Tuning::usual(processors));
        }
        conntrack.max_per_core = 0;
        conntrack.tcp_close_wait_timeout = Duration::ZERO;
        let tuning = conntrack.tuning(4);
        assert_eq!((tuning.least_connections, tuning.tcp_close_wait), (None, None));
    }
}
