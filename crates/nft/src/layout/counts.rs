//! What an element that counts has counted.

use std::net::SocketAddr;

use model::{Family, ServiceName};

use super::service::{Spot, parse_endpoint};
use super::{Layout, draw, sets};
use crate::ruleset::{Data, Key};

/// What the packets were that found an element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// New connections to a frontend with endpoints.
    Connections,
    /// New connections that an endpoint got.
    Endpoint(SocketAddr),
    /// New connections that were refused.
    Refused,
    /// New connections that were ignored, because the endpoints are elsewhere.
    Dropped,
    /// New connections that source ranges looked at,
    Checked,
    /// and those of them that were let in.
    Allowed,
}

impl Layout {
    /// Whose element it is and what it counts; `None` if its Service is gone.
    pub(crate) fn counted(
        &self,
        family: Family,
        set: &str,
        key: &Key,
        data: &Data,
    ) -> Option<(&ServiceName, Counted)> {
        let list = draw::List::ALL
            .into_iter()
            .find(|list| list.endpoints() == *set || list.usable() == *set);
        let node_port = match list {
            Some(list) => list.node_port,
            None => sets::entries(true).any(|name| name == *set),
        };
        let (spot, rest) = Spot::parse(family, node_port, &key.start)?;
        let counted = match (list, data) {
            (Some(_), Data::Value(endpoint)) => {
                Counted::Endpoint(parse_endpoint(family, endpoint)?)
            }
            (Some(_), _) => Counted::Endpoint(parse_endpoint(family, rest)?),
            _ if [sets::REJECTED, sets::REJECTED_PORTS].iter().any(|name| *name == *set) => {
                Counted::Refused
            }
            _ if [sets::DROPPED, sets::DROPPED_PORTS].iter().any(|name| *name == *set) => {
                Counted::Dropped
            }
            _ if sets::RESTRICTED == *set => Counted::Checked,
            _ if sets::ALLOWED_SOURCES == *set => Counted::Allowed,
            _ => Counted::Connections,
        };
        self.claims.get(&spot)?.first().map(|owner| (owner, counted))
    }
}
