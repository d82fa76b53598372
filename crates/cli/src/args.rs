//! Arguments of every command, with help and examples.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use apiserver::config::AuthorizationMode;
use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::agent::PassChain;
use ipnet::IpNet;

use crate::kube_proxy::Flags;

/// Kubernetes Services, whole: a lab on one machine, a node agent, a load balancer.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  portolan up                                start a lab with two nodes
  portolan exec client -- curl node1:30007   knock from outside the cluster
  export KUBECONFIG=$(portolan kubeconfig)   then use kubectl as always
  portolan down                              end a lab that was detached";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a lab: nodes, pods and an outside client on this machine, without root
    Up(Up),
    /// End a detached or killed lab
    Down(StateArgs),
    /// Show nodes and Services, who can reach them, and the URLs to try
    Status(StatusArgs),
    /// Print the path of the lab's kubeconfig
    Kubeconfig(StateArgs),
    /// Create or change objects in the lab
    Apply(Files),
    /// Delete objects from the lab
    Delete(Files),
    /// Run a command at a place in the lab
    Exec(Exec),
    /// Start or stop a node of the lab
    #[command(subcommand)]
    Node(Node),
    /// Run the node agent: make this machine's kernel carry Services
    Agent(Box<Agent>),
    /// Run the controllers: endpoints, workloads, load balancer addresses
    Controller(Controller),
    /// Run the embedded Kubernetes API server
    Apiserver(Box<Apiserver>),
    /// Run cluster DNS
    Dns(Dns),
    /// Show the busiest Services of this node, second by second
    Top(Top),
    /// Measure parts of Portolan on this machine, next to kube-proxy's figures
    #[command(subcommand)]
    Bench(Bench),
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where a lab keeps its state.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateArgs {
    /// The lab's state folder [default: ~/.local/state/portolan/default]
    #[arg(long, value_name = "DIR", env = "PORTOLAN_STATE")]
    pub(crate) state: Option<PathBuf>,
}

impl StateArgs {
    pub(crate) fn dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(lab::default_state_dir)
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For machines
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portolan up                          the three example Services
  portolan up -f app.yaml --nodes 4    your own objects on four nodes
  portolan up --detach                 return when everything answers")]
pub(crate) struct Up {
    /// Objects to apply instead of the examples (file, folder, or -)
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) nodes: u16,
    /// Addresses for LoadBalancer Services, on the external network
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) pool: Vec<IpNet>,
    /// Port of the API server on 127.0.0.1 [default: any free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) api_port: Option<u16>,
    /// Write logs/audit.log as this audit.k8s.io/v1 Policy wants it
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// Return when everything answers; `portolan down` ends the lab
    #[arg(long)]
    pub(crate) detach: bool,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Print again whenever something changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Manifests (file, folder, or - for stdin)
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portolan exec client -- curl -s http://node2:30007
  portolan exec node1 -- ip route
  portolan exec pod/web-5d8c7b9f4-x2x7k -- sh")]
pub(crate) struct Exec {
    /// client, a node such as node1, or pod/[NAMESPACE/]NAME
    pub(crate) place: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Bring a stopped node back
    Start(NodeName),
    /// Stop a node as if its power had failed
    Stop(NodeName),
}

#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// Such as node1
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Takes kube-proxy's configuration file and flags; those without effect are not
shown, but named in a warning (docs/migrating-from-kube-proxy.md lists all).

Examples:
  portolan agent --kubeconfig node.conf --dry-run    what would change here?
  portolan agent --config /var/lib/kube-proxy/config.conf --replace-kube-proxy
  portolan agent status -n default web               what is done, and why not more
  portolan agent --cleanup                           before going back to kube-proxy"
)]
pub(crate) struct Agent {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    /// KubeProxyConfiguration; most of kube-proxy's flags do not count beside it. When it changes,
    /// the agent ends, to be started again
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write the configuration that would be used to a file and end
    #[arg(long, value_name = "FILE")]
    pub(crate) write_config_to: Option<PathBuf>,
    /// URL of the API server, instead of the one that the kubeconfig names
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,
    /// This node's addresses, each instead of the Node's InternalIPs of its family
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    pub(crate) node_ip: Vec<IpAddr>,
    /// Port of --healthz-bind-address; 0 turns it off
    #[arg(long, value_name = "PORT", hide = true)]
    pub(crate) healthz_port: Option<u16>,
    /// Port of --metrics-bind-address; 0 turns it off
    #[arg(long, value_name = "PORT", hide = true)]
    pub(crate) metrics_port: Option<u16>,
    /// Answer ARP and NDP for load balancer addresses on this interface
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) announce_interface: Option<String>,
    /// Count connections, packets and bytes by Service and endpoint, for `portolan top`,
    /// /counters and /metrics; costs a few lookups for each packet
    #[arg(long)]
    pub(crate) counters: bool,
    /// Let Services pass a host firewall that drops: its chains, such as
    /// inet/filter/forward, iptables/FORWARD
    #[arg(long, value_delimiter = ',', value_name = "CHAIN")]
    pub(crate) accept_in_firewall: Vec<PassChain>,
    /// Remove what a kube-proxy has left in the kernel, once our own rules work
    #[arg(long)]
    pub(crate) replace_kube_proxy: bool,
    /// Set what only a privileged process can (conntrack's limits and timeouts) and end
    #[arg(long)]
    pub(crate) init_only: bool,
    /// Print what would change in the kernel, change nothing and end
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove everything of ours from the kernel and end; needs no API server
    #[arg(long)]
    pub(crate) cleanup: bool,
    #[command(flatten)]
    pub(crate) kube_proxy: Flags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Show what this node's agent does for each Service, and why not more
    Status(AgentStatus),
}

#[derive(Debug, Args)]
pub(crate) struct AgentStatus {
    /// Only the Service of this name
    pub(crate) name: Option<String>,
    /// Only Services of this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Where the agent serves /services
    #[arg(long, default_value = "127.0.0.1:10249", value_name = "ADDR")]
    pub(crate) agent: SocketAddr,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// Ranges of pod addresses for nodes, as kube-controller-manager names them.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeCidrs {
    /// Give nodes that have none their ranges of pod addresses
    #[arg(long, requires = "cluster_cidr", default_value_t = false, action = clap::ArgAction::Set,
          value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allocate_node_cidrs: bool,
    /// Where they come from, one range or one of each family
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) cluster_cidr: Vec<IpNet>,
    /// Prefix length of a node's range, when there is one family
    #[arg(long, value_name = "N",
          conflicts_with_all = ["node_cidr_mask_size_ipv4", "node_cidr_mask_size_ipv6"])]
    pub(crate) node_cidr_mask_size: Option<u8>,
    /// Prefix length of a node's IPv4 range
    #[arg(long, default_value_t = 24, value_name = "N")]
    pub(crate) node_cidr_mask_size_ipv4: u8,
    /// Prefix length of a node's IPv6 range
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) node_cidr_mask_size_ipv6: u8,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Look once and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Show the endpoints of each Service too
    #[arg(long)]
    pub(crate) endpoints: bool,
    /// Services in a live view
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) rows: usize,
    /// Where the agent serves /counters
    #[arg(long, default_value = "127.0.0.1:10249", value_name = "ADDR")]
    pub(crate) agent: SocketAddr,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure the agent from a write to the API to the first packet
    Agent(BenchAgent),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Starts the API server and the agent in a network of their own, without root;
every write goes through the API. Build with --release before believing figures.

Examples:
  portolan bench agent --services 10000 --endpoints 5
  portolan bench agent --services 100,1000,10000,50000     the curve")]
pub(crate) struct BenchAgent {
    /// Number of Services; several give a curve
    #[arg(long, value_delimiter = ',', default_value = "10000", value_name = "N")]
    pub(crate) services: Vec<u32>,
    /// Endpoints of each
    #[arg(long, default_value_t = 5, value_name = "M")]
    pub(crate) endpoints: u32,
    /// Changes of one endpoint that are measured
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) changes: u32,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Controller {
    /// Kubeconfig [default: the pod's service account, or $KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Addresses for LoadBalancer Services
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) pool: Vec<IpNet>,
    #[command(flatten)]
    pub(crate) node_cidrs: NodeCidrs,
    /// Controllers to run: `*` for all, NAME, -NAME; beside kube-controller-manager only
    /// service-lb-controller
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "*",
        value_name = "NAMES",
        allow_hyphen_values = true
    )]
    pub(crate) controllers: Vec<String>,
    /// Hold a Lease while controlling, so that of several controllers one works
    #[arg(long)]
    pub(crate) leader_elect: bool,
    /// Where /healthz and /metrics are served; empty turns it off
    #[arg(long, default_value = "", value_name = "ADDR")]
    pub(crate) healthz_bind_address: String,
}

#[derive(Debug, Args)]
pub(crate) struct Apiserver {
    /// Folder of the store and certificates
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Address to listen on; `none` serves inherited listeners only
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) bind_address: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub(crate) secure_port: u16,
    /// Where pods reach this server
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Cluster addresses of Services, one range or one of each family
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "CIDR",
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    pub(crate) service_cluster_ip_range: Vec<IpNet>,
    /// Node ports, first-last
    #[arg(long, default_value = "30000-32767", value_name = "RANGE", value_parser = port_range)]
    pub(crate) service_node_port_range: (u16, u16),
    /// CSV file with token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Let requests without credentials in as system:anonymous (health and version only)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) anonymous_auth: bool,
    /// Authority of client certificates, besides the server's own
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Serving certificate, with --tls-private-key-file
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Which addresses of a node to dial, best first
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "TYPES",
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub(crate) kubelet_preferred_address_types: Vec<String>,
    /// Client certificate for kubelets, with --kubelet-client-key
    #[arg(long, value_name = "FILE", requires = "kubelet_client_key")]
    pub(crate) kubelet_client_certificate: Option<PathBuf>,
    /// Key of the client certificate for kubelets
    #[arg(long, value_name = "FILE", requires = "kubelet_client_certificate")]
    pub(crate) kubelet_client_key: Option<PathBuf>,
    /// Authority of kubelets' certificates [default: the server's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubelet_certificate_authority: Option<PathBuf>,
    /// DenyServiceExternalIPs, ServiceAccount
    #[arg(long, value_delimiter = ',', value_name = "PLUGINS", value_enum)]
    pub(crate) enable_admission_plugins: Vec<AdmissionPlugin>,
    /// Controllers to run in this process: `*` for all but scheduler and
    /// root-ca-certificate-publisher-controller, NAME, -NAME; `none` when another process controls
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "*",
        value_name = "NAMES",
        allow_hyphen_values = true
    )]
    pub(crate) controllers: Vec<String>,
    /// Addresses that the controllers give to LoadBalancer Services
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub(crate) pool: Vec<IpNet>,
    #[command(flatten)]
    pub(crate) node_cidrs: NodeCidrs,
    /// Who decides what users may do: AlwaysAllow, AlwaysDeny, Node, RBAC; asked in turn
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC", value_name = "MODES")]
    pub(crate) authorization_mode: Vec<AuthorizationMode>,
    /// Audit log, one JSON line per event; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Which requests to log, and how much of them [default: Metadata of all]
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// Megabytes after which the audit log is put aside [0: 100]
    #[arg(long, default_value_t = 0, value_name = "MB")]
    pub(crate) audit_log_maxsize: u32,
    /// How many audit logs put aside are kept [0: all]
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) audit_log_maxbackup: u32,
    /// Days that audit logs put aside are kept [0: for ever]
    #[arg(long, default_value_t = 0, value_name = "DAYS")]
    pub(crate) audit_log_maxage: u32,
    /// Issuer of service account tokens; the first issues, all are believed
    #[arg(long, value_name = "URL")]
    pub(crate) service_account_issuer: Vec<String>,
    /// Audiences whose tokens are good here [default: the issuer]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) api_audiences: Vec<String>,
    /// Reading requests at a time, more are refused with 429; 0 is no limit
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub(crate) max_requests_inflight: usize,
    /// Writing requests at a time, more are refused with 429; 0 is no limit
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) max_mutating_requests_inflight: usize,
    /// Time for a request that is no watch, such as 1m30s
    #[arg(long, default_value = "1m0s", value_name = "DURATION",
          value_parser = apiserver::config::parse_duration)]
    pub(crate) request_timeout: Duration,
}

/// Admission plug-ins that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum AdmissionPlugin {
    /// Refuse new values in spec.externalIPs of Services
    #[value(name = "DenyServiceExternalIPs")]
    DenyServiceExternalIps,
    /// Give pods the default service account
    #[value(name = "ServiceAccount")]
    ServiceAccount,
}

#[derive(Debug, Args)]
pub(crate) struct Dns {
    /// Kubeconfig [default: the pod's service account, or $KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) domain: String,
    /// Addresses to serve on, UDP and TCP
    #[arg(long, value_delimiter = ',', default_value = "[::]:53", value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Server for names outside the cluster; without it they are refused
    #[arg(long, value_name = "ADDR")]
    pub(crate) upstream: Option<SocketAddr>,
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let wanted = || format!("{text:?} is not a range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wanted)?;
    let first: u16 = first.trim().parse().map_err(|_| wanted())?;
    let last: u16 = last.trim().parse().map_err(|_| wanted())?;
    if first == 0 || first > last { Err(wanted()) } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_80_columns() {
        let mut command = Arguments::command().term_width(80);
        command.build();
        for sub in command.get_subcommands_mut() {
            for line in sub.render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", sub.get_name());
            }
        }
    }

    #[test]
    fn a_port_range_must_rise() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        for bad in ["", "30000", "5-1", "0-9", "1-70000", "a-b"] {
            assert!(port_range(bad).unwrap_err().contains("not a range"), "{bad}");
        }
    }
}
