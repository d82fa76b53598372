//! New connections, counted per Service and endpoint.
//!
//! Elements of sets count in the kernel whoever finds them, which happens once per connection: its
//! later packets are not looked at and cost nothing more.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use model::{Family, ServiceName};

use crate::expr::Name;
use crate::layout::{Counted, Layout};
use crate::ruleset::{Data, Key};

/// What happened to new connections to a Service. A process that takes the tables over goes on from
/// what their elements have counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// They were sent to an endpoint.
    pub connections: u64,
    /// They were sent to this endpoint.
    pub endpoints: BTreeMap<SocketAddr, u64>,
    /// They were refused: no endpoint anywhere.
    pub refused: u64,
    /// They were ignored: policy Local, and no endpoint on this node.
    pub dropped: u64,
    /// They were ignored: not from one of the source ranges.
    pub forbidden: u64,
}

/// Sums that outlive the elements that counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    services: BTreeMap<ServiceName, Counts>,
    /// What each element said when it was last read. One that starts anew starts from 0.
    last: BTreeMap<(Family, Name, Key, Data), u64>,
}

impl Sums {
    /// Adds what elements have counted since the last call with the same set.
    pub(crate) fn add(
        &mut self,
        layout: &Layout,
        family: Family,
        set: &Name,
        elements: Vec<(Key, Data, u64)>,
    ) {
        let mut seen = BTreeMap::new();
        for (key, data, count) in elements {
            let Some((service, counted)) = layout.counted(family, set, &key, &data) else {
                continue;
            };
            let element = (family, set.clone(), key, data);
            let before = self.last.remove(&element).unwrap_or(0);
            seen.insert(element, count);
            let new = if count < before { count } else { count - before };
            if new > 0 || !self.services.contains_key(service) {
                self.services.entry(service.clone()).or_default().add(&counted, new);
            }
        }
        self.last.retain(|(of, name, ..), _| (*of, name) != (family, set));
        self.last.append(&mut seen);
    }

    /// The sums of the Services that still are there.
    pub(crate) fn services(&mut self, exists: impl Fn(&ServiceName) -> bool) -> &Services {
        self.services.retain(|name, _| exists(name));
        &self.services
    }
}

type Services = BTreeMap<ServiceName, Counts>;

impl Counts {
    fn add(&mut self, counted: &Counted, new: u64) {
        match counted {
            Counted::Connections => self.connections += new,
            Counted::Endpoint(endpoint) => *self.endpoints.entry(*endpoint).or_default() += new,
            Counted::Refused => self.refused += new,
            Counted::Dropped => self.dropped += new,
            Counted::Checked => self.forbidden += new,
            // The sets are read one after the other: a connection may have come in between.
            Counted::Allowed => self.forbidden = self.forbidden.saturating_sub(new),
        }
    }
}
