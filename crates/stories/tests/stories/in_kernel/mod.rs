//! Depth 3: the plan in the real kernel, and real packets.
//!
//! ```text
//!  clients ── 172.30.0.11 node ─┬─ one namespace per pod of the node
//!  elsewhere (default route) ───┤
//!  pods of other nodes ─────────┘
//! ```
//! A server stands on every endpoint and, as a decoy, on every other address that a story knocks
//! at: a packet that leaks past the rules is answered by the wrong one instead of looking refused.

mod board;
mod changes;
mod knock;
mod node;
mod random;
mod serve;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use nft::{Dataplane, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::knock::{Answer, knock};
use self::topology::Topology;
use crate::in_model::World;
use crate::story::{Action, Affinity, Expected, Origin, Story};
use model::Protocol;

/// How a process gets namespaces of its own: as anybody, or as root where users may not.
const WAYS: [&[&str]; 2] = [&["--user", "--map-root-user", "--net"], &["--net"]];

/// Runs an ignored test of this program as root of new namespaces; the reason if there is no way.
pub(crate) fn enter(inside: &str) -> Result<(), String> {
    if testkit::program("ip").is_none() {
        return Err("the program ip (iproute2) is missing".to_owned());
    }
    let unshare = testkit::program("unshare").ok_or("the program unshare is missing")?;
    let works = |way: &&&[&str]| {
        let output = Command::new(&unshare).args(**way).arg("true").output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(way) = WAYS.iter().find(works) else {
        let reason = testkit::no_namespaces();
        return Err(reason.unwrap_or_else(|| "unshare does not work".to_owned()));
    };
    // Many servers and clients in one process are more than the usual soft limit allows.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let program = std::env::current_exe().unwrap();
    let status = Command::new(&unshare)
        .args(*way)
        .arg(program)
        .args([inside, "--exact", "--ignored", "--nocapture"])
        .status()
        .unwrap();
    assert!(status.success(), "{inside} failed in the kernel, see above");
    Ok(())
}

/// Runs all stories, a few at a time: they mostly wait.
pub(crate) fn run_all(stories: &[Story]) -> Vec<String> {
    let (next, failures) = (Mutex::new(stories.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(story) = { next.lock().unwrap().next() } {
                    let found = run(story);
                    failures.lock().unwrap().extend(found);
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// Runs a story; one line for each thing that is not as told.
fn run(story: &Story) -> Vec<String> {
    let mut world = World::new(story);
    let mut stage = None;
    let mut failures = Vec::new();
    for step in &story.steps {
        let changed = world.take(story, &step.action);
        if let Action::Node(_) | Action::Settings(_) = &step.action {
            stage = None;
        } else if changed && let Some(stage) = &mut stage {
            Stage::sync(stage, &world);
        }
        let Action::Packet { from, to, protocol, expected, affinity } = &step.action else {
            continue;
        };
        if *protocol == Protocol::Sctp && !knock::has_sctp() {
            testkit::skip(&story.place(step), "this kernel has no SCTP sockets");
            continue;
        }
        let stage = stage.get_or_insert_with(|| Stage::set(story, &world));
        let told = stage.ask(from, *to, *protocol, expected, *affinity);
        failures.extend(told.err().map(|why| format!("{}: {why}", story.place(step))));
    }
    failures
}

/// The namespaces of a story, and the node's kernel.
struct Stage {
    topology: Topology,
    dataplane: Dataplane,
    /// Which endpoint clients have met last, of those that session affinity keeps to one.
    met: BTreeMap<Origin, SocketAddr>,
}

/// Connections per endpoint that must have gone to expected endpoints only.
const ENOUGH: usize = 6;
/// Connections per endpoint after which each should have been met: one of eight stays unseen
/// with a probability of 1e-17.
const LIMIT: usize = 40;
/// Silence that counts as dropped.
const SILENCE: Duration = Duration::from_millis(700);
/// TCP asks again after a second: a refusal that comes later did not come at once.
const AT_ONCE: Duration = Duration::from_millis(950);

impl Stage {
    fn set(story: &Story, world: &World) -> Self {
        Self::on(Topology::of(story, world), world)
    }

    fn on(topology: Topology, world: &World) -> Self {
        let dataplane = topology.node.run(|| Dataplane::open(Settings::default()).unwrap());
        let mut stage = Self { topology, dataplane, met: BTreeMap::new() };
        stage.sync(world);
        stage
    }

    fn sync(&mut self, world: &World) {
        let view = plan::node_view(&world.cluster, &world.context());
        self.dataplane.sync(&view).unwrap();
    }

    /// Knocks until it is clear whether a step is as told.
    fn ask(
        &mut self,
        from: &Origin,
        to: SocketAddr,
        protocol: Protocol,
        expected: &Expected,
        affinity: Affinity,
    ) -> Result<(), String> {
        let Expected::Delivered { to: endpoints, masqueraded } = expected else {
            return self.topology.ask(from, to, protocol, expected);
        };
        if affinity == Affinity::None {
            return self.topology.ask(from, to, protocol, expected);
        }
        let last = self.met.get(from).copied().filter(|_| affinity == Affinity::Same);
        let one: BTreeSet<SocketAddr> = last.map_or_else(|| endpoints.clone(), |one| [one].into());
        let (server, client) = self.topology.ask_sticky(from, to, protocol, &one)?;
        self.met.insert(from.clone(), server);
        let (_, source) = self.topology.origin(from, to);
        self.topology.check_source(client, source, masqueraded.contains(&server))
    }
}

impl Topology {
    /// Knocks a few times at a Service port with session affinity: one of the expected endpoints
    /// answers, always the same, and sees the same client.
    fn ask_sticky(
        &self,
        from: &Origin,
        to: SocketAddr,
        protocol: Protocol,
        endpoints: &BTreeSet<SocketAddr>,
    ) -> Result<(SocketAddr, IpAddr), String> {
        let (namespace, source) = self.origin(from, to);
        let mut seen = BTreeSet::new();
        for _ in 0..ENOUGH {
            let knock = move || knock(protocol, source, to, knock::PATIENCE);
            match namespace.run(move || std::thread::spawn(knock)).join().unwrap() {
                Answer::From { server, client } => seen.insert((server, client)),
                other => return Err(format!("{other:?}")),
            };
        }
        let first = seen.first().copied().filter(|(server, _)| endpoints.contains(server));
        let only = first.filter(|_| seen.len() == 1);
        only.ok_or_else(|| format!("{seen:?} answered in spite of affinity, not {endpoints:?}"))
    }

    /// Knocks until it is clear whether a step is as told.
    fn ask(
        &self,
        from: &Origin,
        to: SocketAddr,
        protocol: Protocol,
        expected: &Expected,
    ) -> Result<(), String> {
        let (namespace, source) = self.origin(from, to);
        // On a thread of its own: others knock from the same namespace at the same time.
        let once = |patience| {
            let knock = move || knock(protocol, source, to, patience);
            namespace.run(move || std::thread::spawn(knock)).join().unwrap()
        };
        match expected {
            Expected::Dropped => match once(SILENCE) {
                Answer::Silence => Ok(()),
                other => Err(format!("{other:?}, not silence")),
            },
            Expected::Refused => match once(AT_ONCE) {
                Answer::Refused => Ok(()),
                other => Err(format!("{other:?}, not refused at once")),
            },
            Expected::Untouched => self.untouched(once(knock::PATIENCE), source, to),
            Expected::Delivered { to: endpoints, masqueraded } => {
                let mut seen = BTreeSet::new();
                for count in 1..=LIMIT * (endpoints.len() + 1) {
                    let answer = once(knock::PATIENCE);
                    let Answer::From { server, client } = answer else {
                        return Err(format!("connection {count}: {answer:?}"));
                    };
                    if !endpoints.contains(&server) {
                        return Err(format!("{server} answered"));
                    }
                    self.check_source(client, source, masqueraded.contains(&server))
                        .map_err(|why| format!("{server} {why}"))?;
                    seen.insert(server);
                    if seen == *endpoints && count >= ENOUGH * endpoints.len() {
                        return Ok(());
                    }
                }
                Err(format!("only {seen:?} answered"))
            }
        }
    }

    /// Untouched packets reach whoever has the address, with their own source.
    fn untouched(
        &self,
        answer: Answer,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<(), String> {
        match answer {
            Answer::From { server, client } if server == to => {
                self.check_source(client, source, false)
            }
            other => Err(format!("{other:?}, not the address itself")),
        }
    }

    fn check_source(
        &self,
        client: IpAddr,
        source: Option<IpAddr>,
        masqueraded: bool,
    ) -> Result<(), String> {
        let node = self.node_addresses.contains(&client);
        let right = if masqueraded || source.is_none() { node } else { source == Some(client) };
        let expected = if masqueraded { "the node" } else { "the client itself" };
        if right { Ok(()) } else { Err(format!("saw {client}, not {expected}")) }
    }
}
