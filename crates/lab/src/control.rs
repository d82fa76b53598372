//! The words that are said over `control.sock`, one JSON object a line, and the passing of
//! descriptors beside them.
//!
//! ```text
//!  client ── Request ──(SCM_RIGHTS: stdin, stdout, stderr for exec)──▶ supervisor
//!  client ◀── Reply ──────────────────────────────────────────────── supervisor
//! ```
//!
//! A connection carries one request, and but for [`Request::Watch`] one reply. While an `exec` runs, further lines may carry
//! [`Request::Signal`]; closing the connection ends the command.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a client may ask for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// The table of nodes and Services.
    Status,
    /// The table now and whenever it changes, until the connection is closed.
    Watch,
    /// Run a command somewhere in the lab. Three descriptors come along.
    Exec {
        /// `client`, a node, or `pod/[NAMESPACE/]NAME`.
        place: String,
        /// Program and arguments.
        command: Vec<String>,
        /// Extra environment, such as TERM.
        env: Vec<(String, String)>,
        /// The descriptors are a terminal of the command's own.
        terminal: bool,
    },
    /// Send a signal to the command that this connection started.
    Signal {
        /// Number, as in `kill -l`.
        signal: i32,
    },
    /// Start or stop a node.
    Node {
        /// Its name.
        name: String,
        /// True to start it, false to stop it.
        start: bool,
    },
    /// End the lab. The reply comes when everything has stopped.
    Shutdown,
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Done; nothing to say.
    Done,
    /// The table.
    Status {
        /// All of it.
        status: Box<Status>,
    },
    /// The command ended.
    Exited {
        /// Its exit code; 128 + signal number when a signal ended it.
        code: i32,
    },
    /// Refused, with the reason.
    Refused {
        /// Why, and what would do.
        message: String,
    },
}

/// A running lab, as `portolan status` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The kubeconfig to use with kubectl.
    pub kubeconfig: PathBuf,
    /// The API server's URL on the host.
    pub api_url: String,
    /// Nodes, by number.
    pub nodes: Vec<NodeStatus>,
    /// Services, by namespace and name.
    pub services: Vec<ServiceStatus>,
    /// Sum of the resident memory of all processes of the lab, in bytes.
    pub memory_bytes: u64,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// `node1`, ...
    pub name: String,
    /// Its addresses on the external network.
    pub addresses: Vec<IpAddr>,
    /// False after `node stop`.
    pub running: bool,
    /// Its Ready condition in the API.
    pub ready: bool,
    /// Pods that it runs.
    pub pods: usize,
}

/// One Service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub kind: String,
    /// Cluster addresses; empty for headless Services and ExternalName.
    pub cluster_ips: Vec<String>,
    /// Load balancer addresses from its status.
    pub external_ips: Vec<String>,
    /// Ports.
    pub ports: Vec<PortStatus>,
    /// Endpoints that are ready.
    pub ready_endpoints: usize,
    /// URLs that work on the host.
    pub urls: Vec<EndpointUrl>,
}

/// One port of a Service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name; empty when the Service has a single, unnamed port.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on every node's addresses.
    pub node_port: Option<u16>,
}

/// A loopback URL on the host that leads to a Service as the external client sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointUrl {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    /// Where it leads, such as `node1:30007` or `172.30.0.192:80`.
    pub leads_to: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
}
