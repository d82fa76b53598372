//! What happens to connections, counted per Service and endpoint.
//!
//! Elements of sets count in the kernel, made by the packets that they count
//! ([`Settings::counters`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::{Family, NodeView, ServiceName};

use crate::dataplane::Settings;
use crate::error::Error;
use crate::layout::{LEFT_OUT, Owners, Tally, of_gone};
use crate::netlink::{Answer, Request};
use crate::readback::{Asked, ask};
use crate::ruleset::{Key, Op, Traffic};
use crate::socket::Socket;

/// Sums since the tables were made. They only grow, whatever changes and also when another process
/// takes the tables over, until their Service goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// By Service; those to which nothing has happened yet are missing.
    pub services: BTreeMap<ServiceName, Counts>,
    /// What happened to Services and endpoints for which a set had no room any more.
    pub left_out: Counts,
}

/// What happened to connections to a Service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// New connections that were sent to an endpoint.
    pub connections: u64,
    /// New connections that were refused: no endpoint anywhere.
    pub refused: u64,
    /// Tries that were ignored: policy Local, and no endpoint on this node.
    pub dropped: u64,
    /// Tries that were ignored: not from one of the source ranges.
    pub forbidden: u64,
    /// Sent by clients to endpoints.
    pub to_endpoints: Traffic,
    /// Sent back.
    pub from_endpoints: Traffic,
    /// By endpoint. Without those that are gone and silent: they are still in the sums above.
    pub endpoints: BTreeMap<SocketAddr, EndpointCounts>,
}

/// The share of an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointCounts {
    /// New connections.
    pub connections: u64,
    /// Sent to it.
    pub to: Traffic,
    /// Sent by it.
    pub from: Traffic,
    /// When an element of it was last seen.
    round: u64,
}

/// Reads counters and adds up what they have counted since they were last read.
///
/// It has a socket of its own and needs no [`crate::Dataplane`] but for deletions, so that it may take
/// its time in another thread. The sets are bounded: with all of them full it takes about a tenth of a
/// second.
#[derive(Debug)]
pub struct Meter {
    socket: Socket,
    localhost_node_ports: bool,
    counters: Counters,
    /// What each element said when it was last read, and when that was.
    last: BTreeMap<Element, (Traffic, u64)>,
    /// Times that elements were read.
    round: u64,
}

/// An element of a set; no tally is [`LEFT_OUT`].
type Element = (Family, Option<Tally>, Key);

/// Elements that nobody needs any more, and those that take over what they have counted.
#[derive(Clone, Debug, Default)]
pub struct Retired {
    pub(crate) operations: Vec<Op>,
    removed: Vec<Element>,
    added: Vec<(Element, Traffic)>,
}

impl Retired {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl Meter {
    /// Of the current network namespace, which it then keeps to.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(0)?,
            localhost_node_ports: settings.localhost_node_ports,
            counters: Counters::default(),
            last: BTreeMap::new(),
            round: 0,
        })
    }

    /// The sums of the Services that were there at the last [`Self::read`].
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reads all elements. Tells which are to go ([`crate::Dataplane::retire`], then
    /// [`Self::retired`]): those of Services that are gone, and those of endpoints that are gone and
    /// silent, as connections may outlive their endpoint's place in the Service. What the latter have
    /// counted is kept in an element of their Service's, for a later process.
    ///
    /// # Errors
    /// When the kernel cannot be reached or its answer not be read.
    pub fn read(&mut self, view: &NodeView) -> Result<Retired, Error> {
        let owners = Owners::of(view, self.localhost_node_ports);
        self.round += 1;
        let mut leaving = Vec::new();
        for family in Family::ALL {
            for tally in Tally::ALL.map(Some).into_iter().chain([None]) {
                let set = tally.map_or(LEFT_OUT, Tally::set);
                for (key, traffic) in elements(&mut self.socket, family, &set)? {
                    let retired = self.add(&owners, (family, tally, key), traffic);
                    leaving.extend(retired);
                }
            }
        }
        self.forget(view);
        Ok(self.retire(leaving))
    }

    /// What [`Self::read`] returned has been deleted.
    pub fn retired(&mut self, retired: Retired) {
        for element in &retired.removed {
            self.last.remove(element);
        }
        let round = self.round;
        let added = retired.added.into_iter();
        self.last.extend(added.map(|(element, traffic)| (element, (traffic, round))));
    }

    /// Adds what an element has counted since it was last read. Returns it if it is to go, with what
    /// is to be kept of it.
    fn add(
        &mut self,
        owners: &Owners<'_>,
        element: Element,
        traffic: Traffic,
    ) -> Option<(Element, Option<Traffic>)> {
        let new = self.since_last(&element, traffic);
        let (family, tally, key) = &element;
        let Some(tally) = *tally else {
            let tally = Tally::of_number(key)?;
            self.counters.left_out.add(tally, new);
            return None;
        };
        let Some(counted) = owners.counted(*family, tally, key) else {
            return Some((element, None));
        };
        let services = &mut self.counters.services;
        let counts = match services.get_mut(counted.service) {
            Some(counts) => counts,
            None => services.entry(counted.service.clone()).or_default(),
        };
        counts.add(tally, new);
        let endpoint = counted.endpoint?;
        if !counted.exists && new.packets == 0 {
            return Some((element, Some(traffic)));
        }
        counts.endpoints.entry(endpoint).or_default().add(tally, new, self.round);
        None
    }

    fn since_last(&mut self, element: &Element, now: Traffic) -> Traffic {
        let Some((last, round)) = self.last.get_mut(element) else {
            self.last.insert(element.clone(), (now, self.round));
            return now;
        };
        *round = self.round;
        let before = std::mem::replace(last, now);
        // It has been made anew.
        if now.packets < before.packets {
            return now;
        }
        let bytes = now.bytes.saturating_sub(before.bytes);
        Traffic { packets: now.packets - before.packets, bytes }
    }

    /// Forgets who is gone. What was not seen once may just have been missed.
    fn forget(&mut self, view: &NodeView) {
        let round = self.round;
        self.last.retain(|_, (_, seen)| *seen + 1 >= round);
        self.counters.services.retain(|name, _| view.services.contains_key(name));
        for counts in self.counters.services.values_mut() {
            counts.endpoints.retain(|_, endpoint| endpoint.round + 1 >= round);
        }
    }

    fn retire(&self, leaving: Vec<(Element, Option<Traffic>)>) -> Retired {
        let mut retired = Retired::default();
        let mut heirs: BTreeMap<Element, Traffic> = BTreeMap::new();
        for (element, traffic) in leaving {
            if let Some(traffic) = traffic {
                let heir = (element.0, element.1, of_gone(element.0, &element.2));
                *heirs.entry(heir).or_default() += traffic;
            }
            retired.removed.push(element);
        }
        for (heir, traffic) in &mut heirs {
            if let Some((before, _)) = self.last.get(heir) {
                *traffic += *before;
                retired.removed.push(heir.clone());
            }
        }
        retired.added = heirs.into_iter().collect();
        retired.operations = operations(&retired.removed, &retired.added);
        retired
    }
}

/// Those that come or go meanwhile may be missing.
fn elements(socket: &mut Socket, family: Family, set: &str) -> Result<Vec<(Key, Traffic)>, Error> {
    let (Asked::Answers(answers) | Asked::Changed(answers)) =
        ask(socket, Request::Elements(family, set))?
    else {
        return Ok(Vec::new());
    };
    let lists = answers.into_iter().filter_map(|answer| match answer {
        Answer::Elements(elements) => Some(elements),
        _ => None,
    });
    Ok(lists.flatten().map(|element| (element.key, element.traffic)).collect())
}

/// Deletions first, and one operation per set.
fn operations(removed: &[Element], added: &[(Element, Traffic)]) -> Vec<Op> {
    let place = |(family, tally, _): &Element| (*family, tally.map_or(LEFT_OUT, Tally::set));
    let (mut gone, mut new) = (BTreeMap::new(), BTreeMap::new());
    for element in removed {
        gone.entry(place(element)).or_insert_with(Vec::new).push(element.2.clone());
    }
    for (element, traffic) in added {
        let counted = (element.2.clone(), *traffic);
        new.entry(place(element)).or_insert_with(Vec::new).push(counted);
    }
    let gone = gone.into_iter().map(|((family, set), keys)| Op::DeleteElements(family, set, keys));
    let new = new.into_iter().map(|((family, set), counts)| Op::AddCounted(family, set, counts));
    gone.chain(new).collect()
}

impl Counts {
    fn add(&mut self, tally: Tally, new: Traffic) {
        match tally {
            Tally::Connections => self.connections += new.packets,
            Tally::ToEndpoints => self.to_endpoints += new,
            Tally::FromEndpoints => self.from_endpoints += new,
            Tally::Refused => self.refused += new.packets,
            Tally::Dropped => self.dropped += new.packets,
            Tally::Forbidden => self.forbidden += new.packets,
        }
    }
}

impl EndpointCounts {
    fn add(&mut self, tally: Tally, new: Traffic, round: u64) {
        self.round = round;
        match tally {
            Tally::Connections => self.connections += new.packets,
            Tally::ToEndpoints => self.to += new,
            Tally::FromEndpoints => self.from += new,
            Tally::Refused | Tally::Dropped | Tally::Forbidden => {}
        }
    }
}
