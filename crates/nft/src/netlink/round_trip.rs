//! What we write we read back equal: every rule and set of a layout that uses everything.

use model::{
    Action, Affinity, Backend, Family, Frontend, FrontendKind, LocalDetector, Masquerade,
    NodeContext, NodeView, Port, Protocol, Reason, ServiceName, ServiceView,
};

use super::batch::Batch;
use super::{Answer, Message, decode};
use crate::dataplane::Settings;
use crate::diff::{creation, diff};
use crate::layout::Layout;
use crate::ruleset::{Chain, Ruleset, Set, Unread};

#[test]
fn a_layout_is_read_as_written() {
    let detectors = [
        LocalDetector::NodeCidr(vec!["10.244.0.0/24".parse().unwrap()]),
        LocalDetector::BridgeInterface("cni0".to_owned()),
        LocalDetector::InterfacePrefix("veth".to_owned()),
    ];
    let settings = [false, true].map(|counters| Settings { counters, ..Settings::default() });
    let all = detectors.iter().flat_map(|detector| settings.each_ref().map(|one| (detector, one)));
    for (detector, settings) in all {
        let want = Layout::new(&everything(detector.clone()), settings).ruleset();
        let operations = diff(&Ruleset::new(), &want);
        assert_eq!(creation(want.clone()), operations);
        let batches = Batch::encode(&operations, 1, usize::MAX);
        let mut read = Ruleset::new();
        for message in batches.iter().flat_map(|batch| Message::split(&batch.bytes)) {
            collect(message, &mut read);
        }
        assert_eq!(read, want);
    }
}

#[test]
fn truncated_answers_are_refused_not_misread() {
    let want = Layout::new(&everything(LocalDetector::None), &Settings::default()).ruleset();
    let batches = Batch::encode(&diff(&Ruleset::new(), &want), 1, usize::MAX);
    for message in batches.iter().flat_map(|batch| Message::split(&batch.bytes)) {
        for len in 0..message.body.len() {
            // Must not panic; what it makes of half a message does not matter.
            let _ = decode(Message { body: &message.body[..len], ..message });
        }
    }
}

/// Adds what a message creates to the tables, as reading the kernel back does.
fn collect(message: Message<'_>, tables: &mut Ruleset) {
    let Some(family) = message.family() else { return };
    let table = tables.entry(family).or_default();
    match decode(message).unwrap() {
        Answer::Chain(name, chain) => {
            table.chains.insert(name, chain);
        }
        Answer::Rule(name, rule) => {
            let chain: &mut Chain = table.chains.get_mut(&name).unwrap();
            chain.rules.push(rule);
        }
        Answer::Set(name, spec, _) => {
            table
                .sets
                .insert(name, Set { spec, elements: Default::default(), unread: Unread::None });
        }
        Answer::Elements(elements) => {
            let attributes = message.attributes();
            let name = attributes.string(super::abi::NFTA_SET_ELEM_LIST_SET).unwrap();
            table
                .sets
                .get_mut(name)
                .unwrap()
                .elements
                .extend(elements.into_iter().map(|element| (element.key, element.data)));
        }
        Answer::Table(_) | Answer::NotOurs | Answer::Generation(_) => {}
    }
}

/// A view that needs every kind of rule and fills every set.
fn everything(local_detector: LocalDetector) -> NodeView {
    let frontends = ["10.96.0.1", "fd00:10:96::1"].into_iter().flat_map(|text| {
        let address: std::net::IpAddr = text.parse().unwrap();
        let endpoint = |port: u16| Backend { address: (address, port).into(), local: true };
        let one = Action::Balance([endpoint(1)].into());
        let two = Action::Balance([endpoint(1), endpoint(2)].into());
        let node_port = FrontendKind::NodePort(Family::of(address));
        let cluster_ip = FrontendKind::ClusterIp(address);
        let refusals = [Action::Reject(Reason::NoEndpoints), Action::Drop(Reason::NoEndpoints)];
        let actions =
            [(one.clone(), one.clone()), (two.clone(), one), (two.clone(), refusals[1].clone())]
                .into_iter()
                .chain(refusals.map(|action| (action.clone(), action)));
        let all: Vec<Frontend> = [cluster_ip, node_port]
            .into_iter()
            .flat_map(|kind| {
                actions.clone().map(move |(internal, external)| (kind, internal, external))
            })
            .zip(1..)
            .map(|((kind, internal, external), port)| Frontend {
                kind,
                protocol: Protocol::Udp,
                port: Port::new(port).unwrap(),
                port_name: "dns".into(),
                internal,
                external,
                lasting: Default::default(),
                resets: true,
                masquerade: [
                    Masquerade::Never,
                    Masquerade::Always,
                    Masquerade::OffCluster,
                    Masquerade::NodeOnly,
                ][usize::from(port) % 4],
                affinity: (port % 2 == 0).then_some(Affinity { timeout_seconds: 60 }),
                source_ranges: (port == 1).then(|| vec!["10.0.0.0/8".parse().unwrap()]),
            })
            .collect();
        all
    });
    let name = ServiceName::new("default", "everything");
    let service = ServiceView {
        name: name.clone(),
        cluster_ips: ["10.96.0.1", "fd00:10:96::1"].map(|text| text.parse().unwrap()).into(),
        frontends: frontends.collect(),
        health_check: None,
        report: Vec::new(),
    };
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: ["172.30.0.11", "fd00:30::11"].map(|text| text.parse().unwrap()).into(),
            local_detector,
            masquerade_all: false,
        },
        service_cidrs: ["10.96.0.0/16", "fd00:10:96::/112"]
            .map(|text| text.parse().unwrap())
            .into(),
        services: [(name, service.into())].into(),
    }
}
