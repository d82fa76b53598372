//! What the API server can be told, under kube-apiserver's own names.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use model::IpNet;

pub use crate::audit::Rotation;
pub use crate::authz::{AuthorizationMode, UnknownMode};
pub use crate::http::duration::parse as parse_duration;

/// Settings of one API server. Each field names the flag that it stands for.
#[derive(Debug)]
pub struct ApiserverConfig {
    /// `--state`: the folder of the store and, below `pki/`, of the certificates.
    pub state_dir: PathBuf,
    /// `--bind-address`: listen here; `None` when only inherited listeners serve.
    pub bind_address: Option<IpAddr>,
    /// `--secure-port`; 0 lets the kernel choose.
    pub secure_port: u16,
    /// Listeners made by the parent (`LISTEN_FDS`), served besides `bind_address`.
    pub inherited: Vec<TcpListener>,
    /// `--advertise-address`: where pods reach this server, the endpoint of Service
    /// `default/kubernetes`. `None` finds one, see [`Self::advertised`].
    pub advertise_address: Option<IpAddr>,
    /// `--service-cluster-ip-range`: one range, or two of different families, the primary first.
    pub service_cluster_ip_range: Vec<IpNet>,
    /// `--service-node-port-range`, inclusive.
    pub service_node_port_range: (u16, u16),
    /// `--token-auth-file`: CSV lines `token,user,uid,"group1,group2"`.
    pub token_auth_file: Option<PathBuf>,
    /// `--anonymous-auth`: whether a request without credentials is user `system:anonymous`
    /// (who may read health and version only) or is refused with 401.
    pub anonymous_auth: bool,
    /// `--client-ca-file`: clients with a certificate of this authority are known, besides those
    /// of the server's own authority.
    pub client_ca_file: Option<PathBuf>,
    /// `--tls-cert-file` and `--tls-private-key-file`; without them the server makes its own.
    pub tls_files: Option<(PathBuf, PathBuf)>,
    /// `--kubelet-client-certificate` and `--kubelet-client-key`; without them the server makes
    /// its own.
    pub kubelet_client_files: Option<(PathBuf, PathBuf)>,
    /// `--kubelet-certificate-authority`; without it kubelets must present a certificate of the
    /// server's own authority.
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// `--kubelet-preferred-address-types`, best first.
    pub kubelet_preferred_address_types: Vec<String>,
    /// `--authorization-mode`, asked in this order.
    pub authorization_mode: Vec<AuthorizationMode>,
    /// `--audit-log-path`: events as JSON lines; `-` is stdout.
    pub audit_log_path: Option<PathBuf>,
    /// `--audit-log-maxsize`, `--audit-log-maxbackup` and `--audit-log-maxage`.
    pub audit_log_rotation: Rotation,
    /// `--audit-policy-file`; without it metadata of every request is written.
    pub audit_policy_file: Option<PathBuf>,
    /// `--service-account-issuer`: the first issues tokens, all are believed. Empty: one of our
    /// own.
    pub service_account_issuer: Vec<String>,
    /// `--api-audiences`: tokens for one of these are good here. Empty: the first issuer.
    pub api_audiences: Vec<String>,
    /// `--enable-admission-plugins=DenyServiceExternalIPs`: refuse `spec.externalIPs`.
    pub deny_service_external_ips: bool,
    /// `--enable-admission-plugins=ServiceAccount`: pods that name no ServiceAccount get `default`.
    pub service_account_admission: bool,
    /// kube-controller-manager's `root-ca-certificate-publisher-controller`: keep the authority's
    /// certificate in ConfigMap `kube-root-ca.crt` of every Namespace.
    pub publish_root_certificate: bool,
    /// How much clients may use.
    pub limits: Limits,
}

/// How much clients may use. With the limit on bodies (3 MiB) this bounds memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `--max-requests-inflight`: reading requests that are answered at a time; 0 is any number.
    /// Watches and what goes to kubelets do not count.
    pub requests_inflight: usize,
    /// `--max-mutating-requests-inflight`: the same for writing ones.
    pub mutating_inflight: usize,
    /// `--request-timeout`: a request that takes longer is answered with 504, unless it is a
    /// watch or goes to a kubelet. Clients can ask for less with `?timeout=`.
    pub request_timeout: Duration,
    /// Watches at a time, over all clients.
    pub watches: usize,
    /// Connections at a time, over all listeners; others wait in the kernel's queue.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time until a connection has sent a request's head: bounds slow heads, and idle connections
    /// as the real server does.
    pub head: Duration,
    /// Sent data that a client does not take for so long ends its connection.
    pub unacknowledged: Duration,
}

impl Default for Limits {
    /// kube-apiserver's, where it has them.
    fn default() -> Self {
        Self {
            requests_inflight: 400,
            mutating_inflight: 200,
            request_timeout: Duration::from_secs(60),
            watches: 20_000,
            connections: 8192,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(90),
            unacknowledged: Duration::from_secs(60),
        }
    }
}

impl ApiserverConfig {
    /// kube-apiserver's defaults around a state folder, listening on loopback.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            bind_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            secure_port: DEFAULT_SECURE_PORT,
            inherited: Vec::new(),
            advertise_address: None,
            service_cluster_ip_range: DEFAULT_SERVICE_RANGES
                .iter()
                .filter_map(|range| range.parse().ok())
                .collect(),
            service_node_port_range: DEFAULT_NODE_PORTS,
            token_auth_file: None,
            anonymous_auth: true,
            client_ca_file: None,
            tls_files: None,
            kubelet_client_files: None,
            kubelet_certificate_authority: None,
            kubelet_preferred_address_types: ["Hostname", "InternalDNS", "InternalIP"]
                .into_iter()
                .chain(["ExternalDNS", "ExternalIP"])
                .map(str::to_owned)
                .collect(),
            authorization_mode: vec![AuthorizationMode::Node, AuthorizationMode::Rbac],
            audit_log_path: None,
            audit_log_rotation: Rotation::default(),
            audit_policy_file: None,
            service_account_issuer: Vec::new(),
            api_audiences: Vec::new(),
            deny_service_external_ips: false,
            service_account_admission: false,
            publish_root_certificate: false,
            limits: Limits::default(),
        }
    }

    /// The address that `default/kubernetes` points at: the one given, else the bind address when
    /// others can reach it, else this machine's address towards the default route, else loopback.
    pub fn advertised(&self) -> IpAddr {
        let reachable = |address: &IpAddr| !address.is_unspecified() && !address.is_loopback();
        self.advertise_address
            .or_else(|| self.bind_address.filter(reachable))
            .or_else(|| ROUTED.into_iter().find_map(source_address).filter(reachable))
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// The address from which this machine would send there. Nothing is sent: connecting a datagram
/// socket only looks the route up.
fn source_address(destination: &str) -> Option<IpAddr> {
    let any = if destination.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(destination).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Addresses of documentation (RFC 5737, RFC 3849): only a default route leads there.
const ROUTED: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];
/// kube-apiserver's `--secure-port`.
pub const DEFAULT_SECURE_PORT: u16 = 6443;
/// The lab's Service ranges.
pub const DEFAULT_SERVICE_RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// kube-apiserver's `--service-node-port-range`.
pub const DEFAULT_NODE_PORTS: (u16, u16) = (30000, 32767);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_two_ranges_of_different_families() {
        let config = ApiserverConfig::new("/nowhere");
        assert_eq!(config.service_cluster_ip_range.len(), DEFAULT_SERVICE_RANGES.len());
        assert_ne!(
            config.service_cluster_ip_range[0].addr().is_ipv4(),
            config.service_cluster_ip_range[1].addr().is_ipv4()
        );
    }

    #[test]
    fn what_others_cannot_reach_is_not_advertised_when_there_is_more() {
        let mut config = ApiserverConfig::new("/nowhere");
        config.bind_address = Some("192.0.2.7".parse().unwrap());
        assert_eq!(config.advertised().to_string(), "192.0.2.7");
        config.bind_address = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert!(!config.advertised().is_unspecified());
        config.advertise_address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(config.advertised().is_loopback());
    }
}
