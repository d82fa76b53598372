//! `discovery.k8s.io/v1` EndpointSlice.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::error::{duplicate, each, immutable, invalid, not_supported, required, too_many};
use super::fields::{self, Fields, items, remove, same, set};
use super::service::validate_protocol;
use super::{ip, meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// Ports have a name, if an empty one, and are TCP; endpoints have conditions, if empty ones.
pub(crate) fn default(slice: &mut Value, _: &Env) {
    for port in items(slice, "/ports").filter(|port| port.is_object()) {
        if !port.has("/name") {
            set(port, "/name", "");
        }
        fields::default(port, "/protocol", "TCP");
    }
    for endpoint in items(slice, "/endpoints").filter(|endpoint| endpoint.is_object()) {
        if !endpoint.has("/conditions") {
            set(endpoint, "/conditions", json!({}));
        }
    }
}

/// Storage, which the real server writes as protobuf, cannot tell an empty list from none.
pub(crate) fn default_on_read(slice: &mut Value, _: &Env) {
    for list in ["/endpoints", "/ports"] {
        if slice.at(list).as_array().is_some_and(Vec::is_empty) {
            remove(slice, list);
        }
    }
}

/// Starts the generation and drops what only v1beta1 had.
pub(crate) fn prepare_create(slice: &mut Value, _: &Env) {
    drop_topology(slice);
    meta::start_generation(slice);
}

/// Raises the generation for every change but those of metadata other than labels.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    drop_topology(new);
    let changed = ["/endpoints", "/ports", "/addressType", "/metadata/labels"]
        .iter()
        .any(|pointer| !same(new.at(pointer), old.at(pointer)));
    meta::carry_generation(new, old, changed);
}

/// All errors of a new slice.
pub(crate) fn validate_create(slice: &Value, _: &Env) -> Vec<FieldError> {
    validate(slice, None)
}

/// All errors of a changed slice.
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate(new, Some(old)));
    let kind = new.text("/addressType");
    if kind != old.text("/addressType") {
        errors.push(immutable("addressType", kind));
    }
    errors
}

/// Warns of the deprecated address type.
pub(crate) fn warnings(slice: &Value, _: Option<&Value>) -> Vec<String> {
    if slice.text("/addressType") == "FQDN" {
        vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()]
    } else {
        Vec::new()
    }
}

fn drop_topology(slice: &mut Value) {
    for endpoint in items(slice, "/endpoints") {
        remove(endpoint, "/deprecatedTopology");
    }
}

/// Endpoints that did not change are not judged again (semantics 1.8; S13, S14).
fn validate(slice: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = meta::validate(slice, true, text::dns_subdomain);
    let kind = slice.text("/addressType");
    let kinds = ["FQDN", "IPv4", "IPv6"];
    match kind {
        "" => errors.push(required("addressType", "")),
        kind if !kinds.contains(&kind) => {
            errors.push(not_supported("addressType", kind, &kinds));
        }
        _ => {}
    }
    if old.is_none_or(|old| slice.list("/endpoints") != old.list("/endpoints")) {
        errors.extend(validate_endpoints(slice.list("/endpoints"), kind));
    }
    errors.extend(validate_ports(slice.list("/ports")));
    errors
}

fn validate_endpoints(endpoints: &[Value], kind: &str) -> Vec<FieldError> {
    if endpoints.len() > ENDPOINTS {
        return vec![too_many("endpoints", endpoints.len(), ENDPOINTS)];
    }
    let mut errors = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}]");
        errors.extend(validate_addresses(endpoint, &format!("{field}.addresses"), kind));
        if let Some(node) = endpoint.at("/nodeName").as_str() {
            errors.extend(each(format!("{field}.nodeName"), node, text::dns_subdomain(node)));
        }
        if let Some(name) = endpoint.at("/hostname").as_str() {
            errors.extend(each(format!("{field}.hostname"), name, text::dns_label(name)));
        }
        let zones = text::label_value;
        errors.extend(validate_hints(endpoint, &field, "forZones", zones));
        errors.extend(validate_hints(endpoint, &field, "forNodes", text::dns_subdomain));
    }
    errors
}

fn validate_addresses(endpoint: &Value, field: &str, kind: &str) -> Vec<FieldError> {
    let addresses = endpoint.texts("/addresses");
    let mut errors = Vec::new();
    if addresses.is_empty() {
        errors.push(required(field, "must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES {
        errors.push(too_many(field, addresses.len(), ADDRESSES));
    }
    for (index, address) in addresses.into_iter().enumerate() {
        let at = format!("{field}[{index}]");
        match kind {
            "FQDN" => errors.extend(each(at, address, text::dns_subdomain(address))),
            "IPv4" | "IPv6" => errors.extend(validate_address(address, field, &at, kind)),
            _ => {}
        }
    }
    errors
}

/// Another family is an error of the list, everything else one of the address.
fn validate_address(address: &str, list: &str, at: &str, kind: &str) -> Vec<FieldError> {
    let why = ip::canonical_address(address);
    if !why.is_empty() {
        return each(at, address, why);
    }
    let is_v4 = address.contains('.') && !address.contains(':');
    if is_v4 != (kind == "IPv4") {
        return vec![invalid(list, address, format!("must be an {kind} address"))];
    }
    ip::not_special(at, address)
}

fn validate_hints(
    endpoint: &Value,
    field: &str,
    list: &str,
    rule: meta::NameRule,
) -> Vec<FieldError> {
    let hints = endpoint.list(&format!("/hints/{list}"));
    let field = format!("{field}.hints.{list}");
    if hints.len() > HINTS {
        return vec![too_many(field, hints.len(), HINTS)];
    }
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, hint) in hints.iter().enumerate() {
        let name = hint.text("/name");
        let field = format!("{field}[{index}].name");
        if seen.insert(name) {
            errors.extend(each(field, name, rule(name)));
        } else {
            errors.push(duplicate(field, name));
        }
    }
    errors
}

/// The number itself is never checked, as upstream (semantics trap 7).
fn validate_ports(ports: &[Value]) -> Vec<FieldError> {
    if ports.len() > PORTS {
        return vec![too_many("ports", ports.len(), PORTS)];
    }
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("ports[{index}]");
        let name = port.text("/name");
        if !names.insert(name) {
            errors.push(duplicate(format!("{field}.name"), name));
        }
        if !name.is_empty() {
            errors.extend(each(format!("{field}.name"), name, text::dns_label(name)));
        }
        errors.extend(validate_protocol(port, &field));
        if let Some(name) = port.at("/appProtocol").as_str() {
            errors.extend(each(format!("{field}.appProtocol"), name, text::qualified_name(name)));
        }
    }
    errors
}

const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;
const HINTS: usize = 8;
const PORTS: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    fn slice(fields: Value) -> Value {
        let mut slice = json!({
            "metadata": { "name": "web-1", "namespace": "default" }, "addressType": "IPv4",
            "endpoints": [], "ports": [],
        });
        for (key, value) in fields.as_object().into_iter().flatten() {
            slice[key] = value.clone();
        }
        default(&mut slice, &env());
        slice
    }

    fn endpoint(fields: Value) -> Value {
        let mut endpoint = json!({ "addresses": ["10.1.2.3"] });
        for (key, value) in fields.as_object().into_iter().flatten() {
            endpoint[key] = value.clone();
        }
        slice(json!({ "endpoints": [endpoint] }))
    }

    #[test]
    fn bad_slices_are_refused_where_upstream_says() {
        // S14.
        use CauseReason::{Duplicate, Invalid, NotSupported, Required, TooMany};
        let of = |kind: &str, address: &str| {
            slice(json!({ "addressType": kind, "endpoints": [{ "addresses": [address] }] }))
        };
        let address = "endpoints[0].addresses[0]";
        let list = "endpoints[0].addresses";
        let many = |count: usize, item: Value| vec![item; count];
        let zones = |names: &[&str]| {
            let zones: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            endpoint(json!({ "hints": { "forZones": zones } }))
        };
        let port = |port: Value| slice(json!({ "ports": [port] }));
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let rows = [
            ("E1", slice(json!({ "addressType": "" })), "addressType", Required),
            ("E2", slice(json!({ "addressType": "IPv5" })), "addressType", NotSupported),
            ("E4", slice(json!({ "endpoints": many(1001, json!({})) })), "endpoints", TooMany),
            ("E5", endpoint(json!({ "addresses": [] })), list, Required),
            ("E6", endpoint(json!({ "addresses": many(101, json!("10.1.2.3")) })), list, TooMany),
            ("E7", of("IPv4", "2001:db8::1"), list, Invalid),
            ("E8", of("IPv4", "127.0.0.1"), address, Invalid),
            ("E9", of("IPv6", "2001:DB8::1"), address, Invalid),
            ("E10", of("FQDN", "Bad_Name"), address, Invalid),
            ("E11", endpoint(json!({ "nodeName": "Bad_Node" })), "endpoints[0].nodeName", Invalid),
            ("E12", endpoint(json!({ "hostname": "a.b" })), "endpoints[0].hostname", Invalid),
            ("E14", zones(&nine), "endpoints[0].hints.forZones", TooMany),
            ("E15", zones(&["a", "a"]), "endpoints[0].hints.forZones[1].name", Duplicate),
            ("E16", zones(&["a b"]), "endpoints[0].hints.forZones[0].name", Invalid),
            ("E20", port(json!({ "name": "A" })), "ports[0].name", Invalid),
            ("E21", port(json!({ "protocol": "tcp" })), "ports[0].protocol", NotSupported),
            ("E22", port(json!({ "appProtocol": "a b" })), "ports[0].appProtocol", Invalid),
        ];
        for (row, slice, field, reason) in rows {
            let errors = validate_create(&slice, &env());
            assert_eq!(outcome(&errors), [(field, reason)], "{row}");
        }
        assert_eq!(validate_create(&zones(&[""]), &env()), []);
    }

    #[test]
    fn the_address_type_stays_and_unchanged_endpoints_are_not_judged_again() {
        // S13.
        let old = slice(json!({ "endpoints": [{ "addresses": ["010.1.2.3"] }] }));
        assert_eq!(validate_update(&old, &old, &env()), []);
        let mut new = old.clone();
        set(&mut new, "/addressType", "IPv6");
        let errors = validate_update(&new, &old, &env());
        assert_eq!(outcome(&errors), [("addressType", CauseReason::Invalid)]);
    }

    #[test]
    fn the_generation_ignores_annotations() {
        let mut old = slice(json!({}));
        prepare_create(&mut old, &env());
        let mut new = old.clone();
        set(&mut new, "/metadata/annotations", json!({ "a": "b" }));
        prepare_update(&mut new, &old, &env());
        assert_eq!(new.int("/metadata/generation"), 1);
        set(&mut new, "/metadata/labels", json!({ "a": "b" }));
        prepare_update(&mut new, &old, &env());
        assert_eq!(new.int("/metadata/generation"), 2);
    }
}
