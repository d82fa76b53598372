//! Clients that connect all the time, while the agent works.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Protocol;

use super::knock::{Answer, PATIENCE, knock};
use super::node::may_return;
use super::topology::Topology;
use crate::in_model::{World, simplify};
use crate::story::{Expected, Origin};

/// What the cluster was and is, and from which on the kernel may act.
pub(super) struct Board(RwLock<Known>);

struct Known {
    worlds: Vec<Arc<World>>,
    /// The last one that the kernel surely has.
    settled: usize,
}

impl Board {
    pub(super) fn new(world: World) -> Self {
        Self(RwLock::new(Known { worlds: vec![Arc::new(world)], settled: 0 }))
    }

    /// Before the kernel is told.
    pub(super) fn announce(&self, world: World) {
        self.0.write().unwrap().worlds.push(Arc::new(world));
    }

    /// After the kernel was told.
    pub(super) fn settle(&self) {
        let mut known = self.0.write().unwrap();
        known.settled = known.worlds.len() - 1;
    }

    fn settled(&self) -> usize {
        self.0.read().unwrap().settled
    }

    /// All that may hold, or have held, since then.
    fn since(&self, settled: usize) -> Vec<Arc<World>> {
        self.0.read().unwrap().worlds[settled..].to_vec()
    }
}

/// Somebody who connects somewhere over TCP.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) from: Origin,
    pub(super) to: SocketAddr,
}

/// What the clients have met.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) all: usize,
    /// While a change was on its way to the kernel.
    pub(super) meanwhile: usize,
    pub(super) wrong: Vec<String>,
}

/// Clients at work.
pub(super) struct Probers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tried>>,
}

/// Between two connections of a client, so that the agent gets its share of a small machine.
const PACE: Duration = Duration::from_millis(1);
/// A first packet that is lost is sent again after a second (RFC 6298): an answer that takes that long
/// was not the first one's.
const LOST: Duration = Duration::from_secs(1);

impl Probers {
    pub(super) fn start(topology: &Topology, probes: Vec<Probe>, board: &Arc<Board>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // A thread stays in the namespace where it started.
        let mut by_origin = std::collections::BTreeMap::<Origin, Vec<Probe>>::new();
        for probe in probes {
            by_origin.entry(probe.from.clone()).or_default().push(probe);
        }
        let threads = by_origin.into_values().map(|probes| {
            let (stop, board) = (Arc::clone(&stop), Arc::clone(board));
            let (namespace, _) = topology.origin(&probes[0].from, probes[0].to);
            namespace.run(move || std::thread::spawn(move || keep_trying(&probes, &board, &stop)))
        });
        Self { threads: threads.collect(), stop }
    }

    pub(super) fn stop(self) -> Tried {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tried::default();
        for thread in self.threads {
            let Tried { all, meanwhile, wrong } = thread.join().unwrap();
            sum.all += all;
            sum.meanwhile += meanwhile;
            sum.wrong.extend(wrong);
        }
        sum
    }
}

fn keep_trying(probes: &[Probe], board: &Board, stop: &AtomicBool) -> Tried {
    let mut tried = Tried::default();
    for probe in probes.iter().cycle() {
        if stop.load(Ordering::Relaxed) || tried.wrong.len() > 3 {
            break;
        }
        try_once(probe, board, &mut tried);
        std::thread::sleep(PACE);
    }
    tried
}

/// Connects if nothing that may hold now says that it takes long.
fn try_once(probe: &Probe, board: &Board, tried: &mut Tried) {
    let settled = board.settled();
    let promises = |expected: &Expected| match expected {
        Expected::Delivered { .. } => !may_return(&probe.from, expected),
        Expected::Refused => true,
        Expected::Dropped | Expected::Untouched => false,
    };
    if !board.since(settled).iter().all(|world| promises(&probe.expected(world))) {
        return;
    }
    let source = match &probe.from {
        Origin::Node => None,
        from => Some(from.address(probe.to.ip(), probe.to.ip())),
    };
    let (start, sent_again) = (Instant::now(), syn_retransmits());
    let answer = knock(Protocol::Tcp, source, probe.to, PATIENCE);
    let lost = start.elapsed() >= LOST && syn_retransmits() > sent_again;
    let worlds = board.since(settled);
    let legal: Vec<Expected> = worlds.iter().map(|world| probe.expected(world)).collect();
    tried.all += 1;
    tried.meanwhile += usize::from(legal.len() > 1);
    // Otherwise it has become something that takes long, or that is not tried.
    let promised = legal.iter().all(promises);
    let kept = legal.iter().any(|expected| match (expected, answer) {
        (Expected::Delivered { to, .. }, Answer::From { server, .. }) => to.contains(&server),
        // What the server says to a client that only waits does not reach it any more (D35).
        (
            Expected::Delivered { to, .. },
            Answer::Failed(ErrorKind::ConnectionReset) | Answer::Silence,
        ) => to.iter().any(|endpoint| worlds.iter().any(|world| probe.is_reset(world, *endpoint))),
        (Expected::Refused, Answer::Refused) => true,
        _ => false,
    });
    if promised && (lost || !kept) {
        let lost = if lost { "after its first packet was lost, " } else { "" };
        tried.wrong.push(format!("{probe:?}: {lost}{answer:?}; legal were {legal:?}"));
    }
}

impl Probe {
    fn expected(&self, world: &World) -> Expected {
        let context = world.context();
        let packet = world.packet(&context, &self.from, self.to, Protocol::Tcp);
        simplify(&verdict::judge(&world.cluster, &context, &packet).outcome)
    }

    fn is_reset(&self, world: &World, endpoint: SocketAddr) -> bool {
        let context = world.context();
        let packet = world.packet(&context, &self.from, self.to, Protocol::Tcp);
        verdict::is_reset(&world.cluster, &context, &packet, endpoint)
    }
}

/// First packets of connections that this namespace has sent again.
fn syn_retransmits() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}
