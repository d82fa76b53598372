//! The machine that knows which announcing nodes are alive.
//!
//! Each node multicasts a heartbeat. A starting node first listens for one timeout, so
//! that it does not believe itself alone; it may stop listening early when every node
//! that it expects has been heard. Only nodes that have finished listening may own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::NodeName;

/// Intervals of the heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between two heartbeats of one node.
    pub interval: Duration,
    /// A node unheard for this long is dead. More than three intervals, so that single
    /// losses do not move addresses.
    pub timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), timeout: Duration::from_millis(500) }
    }
}

/// The nodes that may own addresses now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Alive {
    /// Living nodes that have finished listening, this one included when it has.
    pub nodes: BTreeSet<NodeName>,
    /// Whether this node has finished listening. Before that it must own nothing.
    pub settled: bool,
    /// How often this node has joined anew. What was decided for another time does not count.
    pub epoch: u64,
}

/// What one node tells the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender's Node name.
    pub node: NodeName,
    /// What it is doing.
    pub state: State,
}

/// State of a sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Listening, must not own yet.
    Joining,
    /// May own addresses.
    Ready,
    /// Going away in an orderly manner: others take over at once.
    Leaving,
}

/// First bytes of every heartbeat: name and version of the format.
const MAGIC: &[u8; 5] = b"PTLN\x01";

impl Heartbeat {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            State::Joining => 0,
            State::Ready => 1,
            State::Leaving => 2,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(state);
        bytes.extend(self.node.as_bytes());
        bytes
    }

    /// Reads a datagram. `None` for anything else, also for other versions.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (state, name) = bytes.strip_prefix(MAGIC)?.split_first()?;
        let state = match state {
            0 => State::Joining,
            1 => State::Ready,
            2 => State::Leaving,
            _ => return None,
        };
        // A Node name is a DNS subdomain: at most 253 bytes (RFC 1123).
        let name = std::str::from_utf8(name).ok().filter(|name| (1..=253).contains(&name.len()))?;
        Some(Self { node: name.into(), state })
    }
}

/// Who is alive, as far as this node has heard.
#[derive(Debug)]
pub struct Membership {
    me: NodeName,
    timing: Timing,
    phase: Phase,
    epoch: u64,
    expected: BTreeSet<NodeName>,
    next_beat: Duration,
    heard: BTreeMap<NodeName, (Duration, State)>,
}

/// This node's own way into the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Hears the others, owns nothing.
    Listening { until: Duration },
    /// Tells the others that it is ready; they let go of what is going to be ours.
    Entering { until: Duration },
    /// May own addresses.
    Member,
}

impl Membership {
    /// Starts listening.
    pub fn new(me: NodeName, timing: Timing, now: Duration) -> Self {
        Self {
            me,
            timing,
            phase: Phase::Listening { until: now + timing.timeout },
            epoch: 0,
            expected: BTreeSet::new(),
            next_beat: now,
            heard: BTreeMap::new(),
        }
    }

    /// Names the nodes that exist; hearing all of them ends the listening early.
    pub fn expect(&mut self, nodes: BTreeSet<NodeName>, now: Duration) {
        self.expected = nodes;
        self.advance(now);
    }

    /// Takes a received datagram.
    pub fn receive(&mut self, datagram: &[u8], now: Duration) {
        let Some(beat) = Heartbeat::decode(datagram) else { return };
        if beat.node == self.me {
            return;
        }
        match beat.state {
            State::Leaving => drop(self.heard.remove(&beat.node)),
            state => drop(self.heard.insert(beat.node, (now, state))),
        }
        self.advance(now);
    }

    /// Starts anew when this node has been silent for so long that the others take it for dead: its
    /// process was held up. Whether that is so; nothing may be answered then before the others
    /// have been heard again.
    pub fn oversleep(&mut self, now: Duration) -> bool {
        let dead = self.next_beat + self.timing.timeout.saturating_sub(self.timing.interval);
        let is_late = now >= dead;
        if is_late {
            self.heard.clear();
            self.epoch += 1;
            self.phase = Phase::Listening { until: now + self.timing.timeout };
            self.next_beat = now;
        }
        is_late
    }

    /// The heartbeat that is due, if any.
    pub fn tick(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.heard.retain(|_, (last, _)| now.saturating_sub(*last) < self.timing.timeout);
        self.advance(now);
        if now < self.next_beat {
            return None;
        }
        self.next_beat = now + self.timing.interval;
        let state = match self.phase {
            Phase::Listening { .. } => State::Joining,
            Phase::Entering { .. } | Phase::Member => State::Ready,
        };
        Some(Heartbeat { node: self.me.clone(), state }.encode())
    }

    /// The datagram that tells the others of an orderly end.
    pub fn farewell(&self) -> Vec<u8> {
        Heartbeat { node: self.me.clone(), state: State::Leaving }.encode()
    }

    /// When [`Self::tick`] has something to do next: a heartbeat, a death, a change of phase.
    pub fn next_tick(&self) -> Duration {
        let deaths = self.heard.values().map(|(last, _)| *last + self.timing.timeout);
        let phase = match self.phase {
            Phase::Listening { until } | Phase::Entering { until } => Some(until),
            Phase::Member => None,
        };
        deaths.chain(phase).fold(self.next_beat, Duration::min)
    }

    /// Who may own addresses now.
    pub fn alive(&self) -> Alive {
        let mut nodes: BTreeSet<NodeName> = self.ready().cloned().collect();
        let settled = self.phase == Phase::Member;
        if settled {
            nodes.insert(self.me.clone());
        }
        Alive { nodes, settled, epoch: self.epoch }
    }

    fn ready(&self) -> impl Iterator<Item = &NodeName> {
        let ready = |(_, (_, state)): &(_, &(Duration, State))| *state == State::Ready;
        self.heard.iter().filter(ready).map(|(node, _)| node)
    }

    fn advance(&mut self, now: Duration) {
        if let Phase::Listening { until } = self.phase {
            let others = self.expected.iter().filter(|node| **node != self.me);
            let all_heard = !self.expected.is_empty()
                && others.into_iter().all(|node| self.heard.contains_key(node));
            if now >= until || all_heard {
                self.next_beat = now;
                // Nobody to take over from: no need to wait for anybody to let go.
                let wait = if self.ready().next().is_some() {
                    self.timing.interval
                } else {
                    Duration::ZERO
                };
                self.phase = Phase::Entering { until: now + wait };
            }
        }
        if let Phase::Entering { until } = self.phase
            && now >= until
        {
            self.phase = Phase::Member;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing =
        Timing { interval: Duration::from_millis(100), timeout: Duration::from_millis(500) };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn beat(node: &str, state: State) -> Vec<u8> {
        Heartbeat { node: node.into(), state }.encode()
    }

    fn member(me: &str) -> Membership {
        let mut membership = Membership::new(me.into(), TIMING, ms(0));
        membership.tick(ms(500));
        assert!(membership.alive().settled);
        membership
    }

    #[test]
    fn a_lone_node_listens_for_one_timeout_before_it_owns() {
        let mut membership = Membership::new("node1".into(), TIMING, ms(0));
        membership.tick(ms(499));
        assert_eq!(membership.alive(), Alive::default());
        membership.tick(ms(500));
        assert_eq!(membership.alive().nodes, BTreeSet::from(["node1".into()]));
    }

    #[test]
    fn hearing_every_expected_node_ends_the_listening() {
        let mut membership = Membership::new("node1".into(), TIMING, ms(0));
        membership.expect(BTreeSet::from(["node1".into(), "node2".into()]), ms(1));
        assert!(!membership.alive().settled);
        membership.receive(&beat("node2", State::Joining), ms(2));
        assert!(membership.alive().settled);
    }

    #[test]
    fn a_joining_node_is_not_alive_yet() {
        let mut membership = member("node1");
        membership.receive(&beat("node2", State::Joining), ms(600));
        assert_eq!(membership.alive().nodes, BTreeSet::from(["node1".into()]));
        membership.receive(&beat("node2", State::Ready), ms(700));
        assert_eq!(membership.alive().nodes.len(), 2);
    }

    #[test]
    fn a_returning_node_waits_until_the_others_have_let_go() {
        let mut back = Membership::new("node2".into(), TIMING, ms(0));
        back.receive(&beat("node1", State::Ready), ms(450));
        let first = Heartbeat::decode(&back.tick(ms(500)).unwrap()).unwrap();
        assert_eq!(first.state, State::Ready, "the others hear of it first");
        assert!(!back.alive().settled);
        back.tick(ms(600));
        assert!(back.alive().settled);
    }

    #[test]
    fn a_silent_node_dies_and_the_timer_says_when() {
        let mut membership = member("node1");
        membership.receive(&beat("node2", State::Ready), ms(600));
        let mut now = ms(600);
        while membership.alive().nodes.len() == 2 {
            now = membership.next_tick();
            membership.tick(now);
        }
        assert_eq!(now, ms(1100));
    }

    #[test]
    fn a_node_that_was_held_up_joins_anew() {
        let mut membership = member("node1");
        membership.tick(ms(600));
        assert!(!membership.oversleep(ms(1099)), "the others still believe in it");
        assert!(membership.alive().settled);
        assert!(membership.oversleep(ms(1100)));
        assert_eq!(membership.alive(), Alive { epoch: 1, ..Alive::default() });
        membership.tick(ms(1600));
        assert!(membership.alive().settled);
    }

    #[test]
    fn a_leaving_node_is_gone_at_once() {
        let mut membership = member("node1");
        membership.receive(&beat("node2", State::Ready), ms(600));
        let farewell = member("node2").farewell();
        membership.receive(&farewell, ms(601));
        assert_eq!(membership.alive().nodes.len(), 1);
    }

    #[test]
    fn foreign_datagrams_are_ignored() {
        let mut membership = member("node1");
        for datagram in [&b""[..], b"PTLN", b"PTLN\x01\x01", b"PTLN\x02\x01node2", b"PTLN\x01\x07n"]
        {
            membership.receive(datagram, ms(600));
        }
        assert_eq!(membership.alive().nodes.len(), 1);
    }
}
