//! Random changes in the real kernel, while clients hold connections open and make new ones.
//!
//! ```text
//!  Steps ─▶ agent (plan, nft) ─▶ kernel, which refuses every fifth transaction
//!              │                    ▲        ▲
//!              └─ told to Board     │        └─ connections from before, proven by an echo
//!                   ▲               └─ new connections, all the time, from everywhere
//!                   └───────────────── each legal by what was or is to become
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{Change, Cluster, NodeContext, Object, Outcome, Packet, Protocol};
use nft::{Dataplane, Kernel, Settings};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

use super::board::{Board, Probe, Probers};
use super::knock::Established;
use super::node::{may_return, node, world};
use super::random::{aim, compare};
use super::topology::Topology;
use crate::arbitrary;
use crate::changes::{Step, Told, steps};
use crate::in_fake::Flaky;
use crate::in_model::{World, simplify};
use crate::packets::{Shot, Tally, frontends, shot};
use crate::runs::run;
use crate::story::{Expected, Origin};

#[test]
fn connections_live_through_random_changes_in_the_kernel() {
    let inside =
        "in_kernel::changes::connections_live_through_random_changes_inside_the_namespaces";
    if let Err(reason) = super::enter(inside) {
        testkit::skip("random changes in the kernel", &reason);
    }
}

/// Each some ten steps.
const CASES: u32 = 6;
/// Connections that are kept open at a time, and how many of them there have to be at first.
const OPEN: std::ops::RangeInclusive<usize> = 16..=48;
/// Packets that are tried after each step; all are in the end.
const FEW: usize = 8;
/// Who connects.
const ORIGINS: [(&str, bool); 8] = [
    ("172.30.0.250", false),
    ("fd00:30::250", false),
    ("10.244.1.2", false),
    ("fd00:10:244:1::2", false),
    ("10.244.2.2", false),
    ("fd00:10:244:2::2", false),
    ("172.30.0.11", true),
    ("fd00:30::11", true),
];

/// A life of an agent.
#[derive(Clone, Debug)]
struct Life {
    objects: Vec<Object>,
    steps: Vec<Step>,
    shots: Vec<Shot>,
    seed: u64,
}

/// What happened in all lives.
#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    echoes: usize,
    resets: usize,
    killed: usize,
    refused: usize,
    tried: usize,
    /// While tables changed.
    tried_meanwhile: usize,
}

#[test]
#[ignore = "connections_live_through_random_changes_in_the_kernel runs it as root of namespaces"]
fn connections_live_through_random_changes_inside_the_namespaces() {
    let seen = RefCell::new(Seen::default());
    let config = Config { max_shrink_iters: 20, ..Config::default() };
    run("connections_live_through_random_changes", CASES, config, &life(), |life| {
        let wrong = live(&life, &mut seen.borrow_mut());
        prop_assert_eq!(wrong, Vec::<String>::new());
        Ok(())
    });
    let seen = seen.into_inner();
    eprintln!("{seen:?}");
    let cases = usize::try_from(CASES).unwrap();
    assert!(seen.connections >= OPEN.start() * cases, "{seen:?}");
    assert!(seen.killed > 0 && seen.refused > 0 && seen.resets >= cases, "{seen:?}");
    assert!(seen.tried > 1000 && seen.tried_meanwhile > 100, "{seen:?}");
}

fn life() -> impl Strategy<Value = Life> {
    let nodes = (any::<Index>(), select(vec!["zone-a", "zone-b"]), select(vec![1, 2]));
    let parts = (arbitrary::served_objects(), steps(8..14), vec(nodes, 0..3), vec(shot(), 40));
    (parts, any::<u64>()).prop_map(|((objects, mut steps, nodes, shots), seed)| {
        for (at, zone, addresses) in nodes {
            let addresses = &["172.30.0.11", "fd00:30::11"][..addresses];
            let at = at.index(steps.len());
            steps[at].changes.push(Change::Apply(node(zone, addresses)));
        }
        // Of the Service that asks for resets, some endpoints go at once.
        let gone = arbitrary::slice_of_one_endpoint(1);
        steps[0].changes.push(Change::Apply(Object::EndpointSlice(Arc::new(gone))));
        Life { objects, steps, shots, seed }
    })
}

/// Goes through a life; one line for each thing that is not as it has to be.
fn live(life: &Life, seen: &mut Seen) -> Vec<String> {
    let worlds = worlds(life);
    let probes = probes(&worlds);
    let topology = topology(life, &worlds, &probes);
    let mut agent = Agent::start(&topology, &worlds[0], life.seed);
    let mut open = Vec::new();
    connect(&topology, &agent.world, &mut open);
    assert!(open.len() >= *OPEN.start(), "only {} connections", open.len());
    seen.connections += open.len();

    let board = Arc::new(Board::new(agent.world.clone()));
    let probers = Probers::start(&topology, probes, &board);
    let mut wrong = Vec::new();
    for (at, step) in life.steps.iter().enumerate() {
        agent.take(step, &topology, &board);
        seen.killed += usize::from(step.killed);
        let found = check(&agent.world, &mut open, seen);
        let mut packets = aim(&agent.world, &life.shots[..FEW]);
        packets.retain(|(_, packet)| is_quick(&agent.world, packet));
        let fared = compare(&topology, &agent.world, &packets, &mut Tally::default());
        let found = found.into_iter().chain(fared);
        wrong.extend(found.map(|why| format!("after step {at}: {why}")));
        let before = open.len();
        connect(&topology, &agent.world, &mut open);
        seen.connections += open.len() - before;
    }
    let tried = probers.stop();
    seen.tried += tried.all;
    seen.tried_meanwhile += tried.meanwhile;
    seen.refused += agent.dataplane.netfilter().refused;
    wrong.extend(tried.wrong);
    let packets = aim(&agent.world, &life.shots);
    wrong.extend(compare(&topology, &agent.world, &packets, &mut Tally::default()));
    wrong
}

/// The cluster at first, and after each step.
fn worlds(life: &Life) -> Vec<World> {
    let mut world = world(&life.objects);
    let mut told = Told::new(world.cluster.clone(), &world.context());
    let mut worlds = vec![world.clone()];
    for step in &life.steps {
        told.take(step, context);
        world.cluster = told.cluster.clone();
        worlds.push(world.clone());
    }
    worlds
}

/// Everything that the life will need.
fn topology(life: &Life, worlds: &[World], probes: &[Probe]) -> Topology {
    let later = life.steps.iter().flat_map(|step| &step.changes);
    let later = later.filter_map(|change| match change {
        Change::Apply(object) => Some(object),
        _ => None,
    });
    let objects = life.objects.iter().chain(later).cloned();
    let mut named: BTreeSet<(Origin, SocketAddr, Protocol)> = BTreeSet::new();
    for world in worlds {
        let aimed = aim(world, &life.shots);
        named.extend(aimed.into_iter().map(|(from, to)| (from, to.destination, to.protocol)));
    }
    named.extend(probes.iter().map(|probe| (probe.from.clone(), probe.to, Protocol::Tcp)));
    Topology::around(&worlds[0], objects, named.into_iter())
}

/// Everybody to every TCP frontend that there ever is.
fn probes(worlds: &[World]) -> Vec<Probe> {
    let destinations: BTreeSet<SocketAddr> = worlds.iter().flat_map(destinations).collect();
    let probes = destinations
        .into_iter()
        .flat_map(|to| origins(&worlds[0], to.ip()).map(move |from| Probe { from, to }));
    probes.collect()
}

fn destinations(world: &World) -> Vec<SocketAddr> {
    let frontends = frontends(&world.cluster, world.context().node_addresses);
    let tcp = frontends.into_iter().filter(|(_, protocol)| *protocol == Protocol::Tcp);
    tcp.map(|(to, _)| to).collect()
}

fn origins(world: &World, to: IpAddr) -> impl Iterator<Item = Origin> {
    let own = world.cluster.nodes["node1"].pod_cidrs.clone();
    let origins = ORIGINS.map(|(address, is_node)| (arbitrary::ip(address), is_node));
    let same_family = move |(address, _): &(IpAddr, bool)| address.is_ipv4() == to.is_ipv4();
    origins.into_iter().filter(same_family).map(move |(address, is_node)| {
        if is_node {
            Origin::Node
        } else if own.iter().any(|network| network.contains(&address)) {
            Origin::Pod(address)
        } else if address.to_string().contains("10:244:") || address.to_string().contains("10.244.")
        {
            Origin::RemotePod(address)
        } else {
            Origin::Client(Some(address))
        }
    })
}

fn context(cluster: &Cluster) -> NodeContext {
    World::of(cluster.clone()).context()
}

/// The agent and its kernel.
struct Agent {
    told: Told,
    /// The same cluster.
    world: World,
    dataplane: Dataplane<Flaky<Kernel>>,
    seed: u64,
}

impl Agent {
    fn start(topology: &Topology, world: &World, seed: u64) -> Self {
        let told = Told::new(world.cluster.clone(), &world.context());
        let dataplane = dataplane(topology, seed, 0);
        let mut agent = Self { told, world: world.clone(), dataplane, seed };
        agent.sync();
        agent
    }

    fn take(&mut self, step: &Step, topology: &Topology, board: &Board) {
        self.told.take(step, context);
        self.world.cluster = self.told.cluster.clone();
        board.announce(self.world.clone());
        if step.killed {
            self.seed = self.seed.wrapping_add(1);
            let refused = self.dataplane.netfilter().refused;
            self.dataplane = dataplane(topology, self.seed, refused);
        }
        self.sync();
        board.settle();
    }

    /// As the agent does: a failed sync is repeated.
    fn sync(&mut self) {
        let changed = self.told.changed();
        if self.dataplane.sync_services(self.told.view(), changed).is_ok() {
            return;
        }
        let done = (0..20).any(|_| self.dataplane.sync(self.told.view()).is_ok());
        assert!(done, "twenty refusals in a row");
    }
}

fn dataplane(topology: &Topology, seed: u64, refused: usize) -> Dataplane<Flaky<Kernel>> {
    let kernel = topology.node.run(|| Kernel::open().unwrap());
    let mut flaky = Flaky::new(kernel, 5, seed);
    flaky.refused = refused;
    Dataplane::new(flaky, Settings::default())
}

/// An open connection.
struct Open {
    /// The first packet.
    packet: Packet,
    connection: Established,
}

/// Opens connections to what `verdict` says is delivered, up to the limit.
fn connect(topology: &Topology, world: &World, open: &mut Vec<Open>) {
    let context = world.context();
    let pairs = destinations(world)
        .into_iter()
        .flat_map(|to| origins(world, to.ip()).map(move |from| (from, to)));
    let mut pairs: Vec<(Origin, SocketAddr)> = pairs.collect();
    // Some of everything, also when there is more than the limit.
    pairs.sort_by_key(|(from, to)| (to.port(), to.ip().is_ipv4(), from.clone()));
    let wanted = OPEN.end().saturating_sub(open.len());
    let stride = (pairs.len() / wanted.max(1)).max(1);
    for (from, to) in pairs.into_iter().step_by(stride) {
        let packet = world.packet(&context, &from, to, Protocol::Tcp);
        let expected = simplify(&verdict::judge(&world.cluster, &context, &packet).outcome);
        if !matches!(expected, Expected::Delivered { .. }) || may_return(&from, &expected) {
            continue;
        }
        let (namespace, source) = topology.origin(&from, to);
        let connection = namespace.run(move || Established::open(source, to));
        let connection = connection.unwrap_or_else(|error| panic!("{packet:?}: {error}"));
        open.push(Open { packet, connection });
    }
}

/// Every connection from before is alive, unless its Service asks for its reset: then it is gone (D35).
fn check(world: &World, open: &mut Vec<Open>, seen: &mut Seen) -> Vec<String> {
    let context = world.context();
    let mut wrong = Vec::new();
    open.retain_mut(|Open { packet, connection }| {
        let server = connection.server;
        let reset = verdict::is_reset(&world.cluster, &context, packet, server);
        let echoed = connection.echo();
        match &echoed {
            Ok(()) if !reset => seen.echoes += 1,
            Err(error) if reset && error.kind() == std::io::ErrorKind::ConnectionReset => {
                seen.resets += 1;
            }
            _ => wrong.push(format!("{packet:?} to {server}: {echoed:?}, to be reset: {reset}")),
        }
        echoed.is_ok()
    });
    wrong
}

/// Whether its fate shows at once; silence takes its time.
fn is_quick(world: &World, packet: &Packet) -> bool {
    let judged = verdict::judge(&world.cluster, &world.context(), packet);
    matches!(judged.outcome, Outcome::Delivered { .. } | Outcome::Rejected)
}
