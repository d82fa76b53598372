//! Names and types of our sets and maps.

use model::Family;

use crate::expr::Name;
use crate::ruleset::{DataSpec, Field, SetSpec};

/// `address . protocol . port` to the chain of its treatment: cluster IPs, external IPs, load balancer addresses.
pub(crate) const FRONTENDS: Name = Name::Borrowed("frontends");
/// `protocol . port` to the chain of its treatment, on every address in [`NODE_ADDRESSES`].
pub(crate) const NODE_PORTS: Name = Name::Borrowed("node-ports");
/// `address . protocol . port . number` to endpoint.
pub(crate) const ENDPOINTS: Name = Name::Borrowed("endpoints");
/// As [`ENDPOINTS`], for outside traffic under policy Local.
pub(crate) const LOCAL_ENDPOINTS: Name = Name::Borrowed("local-endpoints");
/// `protocol . port . number` to endpoint.
pub(crate) const PORT_ENDPOINTS: Name = Name::Borrowed("node-port-endpoints");
/// As [`PORT_ENDPOINTS`], for outside traffic under policy Local.
pub(crate) const PORT_LOCAL_ENDPOINTS: Name = Name::Borrowed("node-port-local-endpoints");
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

/// Whether elements of this set make a Service visible to packets, rather than being
/// reached through one that does.
pub(crate) fn is_entry(set: &str) -> bool {
    let entries = [&FRONTENDS, &NODE_PORTS, &REJECTED, &REJECTED_PORTS, &DROPPED, &DROPPED_PORTS];
    entries.iter().any(|name| ***name == *set)
}

/// All sets of a family's table.
pub(crate) fn specs(family: Family) -> Vec<(Name, SetSpec)> {
    let ip = address_field(family);
    let frontend = [ip, Field::Proto, Field::Port];
    let node_port = [Field::Proto, Field::Port];
    let endpoint = [ip, Field::Port];
    let client = joined(&[ip], &frontend);
    let numbered = |key: &[Field]| map(&joined(key, &[Field::Number]), &endpoint);
    let with_endpoint = |key: &[Field]| set(&joined(key, &endpoint));
    vec![
        (FRONTENDS, SetSpec { data: DataSpec::Verdict, ..set(&frontend) }),
        (NODE_PORTS, SetSpec { data: DataSpec::Verdict, ..set(&node_port) }),
        (ENDPOINTS, numbered(&frontend)),
        (LOCAL_ENDPOINTS, numbered(&frontend)),
        (PORT_ENDPOINTS, numbered(&node_port)),
        (PORT_LOCAL_ENDPOINTS, numbered(&node_port)),
        (NODE_ADDRESSES, set(&[ip])),
        (REJECTED, set(&frontend)),
        (REJECTED_PORTS, set(&node_port)),
        (DROPPED, set(&frontend)),
        (DROPPED_PORTS, set(&node_port)),
        (CLUSTER_IPS, set(&[ip])),
        (RESTRICTED, set(&frontend)),
        (ALLOWED_SOURCES, SetSpec { interval: true, ..set(&joined(&frontend, &[ip])) }),
        (HAIRPIN, set(&[ip, ip])),
        (AFFINITY, SetSpec { dynamic: true, ..map(&client, &endpoint) }),
        (SERVICE_PORTS, map(&frontend, &frontend)),
        (PORT_SERVICE_PORTS, map(&node_port, &frontend)),
        (USABLE, with_endpoint(&frontend)),
        (LOCAL_USABLE, with_endpoint(&frontend)),
        (PORT_USABLE, with_endpoint(&node_port)),
        (PORT_LOCAL_USABLE, with_endpoint(&node_port)),
    ]
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
    SetSpec { key: key.to_vec(), data: DataSpec::None, interval: false, dynamic: false }
}

fn map(key: &[Field], data: &[Field]) -> SetSpec {
    SetSpec { data: DataSpec::Fields(data.to_vec()), ..set(key) }
}
