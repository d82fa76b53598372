//! Names and types of our sets and maps.

use model::Family;

use super::counts::{LEFT_OUT, Tally};
use super::draw::{Entry, Mark, Pick};
use crate::expr::Name;
use crate::ruleset::{DataSpec, Field, SetSpec};

/// `address . protocol . port . number` to endpoint.
pub(crate) const ENDPOINTS: Name = Name::Borrowed("endpoints");
/// As [`ENDPOINTS`], for outside traffic under policy Local.
pub(crate) const LOCAL_ENDPOINTS: Name = Name::Borrowed("local-endpoints");
/// `protocol . port . number` to endpoint.
pub(crate) const PORT_ENDPOINTS: Name = Name::Borrowed("node-port-endpoints");
/// As [`PORT_ENDPOINTS`], for outside traffic under policy Local.
pub(crate) const PORT_LOCAL_ENDPOINTS: Name = Name::Borrowed("node-port-local-endpoints");
/// As [`ENDPOINTS`], of those with session affinity. See [`PAD`].
pub(crate) const AFFINE_ENDPOINTS: Name = Name::Borrowed("endpoints-with-affinity");
/// As [`LOCAL_ENDPOINTS`], of those with session affinity.
pub(crate) const AFFINE_LOCAL_ENDPOINTS: Name = Name::Borrowed("local-endpoints-with-affinity");
/// As [`PORT_ENDPOINTS`], of those with session affinity.
pub(crate) const AFFINE_PORT_ENDPOINTS: Name = Name::Borrowed("node-port-endpoints-with-affinity");
/// As [`PORT_LOCAL_ENDPOINTS`], of those with session affinity.
pub(crate) const AFFINE_PORT_LOCAL_ENDPOINTS: Name =
    Name::Borrowed("node-port-local-endpoints-with-affinity");
/// Addresses on which node ports answer (D30).
pub(crate) const NODE_ADDRESSES: Name = Name::Borrowed("node-addresses");
/// Frontends that refuse new connections at once (D23).
pub(crate) const REJECTED: Name = Name::Borrowed("rejected");
/// Node ports that refuse.
pub(crate) const REJECTED_PORTS: Name = Name::Borrowed("rejected-node-ports");
/// Frontends that ignore new connections (policy Local without local endpoint).
pub(crate) const DROPPED: Name = Name::Borrowed("dropped");
/// Node ports that ignore.
pub(crate) const DROPPED_PORTS: Name = Name::Borrowed("dropped-node-ports");
/// All cluster IPs, for refusing undeclared ports.
pub(crate) const CLUSTER_IPS: Name = Name::Borrowed("cluster-ips");
/// Frontends with `loadBalancerSourceRanges` (D26).
pub(crate) const RESTRICTED: Name = Name::Borrowed("restricted");
/// `address . protocol . port . source` for the sources that they let in.
pub(crate) const ALLOWED_SOURCES: Name = Name::Borrowed("allowed-sources");
/// `source . destination` where an endpoint of this node talks to itself (D12).
pub(crate) const HAIRPIN: Name = Name::Borrowed("hairpin");
/// `client . Service port` to the endpoint that it used last (D15).
pub(crate) const AFFINITY: Name = Name::Borrowed("affinity");
/// Frontend with affinity to its Service port (named by one of its frontends).
pub(crate) const SERVICE_PORTS: Name = Name::Borrowed("service-ports");
/// Node port with affinity to its Service port.
pub(crate) const PORT_SERVICE_PORTS: Name = Name::Borrowed("node-port-service-ports");
/// `frontend . endpoint`: what a client may be sent back to (D17).
pub(crate) const USABLE: Name = Name::Borrowed("usable");
/// As [`USABLE`], for outside traffic under policy Local.
pub(crate) const LOCAL_USABLE: Name = Name::Borrowed("local-usable");
/// `node port . endpoint`.
pub(crate) const PORT_USABLE: Name = Name::Borrowed("node-port-usable");
/// As [`PORT_USABLE`], for outside traffic under policy Local.
pub(crate) const PORT_LOCAL_USABLE: Name = Name::Borrowed("node-port-local-usable");

/// Frontends whose connections to endpoints that are gone are reset (D35).
pub(crate) const RESETTING: Name = Name::Borrowed("resetting");
/// Node ports of that kind.
pub(crate) const RESETTING_PORTS: Name = Name::Borrowed("resetting-node-ports");
/// `frontend . endpoint` for each of [`RESETTING`] and all endpoints that exist.
///
/// Sorts before the lists of endpoints: additions are made in order of names, and where a
/// transaction is too large for one, no endpoint may be picked before it exists here.
pub(crate) const EXISTING: Name = Name::Borrowed("all-endpoints");
/// `node port . endpoint` for each of [`RESETTING_PORTS`]. Sorts first for the same reason.
pub(crate) const PORT_EXISTING: Name = Name::Borrowed("all-node-port-endpoints");

/// All frontends, if packets are counted.
pub(crate) const COUNTED: Name = Name::Borrowed("counted");
/// All node ports.
pub(crate) const COUNTED_PORTS: Name = Name::Borrowed("counted-node-ports");

/// Sets of `address . protocol . port` or, if `node_ports`, of `protocol . port`, whose elements
/// make a Service visible to packets, rather than being reached through one that does.
pub(crate) fn entries(node_ports: bool) -> impl Iterator<Item = Name> {
    let refusing = if node_ports { [REJECTED_PORTS, DROPPED_PORTS] } else { [REJECTED, DROPPED] };
    let marks = Mark::ALL.into_iter();
    let entries = marks.map(move |masquerade| Entry { node_port: node_ports, masquerade }.name());
    entries.chain(refusing)
}

/// Whether it is one of [`entries`], or makes connections that exist subject to what other sets
/// hold.
pub(crate) fn is_entry(set: &str) -> bool {
    let resetting = [RESETTING, RESETTING_PORTS];
    entries(false).chain(entries(true)).chain(resetting).any(|name| name == set)
}

/// What the maps of session affinity hold before the value that counts, always 0.
///
/// The `nft` program (at least to 1.0.6) aborts when it prints rules that use what a map holds in a
/// key or as data of a map. It knows of what a map holds by the first register only, hence the value
/// is moved away from there. See [`super::draw::Pick::rules`].
const PAD: Field = Field::Number;

/// The type of the set of frontends that pick in one way.
pub(crate) fn of_pick(family: Family, pick: Pick) -> SetSpec {
    let frontend = [address_field(family), Field::Proto, Field::Port];
    set(if pick.from.node_port { &frontend[1..] } else { &frontend })
}

/// The sets of a family's table that exist whatever the Services.
pub(crate) fn specs(family: Family, counters: bool) -> Vec<(Name, SetSpec)> {
    let ip = address_field(family);
    let frontend = [ip, Field::Proto, Field::Port];
    let node_port = [Field::Proto, Field::Port];
    let endpoint = [ip, Field::Port];
    let client = joined(&[ip], &frontend);
    let numbered = |key: &[Field]| map(&joined(key, &[Field::Number]), &endpoint);
    let padded = |data: &[Field]| joined(&[PAD], data);
    let affine = |key: &[Field]| map(&joined(key, &[Field::Number]), &padded(&endpoint));
    let with_endpoint = |key: &[Field]| set(&joined(key, &endpoint));
    let frontends = entries(false).map(|name| (name, set(&frontend)));
    let node_ports = entries(true).map(|name| (name, set(&node_port)));
    let others = [
        (ENDPOINTS, numbered(&frontend)),
        (LOCAL_ENDPOINTS, numbered(&frontend)),
        (PORT_ENDPOINTS, numbered(&node_port)),
        (PORT_LOCAL_ENDPOINTS, numbered(&node_port)),
        (AFFINE_ENDPOINTS, affine(&frontend)),
        (AFFINE_LOCAL_ENDPOINTS, affine(&frontend)),
        (AFFINE_PORT_ENDPOINTS, affine(&node_port)),
        (AFFINE_PORT_LOCAL_ENDPOINTS, affine(&node_port)),
        (NODE_ADDRESSES, set(&[ip])),
        (CLUSTER_IPS, set(&[ip])),
        (RESTRICTED, set(&frontend)),
        (ALLOWED_SOURCES, SetSpec { interval: true, ..set(&joined(&frontend, &[ip])) }),
        (HAIRPIN, set(&[ip, ip])),
        (AFFINITY, SetSpec { dynamic: true, ..map(&client, &padded(&endpoint)) }),
        (SERVICE_PORTS, map(&frontend, &padded(&frontend))),
        (PORT_SERVICE_PORTS, map(&node_port, &padded(&frontend))),
        (USABLE, with_endpoint(&frontend)),
        (LOCAL_USABLE, with_endpoint(&frontend)),
        (PORT_USABLE, with_endpoint(&node_port)),
        (PORT_LOCAL_USABLE, with_endpoint(&node_port)),
        (RESETTING, set(&frontend)),
        (RESETTING_PORTS, set(&node_port)),
        (EXISTING, with_endpoint(&frontend)),
        (PORT_EXISTING, with_endpoint(&node_port)),
    ];
    let counts = counters.then(|| counting(family));
    frontends.chain(node_ports).chain(others).chain(counts.into_iter().flatten()).collect()
}

/// Those of a node that counts.
fn counting(family: Family) -> Vec<(Name, SetSpec)> {
    let ip = address_field(family);
    let frontend = [ip, Field::Proto, Field::Port];
    let tally = |tally: Tally| {
        let endpoint = if tally.has_endpoint() { &[ip, Field::Port][..] } else { &[] };
        (tally.set(), SetSpec { counter: true, ..set(&joined(&frontend, endpoint)) })
    };
    let left_out = SetSpec { counter: true, ..set(&[Field::Number]) };
    let frontends = [(COUNTED, set(&frontend)), (COUNTED_PORTS, set(&frontend[1..]))];
    Tally::ALL.map(tally).into_iter().chain([(LEFT_OUT, left_out)]).chain(frontends).collect()
}

fn address_field(family: Family) -> Field {
    match family {
        Family::V4 => Field::Ipv4,
        Family::V6 => Field::Ipv6,
    }
}

fn joined(first: &[Field], second: &[Field]) -> Vec<Field> {
    [first, second].concat()
}

fn set(key: &[Field]) -> SetSpec {
    SetSpec {
        key: key.to_vec(),
        data: DataSpec::None,
        interval: false,
        dynamic: false,
        counter: false,
    }
}

fn map(key: &[Field], data: &[Field]) -> SetSpec {
    SetSpec { data: DataSpec::Fields(data.to_vec()), ..set(key) }
}
