//! The format of a story file.
//!
//! ```text
//! Prose: what the story is about, with the ids of the rules.
//! -- objects.yaml --
//! Node, Service, EndpointSlice and ServiceCIDR manifests, applied before the first step
//! -- steps --
//! # comment
//! node node1                                   whose kernel handles the packets
//! client -> 172.30.0.11:30007/TCP => 10.244.1.2:8080* 10.244.2.2:8080*
//! pod 10.244.1.2 -> 10.96.0.7:80/TCP => 10.244.1.2:8080* 10.244.2.2:8080
//! node -> 10.96.0.7:81/TCP => refused          or: dropped, untouched
//! apply more.yaml                              another section of this file
//! delete Service default/web
//! settings masquerade-all detector=none         of the agent from here on, in place of the usual ones
//! ```
//!
//! Settings: `masquerade-all`; `detector=` `none`, `cluster:NETWORK,…`, `bridge:NAME` or
//! `prefix:NAME` (the usual one is the Node's podCIDRs); `addresses=ADDRESS,…` that the machine has besides
//! the Node's; `nodeport-addresses=NETWORK,…`. The interface of pod 10.244.1.9 is `pod1-9`, that of
//! fd00:10:244:1::9 is `pod1-9v6`, all others' are `eth0`.
//!
//! An endpoint with `*` must see the node's address instead of the client's (masquerade).
//!
//! `=> one 10.244.1.2:8080 10.244.2.2:8080` is session affinity: one of them, each time the same.
//! `=> same …` is the one that this client's last `one` or `same` met. Which one it is, only the real
//! kernel can tell; elsewhere these are the possible ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use model::Protocol;

/// One story file.
pub(crate) struct Story {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    sections: BTreeMap<String, String>,
}

/// One line of `steps`, with its number for messages.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Node(String),
    Apply(String),
    Delete {
        kind: String,
        namespace: String,
        name: String,
    },
    Settings(Vec<String>),
    Packet {
        from: Origin,
        to: SocketAddr,
        protocol: Protocol,
        expected: Expected,
        affinity: Affinity,
    },
}

/// What connections one after the other have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// Nothing: in the end every endpoint is met.
    None,
    /// The endpoint.
    One,
    /// The endpoint, with those of the step before.
    Same,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A host outside the cluster; `None` is the usual one.
    Client(Option<IpAddr>),
    /// A pod of this node.
    Pod(IpAddr),
    /// A pod of another node.
    RemotePod(IpAddr),
    /// A process of this node.
    Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Endpoints, and those of them that see the node's address.
    Delivered {
        to: BTreeSet<SocketAddr>,
        masqueraded: BTreeSet<SocketAddr>,
    },
    Refused,
    Dropped,
    Untouched,
}

impl Story {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let mut sections = BTreeMap::new();
        let mut current = String::new();
        let mut first_line = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if let Some(title) = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"))
            {
                current = title.to_owned();
                first_line.insert(current.clone(), index + 2);
                sections.insert(current.clone(), String::new());
            } else if let Some(section) = sections.get_mut(&current) {
                *section += line;
                section.push('\n');
            }
        }
        let lines = sections.get("steps").unwrap_or_else(|| panic!("{name}: no steps"));
        let steps = lines.lines().enumerate().filter_map(|(index, text)| {
            let line = first_line["steps"] + index;
            let text = text.split('#').next().unwrap_or_default().trim();
            (!text.is_empty()).then(|| Step {
                line,
                action: parse(text).unwrap_or_else(|why| panic!("{name}:{line}: {why}: {text}")),
            })
        });
        let steps = steps.collect();
        Self { name, steps, sections }
    }

    /// The manifests of a section.
    pub(crate) fn section(&self, title: &str) -> Vec<serde_json::Value> {
        let text = self.sections.get(title).unwrap_or_else(|| panic!("{}: no {title}", self.name));
        serde_saphyr::from_multiple(text)
            .unwrap_or_else(|error| panic!("{}: {title}: {error}", self.name))
    }

    /// The manifests of all sections.
    pub(crate) fn objects(&self) -> Vec<serde_json::Value> {
        let titles = self.sections.keys().filter(|title| title.ends_with(".yaml"));
        titles.flat_map(|title| self.section(title)).collect()
    }

    /// How a failure names its place.
    pub(crate) fn place(&self, step: &Step) -> String {
        format!("stories/{}.txtar:{}", self.name, step.line)
    }
}

impl Origin {
    /// The source address of a packet to an address of the same family as `to`.
    pub(crate) fn address(&self, to: IpAddr, node: IpAddr) -> IpAddr {
        match self {
            Self::Client(Some(address)) | Self::Pod(address) | Self::RemotePod(address) => *address,
            Self::Client(None) if to.is_ipv4() => "172.30.0.250".parse().unwrap(),
            Self::Client(None) => "fd00:30::250".parse().unwrap(),
            Self::Node => node,
        }
    }
}

fn parse(text: &str) -> Result<Action, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["node", name] => Ok(Action::Node((*name).to_owned())),
        ["settings", words @ ..] => {
            Ok(Action::Settings(words.iter().map(|&word| word.to_owned()).collect()))
        }
        ["apply", section] => Ok(Action::Apply((*section).to_owned())),
        ["delete", kind, name] => {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            Ok(Action::Delete {
                kind: (*kind).to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => packet(text),
    }
}

fn packet(text: &str) -> Result<Action, String> {
    let (from, rest) = text.split_once(" -> ").ok_or("want a step")?;
    let (to, expected) = rest.split_once(" => ").ok_or("want => and what happens")?;
    let (to, protocol) = to.trim().split_once('/').ok_or("want /TCP, /UDP or /SCTP")?;
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return Err("want /TCP, /UDP or /SCTP".to_owned()),
    };
    let to = to.parse().map_err(|_| "the destination is not ADDRESS:PORT")?;
    let (affinity, expected) = match expected.trim().split_once(' ') {
        Some(("one", endpoints)) => (Affinity::One, endpoints),
        Some(("same", endpoints)) => (Affinity::Same, endpoints),
        _ => (Affinity::None, expected),
    };
    let expected = outcome(expected)?;
    Ok(Action::Packet { from: origin(from)?, to, protocol, expected, affinity })
}

fn origin(text: &str) -> Result<Origin, String> {
    let address = |text: &str| text.parse().map_err(|_| format!("{text} is not an address"));
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["client"] => Ok(Origin::Client(None)),
        ["client", from] => Ok(Origin::Client(Some(address(from)?))),
        ["pod", from] => Ok(Origin::Pod(address(from)?)),
        ["remote-pod", from] => Ok(Origin::RemotePod(address(from)?)),
        ["node"] => Ok(Origin::Node),
        _ => Err("want client, pod, remote-pod or node".to_owned()),
    }
}

fn outcome(text: &str) -> Result<Expected, String> {
    match text.trim() {
        "refused" => return Ok(Expected::Refused),
        "dropped" => return Ok(Expected::Dropped),
        "untouched" => return Ok(Expected::Untouched),
        _ => {}
    }
    let mut to = BTreeSet::new();
    let mut masqueraded = BTreeSet::new();
    for word in text.split_whitespace() {
        let plain = word.trim_end_matches('*');
        let address = plain.parse().map_err(|_| format!("{plain} is not ADDRESS:PORT"))?;
        to.insert(address);
        if word.ends_with('*') {
            masqueraded.insert(address);
        }
    }
    Ok(Expected::Delivered { to, masqueraded })
}
