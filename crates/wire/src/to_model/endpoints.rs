//! EndpointSlices and Endpoints.

use model::{
    AddressType, Conditions, Endpoint, EndpointSlice, Endpoints, EndpointsAddress, EndpointsSubset,
    Family, FewNames, Hints, Name, ServiceName, SlicePort,
};
use serde_json::Value;

use super::{Rejected, meta, parse, rejected};
use crate::rules::fields::Fields;

/// A defaulted slice.
pub(super) fn endpoint_slice(value: &Value) -> Result<EndpointSlice, Rejected> {
    let meta = meta(value)?;
    let address_type = match value.text("/addressType") {
        "IPv4" => AddressType::Ip(Family::V4),
        "IPv6" => AddressType::Ip(Family::V6),
        "FQDN" => AddressType::Fqdn,
        other => {
            return Err(rejected(value, format!("addressType is {other:?}, which is unknown")));
        }
    };
    let service = meta.labels.get(SERVICE_LABEL).filter(|name| !name.is_empty());
    Ok(EndpointSlice {
        service: service.map(|name| ServiceName::new(meta.namespace.clone(), name.as_str())),
        meta,
        address_type,
        ports: value.list("/ports").iter().filter_map(slice_port).collect(),
        endpoints: value
            .list("/endpoints")
            .iter()
            .filter_map(|endpoint| self::endpoint(endpoint, address_type))
            .collect(),
    })
}

/// A defaulted Endpoints object.
pub(super) fn endpoints(value: &Value) -> Result<Endpoints, Rejected> {
    let subset = |value: &Value| EndpointsSubset {
        addresses: value.list("/addresses").iter().filter_map(address).collect(),
        not_ready_addresses: value.list("/notReadyAddresses").iter().filter_map(address).collect(),
        ports: value.list("/ports").iter().filter_map(subset_port).collect(),
    };
    Ok(Endpoints {
        meta: meta(value)?,
        subsets: value.list("/subsets").iter().map(subset).collect(),
    })
}

/// A port of an unknown protocol is left out; one without a number stays, for others to ignore.
fn slice_port(value: &Value) -> Option<SlicePort> {
    Some(SlicePort {
        name: value.at("/name").as_str().map(Name::from),
        protocol: parse::protocol(value.text("/protocol"))?,
        port: parse::port(value.at("/port")),
        app_protocol: value.at("/appProtocol").as_str().map(str::to_owned),
    })
}

/// Ports of Endpoints always have a name, if an empty one.
fn subset_port(value: &Value) -> Option<SlicePort> {
    let port = slice_port(value)?;
    Some(SlicePort { name: Some(port.name.unwrap_or_else(|| "".into())), ..port })
}

/// An endpoint without any address of the slice's family is left out. Absent conditions mean
/// ready, serving and not terminating (semantics 3.2).
fn endpoint(value: &Value, kind: AddressType) -> Option<Endpoint> {
    let addresses: Vec<_> = match kind {
        AddressType::Ip(family) => {
            let fits = |address: &std::net::IpAddr| Family::of(*address) == family;
            let texts = value.texts("/addresses").into_iter();
            texts.filter_map(parse::address).filter(fits).collect()
        }
        AddressType::Fqdn => Vec::new(),
    };
    if addresses.is_empty() && kind != AddressType::Fqdn {
        return None;
    }
    let condition = |name: &str, absent: bool| {
        value.at(&format!("/conditions/{name}")).as_bool().unwrap_or(absent)
    };
    let names = |list: &str| -> FewNames {
        let hints = value.list(&format!("/hints/{list}")).iter();
        hints.filter_map(|hint| parse::name(hint.at("/name"))).collect()
    };
    Some(Endpoint {
        addresses,
        conditions: Conditions {
            ready: condition("ready", true),
            serving: condition("serving", true),
            terminating: condition("terminating", false),
        },
        node: parse::name(value.at("/nodeName")),
        zone: parse::name(value.at("/zone")),
        hostname: parse::name(value.at("/hostname")),
        target: parse::target(value.at("/targetRef")).map(Box::new),
        hints: Hints { zones: names("forZones"), nodes: names("forNodes") },
    })
}

fn address(value: &Value) -> Option<EndpointsAddress> {
    Some(EndpointsAddress {
        ip: parse::address(value.text("/ip"))?,
        hostname: parse::name(value.at("/hostname")),
        node: parse::name(value.at("/nodeName")),
        target: parse::target(value.at("/targetRef")),
    })
}

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
