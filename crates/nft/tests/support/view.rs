//! Views for tests, in few words.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    Action, Backend, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext,
    NodeView, Port, Protocol, Reason, ServiceName, ServiceView,
};

/// Node `node1` with addresses 172.30.0.11 and fd00:30::11 and pods in 10.244.0.0/24 and
/// fd00:10:244::/64.
pub(crate) fn view(services: impl IntoIterator<Item = ServiceView>) -> NodeView {
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: ["172.30.0.11", "fd00:30::11"].map(ip).into(),
            local_detector: LocalDetector::NodeCidr(
                ["10.244.0.0/24", "fd00:10:244::/64"].map(|text| text.parse().unwrap()).into(),
            ),
            masquerade_all: false,
        },
        service_cidrs: ["10.96.0.0/16", "fd00:10:96::/112"]
            .map(|text| text.parse().unwrap())
            .into(),
        services: services
            .into_iter()
            .map(|service| (service.name.clone(), Arc::new(service)))
            .collect(),
    }
}

/// A Service in namespace `default` with the cluster IPs of its frontends.
pub(crate) fn service(name: &str, frontends: impl IntoIterator<Item = Frontend>) -> ServiceView {
    let frontends: Vec<Frontend> = frontends.into_iter().collect();
    let cluster_ips = frontends.iter().filter_map(|frontend| match frontend.kind {
        FrontendKind::ClusterIp(address) => Some(address),
        _ => None,
    });
    let mut cluster_ips: Vec<IpAddr> = cluster_ips.collect();
    cluster_ips.dedup();
    let name = ServiceName::new("default", name);
    ServiceView { name, cluster_ips, frontends, health_check: None, report: Vec::new() }
}

/// A frontend without restrictions that masquerades as usual for its kind.
pub(crate) fn frontend(
    kind: FrontendKind,
    protocol: Protocol,
    number: u16,
    action: Action,
) -> Frontend {
    let lasting = match &action {
        Action::Balance(backends) if protocol != Protocol::Tcp => {
            backends.iter().map(|backend| backend.address).collect()
        }
        _ => Arc::default(),
    };
    Frontend {
        kind,
        protocol,
        port: port(number),
        port_name: "web".into(),
        internal: action.clone(),
        external: action,
        lasting,
        resets: false,
        masquerade: match kind {
            FrontendKind::ClusterIp(_) => Masquerade::OffCluster,
            _ => Masquerade::Always,
        },
        affinity: None,
        source_ranges: None,
    }
}

/// TCP frontend on a cluster IP.
pub(crate) fn cluster_ip(address: &str, number: u16, action: Action) -> Frontend {
    frontend(FrontendKind::ClusterIp(ip(address)), Protocol::Tcp, number, action)
}

/// TCP frontend on a load balancer address.
pub(crate) fn load_balancer(address: &str, number: u16, action: Action) -> Frontend {
    frontend(FrontendKind::LoadBalancer(ip(address)), Protocol::Tcp, number, action)
}

/// TCP frontend on a node port.
pub(crate) fn node_port(family: Family, number: u16, action: Action) -> Frontend {
    frontend(FrontendKind::NodePort(family), Protocol::Tcp, number, action)
}

/// Balances over these; those in this node's podCIDRs are local.
pub(crate) fn balance(endpoints: &[&str]) -> Action {
    let mut backends: Vec<Backend> = endpoints
        .iter()
        .map(|text| {
            let address = socket(text);
            let text = address.ip().to_string();
            let local = text.starts_with("10.244.0.") || text.starts_with("fd00:10:244::");
            Backend { address, local }
        })
        .collect();
    backends.sort();
    Action::Balance(backends.into())
}

pub(crate) fn reject() -> Action {
    Action::Reject(Reason::NoEndpoints)
}

pub(crate) fn drop_() -> Action {
    Action::Drop(Reason::NoLocalEndpoints)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}
