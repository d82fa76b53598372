//! What the agent would change in the kernel, for people to read before it does.

mod element;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::bail;
use cluster::SourceOptions;
use model::{Family, FrontendKind, NodeView, ServiceName};
use nft::ruleset::{Data, Key, Op, Ruleset, SetSpec, Table};
use nft::{Kernel, Layout, Netfilter as _};

use self::element::{Decoded, decode};
use super::node::{KINDS, Node};
use super::settings::Basis;
use super::{AgentConfig, leftovers};
use crate::connect;

/// How long the API server may take to list everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may be silent before somebody asks why.
const SILENCE: Duration = Duration::from_secs(3);

/// The difference between what the kernel holds and what the agent would make it hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// By Service, then what belongs to none.
    pub changes: BTreeMap<Owner, Change>,
    /// What a kube-proxy has left; removed with `--replace-kube-proxy` only.
    pub leftovers: Vec<String>,
}

/// Whose an element is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// A Service's.
    Service(ServiceName),
    /// Of an address and port that no Service has any more.
    Nobodys(String),
    /// The node's: tables, chains, rules and sets of its own.
    Node,
}

/// What happens to one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Whether it comes, goes or changes.
    pub mark: Mark,
    /// Each thing that comes or goes, in the words of the `nft` program.
    pub lines: Vec<(Mark, String)>,
}

/// Direction of a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// Goes.
    Minus,
    /// Comes.
    Plus,
    /// Changes.
    Tilde,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minus => "-",
            Self::Plus => "+",
            Self::Tilde => "~",
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Nobodys(place) => write!(f, "{place}, which no Service has"),
            Self::Node => f.write_str("the node itself"),
        }
    }
}

/// Lists the cluster's objects, plans this node and compares with its kernel. Changes nothing.
///
/// # Errors
/// When the API server or the kernel cannot be asked, or when something is missing that has to be
/// known, such as the Node.
pub async fn dry_run(config: &AgentConfig) -> anyhow::Result<Difference> {
    let client = connect(config.kubeconfig.as_deref(), config.server.as_deref()).await?;
    let mut source = cluster::source(&client, &KINDS, SourceOptions::Node);
    let mut node = Node::new(config.node.clone(), Basis::read(config)?);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while node.plan().is_none() {
        let silence = tokio::time::Instant::now() + SILENCE;
        match tokio::time::timeout_at(silence.min(deadline), source.next()).await {
            Ok(Some(batch)) => drop(node.take(batch)),
            Err(_) if silence < deadline && is_listing(&source, &node) => {}
            _ => {
                let reasons = source.troubles().join("; ");
                let colon = if reasons.is_empty() { "" } else { ": " };
                bail!("cannot plan without {}{colon}{reasons}", node.missing().join(" and "))
            }
        }
    }
    let Some(view) = node.view() else { bail!("cannot plan without a view") };
    let want = Layout::new(view, &config.dataplane()).ruleset();
    let have = Kernel::open()?.read()?;
    let leftovers = leftovers::find().iter().map(ToString::to_string).collect();
    Ok(Difference { changes: difference(view, &have, &want), leftovers })
}

/// Whether the server is at work on its lists.
fn is_listing(source: &cluster::Source, node: &Node) -> bool {
    source.troubles().is_empty() && !node.cluster().is_complete(&KINDS)
}

fn difference(view: &NodeView, have: &Ruleset, want: &Ruleset) -> BTreeMap<Owner, Change> {
    let owners = Owners::of(view);
    let mut lines: BTreeMap<Owner, Vec<(Mark, String)>> = BTreeMap::new();
    for operation in nft::diff(have, want) {
        for (owner, mark, line) in owners.lines(&operation, have, want) {
            lines.entry(owner).or_default().push((mark, line));
        }
    }
    let known = owners.all(have);
    let change = |(owner, mut lines): (Owner, Vec<(Mark, String)>)| {
        // What goes comes first, next to what takes its place.
        lines.sort_by(|(mark, line), (other_mark, other)| {
            let key = |line: &str| line.split(" : ").next().map(str::to_owned);
            (key(line), mark, line).cmp(&(key(other), other_mark, other))
        });
        // Every rule of a chain makes the same line.
        lines.dedup();
        let wanted = lines.iter().any(|(mark, _)| *mark == Mark::Plus);
        let mark = match (&owner, known.contains(&owner)) {
            (Owner::Nobodys(_), _) => Mark::Minus,
            (Owner::Service(name), true) if !wanted && !view.services.contains_key(name) => {
                Mark::Minus
            }
            (_, true) => Mark::Tilde,
            (_, false) => Mark::Plus,
        };
        (owner, Change { mark, lines })
    };
    lines.into_iter().map(change).collect()
}

/// Which Service has which address and port.
struct Owners {
    frontends: BTreeMap<(IpAddr, u8, u16), ServiceName>,
    node_ports: BTreeMap<(Family, u8, u16), ServiceName>,
    cluster_ips: BTreeMap<IpAddr, ServiceName>,
}

impl Owners {
    fn of(view: &NodeView) -> Self {
        let mut owners = Self {
            frontends: BTreeMap::new(),
            node_ports: BTreeMap::new(),
            cluster_ips: BTreeMap::new(),
        };
        for (name, service) in &view.services {
            owners.cluster_ips.extend(service.cluster_ips.iter().map(|ip| (*ip, name.clone())));
            for frontend in &service.frontends {
                let (protocol, port) = (frontend.protocol.number(), frontend.port.get());
                match frontend.kind {
                    FrontendKind::ClusterIp(ip)
                    | FrontendKind::ExternalIp(ip)
                    | FrontendKind::LoadBalancer(ip) => {
                        owners.frontends.insert((ip, protocol, port), name.clone());
                    }
                    FrontendKind::NodePort(family) => {
                        owners.node_ports.insert((family, protocol, port), name.clone());
                    }
                }
            }
        }
        owners
    }

    /// The lines that tell of one operation.
    fn lines(&self, operation: &Op, have: &Ruleset, want: &Ruleset) -> Vec<(Owner, Mark, String)> {
        let ours = |mark: Mark, text: String| vec![(Owner::Node, mark, text)];
        let table =
            |family: &Family| format!("table {} {}", family_name(*family), nft::ruleset::TABLE);
        match operation {
            Op::AddTable(family) => {
                let parts = want.get(family).map(parts).unwrap_or_default();
                ours(Mark::Plus, format!("{}{parts}", table(family)))
            }
            // Told with the table.
            Op::AddChain(family, ..) | Op::AddSet(family, ..) | Op::AddRule(family, ..)
                if !have.contains_key(family) =>
            {
                Vec::new()
            }
            Op::DeleteTable(family) => ours(Mark::Minus, table(family)),
            Op::AddChain(family, name, _) => {
                ours(Mark::Plus, format!("chain {} {name}", family_name(*family)))
            }
            Op::DeleteChain(family, name) => {
                ours(Mark::Minus, format!("chain {} {name}", family_name(*family)))
            }
            Op::FlushChain(family, name) => {
                ours(Mark::Minus, format!("rules of chain {} {name}", family_name(*family)))
            }
            Op::AddRule(family, name, _) => {
                ours(Mark::Plus, format!("rules of chain {} {name}", family_name(*family)))
            }
            Op::AddSet(family, name, _) => {
                ours(Mark::Plus, format!("set {} {name}", family_name(*family)))
            }
            Op::DeleteSet(family, name) => {
                ours(Mark::Minus, format!("set {} {name}", family_name(*family)))
            }
            Op::AddElements(family, set, elements) => {
                let spec = spec(want, *family, set);
                let line = |(key, data)| self.element(*family, set, spec, Mark::Plus, key, data);
                elements.iter().map(|(key, data)| line((key, data))).collect()
            }
            Op::FlushSet(family, name) => {
                ours(Mark::Minus, format!("elements of set {} {name}", family_name(*family)))
            }
            // What clients are remembered by and what is counted is carried over, not planned.
            Op::AddTimed(..) | Op::AddCounted(..) => Vec::new(),
            Op::DeleteElements(family, set, keys) => {
                let spec = spec(have, *family, set);
                let held = have.get(family).and_then(|table| table.sets.get(set));
                let data = |key: &Key| held.and_then(|set| set.elements.get(key));
                let line = |key| {
                    let data = data(key).unwrap_or(&Data::None);
                    self.element(*family, set, spec, Mark::Minus, key, data)
                };
                keys.iter().map(line).collect()
            }
        }
    }

    fn element(
        &self,
        family: Family,
        set: &str,
        spec: Option<&SetSpec>,
        mark: Mark,
        key: &Key,
        data: &Data,
    ) -> (Owner, Mark, String) {
        let decoded = decode(spec, key, data);
        let text = format!("{} {set} {{ {decoded} }}", family_name(family));
        (self.owner(family, &decoded), mark, text)
    }

    /// An element is of the Service whose address and port, or node port, its key begins with.
    fn owner(&self, family: Family, element: &Decoded) -> Owner {
        let place = element.place(family);
        let owner = match place {
            element::Place::Frontend(ip, protocol, port) => {
                self.frontends.get(&(ip, protocol, port))
            }
            element::Place::NodePort(protocol, port) => {
                self.node_ports.get(&(family, protocol, port))
            }
            element::Place::Address(ip) => self.cluster_ips.get(&ip),
            element::Place::Other => None,
        };
        match (owner, place) {
            (Some(name), _) => Owner::Service(name.clone()),
            (None, element::Place::Frontend(..) | element::Place::NodePort(..)) => {
                Owner::Nobodys(place.to_string())
            }
            (None, _) => Owner::Node,
        }
    }

    /// Everybody who has an element in the kernel.
    fn all(&self, have: &Ruleset) -> BTreeSet<Owner> {
        let mut all = BTreeSet::new();
        for (family, table) in have {
            all.insert(Owner::Node);
            for set in table.sets.values() {
                let owners = set
                    .elements
                    .iter()
                    .map(|(key, data)| self.owner(*family, &decode(Some(&set.spec), key, data)));
                all.extend(owners);
            }
        }
        all
    }
}

/// How much there is in a new table, before any Service.
fn parts(table: &Table) -> String {
    let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
    format!(" with {} chains, {rules} rules and {} sets", table.chains.len(), table.sets.len())
}

fn spec<'a>(ruleset: &'a Ruleset, family: Family, set: &str) -> Option<&'a SetSpec> {
    ruleset.get(&family)?.sets.get(set).map(|set| &set.spec)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{
        Action, Backend, Frontend, LocalDetector, Masquerade, NodeContext, Port, Protocol,
        ServiceView,
    };

    use super::*;

    fn service(name: &str, address: &str, endpoints: &[&str]) -> (ServiceName, Arc<ServiceView>) {
        let backends: Arc<[Backend]> = endpoints
            .iter()
            .map(|endpoint| Backend { address: endpoint.parse().unwrap(), local: false })
            .collect();
        let ip: IpAddr = address.parse().unwrap();
        let frontend = Frontend {
            kind: FrontendKind::ClusterIp(ip),
            protocol: Protocol::Tcp,
            port: Port::new(80).unwrap(),
            port_name: "".into(),
            internal: Action::Balance(Arc::clone(&backends)),
            external: Action::Balance(backends),
            masquerade: Masquerade::OffCluster,
            lasting: Arc::from([]),
            resets: false,
            affinity: None,
            source_ranges: None,
        };
        let name = ServiceName::new("default", name);
        let view = ServiceView {
            name: name.clone(),
            cluster_ips: vec![ip],
            frontends: vec![frontend],
            health_check: None,
            report: Vec::new(),
        };
        (name, Arc::new(view))
    }

    fn view(services: &[(&str, &str, &[&str])]) -> NodeView {
        let services = services.iter().map(|(name, ip, endpoints)| service(name, ip, endpoints));
        NodeView {
            context: NodeContext {
                node: "a".into(),
                zone: None,
                node_addresses: BTreeSet::new(),
                local_detector: LocalDetector::None,
                masquerade_all: false,
            },
            service_cidrs: BTreeSet::new(),
            services: services.collect(),
        }
    }

    #[test]
    fn services_come_go_and_change() {
        let ruleset = |view: &NodeView| Layout::new(view, &nft::Settings::default()).ruleset();
        let old = view(&[
            ("gone", "10.96.0.1", &["10.244.0.2:8080"]),
            ("same", "10.96.0.2", &["10.244.0.2:8080"]),
            ("web", "10.96.0.3", &["10.244.0.2:8080"]),
        ]);
        let new = view(&[
            ("new", "10.96.0.4", &["10.244.0.2:8080"]),
            ("same", "10.96.0.2", &["10.244.0.2:8080"]),
            ("web", "10.96.0.3", &["10.244.0.3:8080"]),
        ]);
        let changes = difference(&new, &ruleset(&old), &ruleset(&new));
        let marks: Vec<_> =
            changes.iter().map(|(owner, change)| format!("{} {owner}", change.mark)).collect();
        assert_eq!(
            marks,
            [
                "+ Service default/new",
                "~ Service default/web",
                "- 10.96.0.1:80/TCP, which no Service has",
                "~ the node itself",
            ]
        );
        let web = &changes[&Owner::Service(ServiceName::new("default", "web"))];
        assert_eq!(
            web.lines,
            [
                (
                    Mark::Minus,
                    "ip endpoints { 10.96.0.3 . tcp . 80 . 0 : 10.244.0.2 . 8080 }".to_owned()
                ),
                (
                    Mark::Plus,
                    "ip endpoints { 10.96.0.3 . tcp . 80 . 0 : 10.244.0.3 . 8080 }".to_owned()
                ),
            ]
        );
        assert!(difference(&new, &ruleset(&new), &ruleset(&new)).is_empty());
    }

    #[test]
    fn new_tables_are_told_in_a_line_each() {
        let view = view(&[("web", "10.96.0.3", &["10.244.0.2:8080"])]);
        let want = Layout::new(&view, &nft::Settings::default()).ruleset();
        let changes = difference(&view, &Ruleset::new(), &want);
        let lines: Vec<_> = changes[&Owner::Node].lines.iter().map(|(_, line)| line).collect();
        let tables: Vec<_> = lines.iter().filter(|line| line.starts_with("table ")).collect();
        assert_eq!(tables.len(), 2, "{lines:?}");
        assert!(tables[0].starts_with("table ip portolan with "), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("chain ")), "{lines:?}");
    }
}
