//! What `/services` and `portolan agent status` tell: for every Service what this node does for
//! it, and the reason for each thing that it does not do.

use model::{
    Action, Backend, Cluster, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeView,
    ServiceName, ServiceView,
};
use serde::{Deserialize, Serialize};

/// What an agent knows and has done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// The node.
    pub node: NodeReport,
    /// Its Services, by namespace and name.
    pub services: Vec<ServiceReport>,
}

/// The node and the agent on it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Name of the Node object.
    pub name: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Addresses on which node ports answer.
    pub node_port_addresses: Vec<String>,
    /// How this cluster's pods are recognised.
    pub local_detector: Option<String>,
    /// Whether the kernel does all that follows.
    pub programmed: bool,
    /// When the kernel was last brought up to date, RFC 3339.
    pub last_sync: Option<String>,
    /// What has to come before anything can be done.
    pub waiting_for: Vec<String>,
    /// Why the kernel is not up to date.
    pub error: Option<String>,
    /// How often the kernel's tables were found changed by somebody else, and put right.
    #[serde(default)]
    pub repairs: u64,
    /// The last of these times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_repair: Option<RepairReport>,
    /// What may keep Services from working on this node.
    pub warnings: Vec<String>,
}

/// What was found changed in the kernel and put right.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairReport {
    /// When, RFC 3339.
    pub time: String,
    /// The parts of our tables, such as `chain ip portolan services`.
    pub what: String,
    /// The programs that changed them, with their process numbers, as far as is known.
    pub by: Vec<String>,
}

impl RepairReport {
    pub(crate) fn of(mended: &nft::Mended, now: jiff::Timestamp) -> Self {
        Self {
            time: now.to_string(),
            what: mended.to_string(),
            by: mended.by.iter().cloned().collect(),
        }
    }
}

/// One Service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where clients may knock, and what comes of it.
    pub frontends: Vec<FrontendReport>,
    /// Why it is as it is.
    pub reasons: Vec<String>,
}

/// One address and port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendReport {
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`.
    pub kind: String,
    /// The address; a node port has none of its own.
    pub address: Option<String>,
    /// `IPv4` or `IPv6`.
    pub ip_family: String,
    /// Port, or node port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Name of the Service's port.
    pub port_name: String,
    /// What becomes of new connections; those of this node's own pods and processes when `outside`
    /// says something else.
    #[serde(flatten)]
    pub result: ActionReport,
    /// What becomes of connections from elsewhere, where that differs.
    pub outside: Option<ActionReport>,
    /// Whose source address is replaced: `Never`, `OffCluster`, `Always` or `NodeOnly`.
    pub masquerade: String,
    /// Seconds for which a client is sent to the same endpoint.
    pub affinity_seconds: Option<u32>,
    /// The only sources that are let in.
    pub source_ranges: Option<Vec<String>>,
}

/// What becomes of a new connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionReport {
    /// `balance`, `reject` or `drop`.
    pub action: String,
    /// To whom it may go.
    pub endpoints: Vec<String>,
    /// Why it goes nowhere.
    pub reason: Option<String>,
}

/// Which Services are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name.
    pub name: Option<String>,
}

impl Filter {
    /// From a query such as `namespace=default&name=web`. Names need no escapes.
    pub(crate) fn from_query(query: &str) -> Self {
        let value = |wanted: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value.to_owned())
        };
        Self { namespace: value("namespace"), name: value("name") }
    }

    /// As a query.
    pub fn to_query(&self) -> String {
        let pair = |key: &str, value: &Option<String>| Some(format!("{key}={}", value.as_ref()?));
        let pairs = [pair("namespace", &self.namespace), pair("name", &self.name)];
        pairs.into_iter().flatten().collect::<Vec<_>>().join("&")
    }

    fn admits(&self, service: &ServiceName) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == &*service.namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == &*service.name)
    }
}

/// The report of a view. What the view cannot know is in `node`.
pub(crate) fn report(
    node: NodeReport,
    view: Option<&NodeView>,
    cluster: &Cluster,
    filter: &Filter,
) -> AgentReport {
    let Some(view) = view else { return AgentReport { node, services: Vec::new() } };
    let context = &view.context;
    let node = NodeReport {
        zone: context.zone.as_ref().map(ToString::to_string),
        node_port_addresses: context.node_addresses.iter().map(ToString::to_string).collect(),
        local_detector: Some(detector(&context.local_detector)),
        ..node
    };
    let services = view.services.iter().filter(|(name, _)| filter.admits(name));
    let services = services.map(|(name, view)| {
        let kind = cluster.services.get(name).map_or("", |service| service.kind.as_str());
        service(view, kind)
    });
    AgentReport { node, services: services.collect() }
}

fn detector(detector: &LocalDetector) -> String {
    let networks = |networks: &[model::IpNet]| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    match detector {
        LocalDetector::ClusterCidr(cidrs) => format!("ClusterCIDR {}", networks(cidrs)),
        LocalDetector::NodeCidr(cidrs) => format!("NodeCIDR {}", networks(cidrs)),
        LocalDetector::BridgeInterface(name) => format!("BridgeInterface {name}"),
        LocalDetector::InterfacePrefix(prefix) => format!("InterfaceNamePrefix {prefix}"),
        LocalDetector::None => "None".to_owned(),
    }
}

fn service(view: &ServiceView, kind: &str) -> ServiceReport {
    ServiceReport {
        namespace: view.name.namespace.to_string(),
        name: view.name.name.to_string(),
        kind: kind.to_owned(),
        frontends: view.frontends.iter().map(frontend).collect(),
        reasons: view.report.iter().map(ToString::to_string).collect(),
    }
}

fn frontend(frontend: &Frontend) -> FrontendReport {
    let (kind, address, family) = match frontend.kind {
        FrontendKind::ClusterIp(ip) => ("ClusterIP", Some(ip), Family::of(ip)),
        FrontendKind::ExternalIp(ip) => ("ExternalIP", Some(ip), Family::of(ip)),
        FrontendKind::LoadBalancer(ip) => ("LoadBalancer", Some(ip), Family::of(ip)),
        FrontendKind::NodePort(family) => ("NodePort", None, family),
    };
    let outside = (frontend.internal != frontend.external).then(|| action(&frontend.external));
    let masquerade = match frontend.masquerade {
        Masquerade::Never => "Never",
        Masquerade::OffCluster => "OffCluster",
        Masquerade::Always => "Always",
        Masquerade::NodeOnly => "NodeOnly",
    };
    let ranges = |ranges: &Vec<model::IpNet>| ranges.iter().map(ToString::to_string).collect();
    FrontendReport {
        kind: kind.to_owned(),
        address: address.map(|address| address.to_string()),
        ip_family: family.to_string(),
        port: frontend.port.get(),
        protocol: frontend.protocol.to_string(),
        port_name: frontend.port_name.to_string(),
        result: action(&frontend.internal),
        outside,
        masquerade: masquerade.to_owned(),
        affinity_seconds: frontend.affinity.map(|affinity| affinity.timeout_seconds),
        source_ranges: frontend.source_ranges.as_ref().map(ranges),
    }
}

fn action(action: &Action) -> ActionReport {
    let (action, backends, reason): (_, &[Backend], _) = match action {
        Action::Balance(backends) => ("balance", backends, None),
        Action::Reject(reason) => ("reject", &[], Some(reason.to_string())),
        Action::Drop(reason) => ("drop", &[], Some(reason.to_string())),
    };
    ActionReport {
        action: action.to_owned(),
        endpoints: backends.iter().map(|backend| backend.address.to_string()).collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_query() {
        for (namespace, name) in
            [(None, None), (Some("a"), None), (None, Some("b")), (Some("a"), Some("b"))]
        {
            let filter =
                Filter { namespace: namespace.map(str::to_owned), name: name.map(str::to_owned) };
            assert_eq!(Filter::from_query(&filter.to_query()), filter);
        }
        let both = Filter::from_query("namespace=a&name=b");
        assert!(both.admits(&ServiceName::new("a", "b")));
        assert!(!both.admits(&ServiceName::new("c", "b")));
        assert!(!both.admits(&ServiceName::new("a", "c")));
    }
}
