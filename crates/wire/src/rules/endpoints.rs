//! `core/v1` Endpoints.

use serde_json::Value;

use super::error::{each, required};
use super::fields::{self, Fields, items};
use super::service::validate_protocol;
use super::{ip, meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// Header of every request for Endpoints.
pub(crate) const DEPRECATION: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// Ports are TCP unless they say otherwise.
pub(crate) fn default(endpoints: &mut Value, _: &Env) {
    for subset in items(endpoints, "/subsets") {
        for port in items(subset, "/ports").filter(|port| port.is_object()) {
            fields::default(port, "/protocol", "TCP");
        }
    }
}

/// All errors of a new Endpoints object.
pub(crate) fn validate_create(endpoints: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(endpoints, true, text::dns_subdomain);
    for (index, subset) in endpoints.list("/subsets").iter().enumerate() {
        errors.extend(validate_subset(subset, &format!("subsets[{index}]")));
    }
    errors
}

/// All errors of a changed Endpoints object. Subsets that did not change are not judged again
/// (semantics 1.8).
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    if new.list("/subsets") == old.list("/subsets") {
        errors.extend(meta::validate(new, true, text::dns_subdomain));
    } else {
        errors.extend(validate_create(new, env));
    }
    errors
}

/// Warns of addresses that are not written canonically.
pub(crate) fn warnings(endpoints: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, subset) in endpoints.list("/subsets").iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (at, address) in subset.list(&format!("/{list}")).iter().enumerate() {
                let field = format!("subsets[{index}].{list}[{at}].ip");
                warnings.extend(ip::address_warning(&field, address.text("/ip")));
            }
        }
    }
    warnings
}

/// S15.
fn validate_subset(subset: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if subset.list("/addresses").is_empty() && subset.list("/notReadyAddresses").is_empty() {
        errors.push(required(field, "must specify `addresses` or `notReadyAddresses`"));
    }
    for list in ["addresses", "notReadyAddresses"] {
        for (index, address) in subset.list(&format!("/{list}")).iter().enumerate() {
            errors.extend(validate_address(address, &format!("{field}.{list}[{index}]")));
        }
    }
    let ports = subset.list("/ports");
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        let name = port.text("/name");
        if !name.is_empty() {
            errors.extend(each(format!("{field}.name"), name, text::dns_label(name)));
        } else if ports.len() > 1 {
            errors.push(required(format!("{field}.name"), ""));
        }
        let number = port.int("/port");
        errors.extend(each(format!("{field}.port"), number, text::port_number(number)));
        errors.extend(validate_protocol(port, &field));
        if let Some(name) = port.at("/appProtocol").as_str() {
            errors.extend(each(format!("{field}.appProtocol"), name, text::qualified_name(name)));
        }
    }
    errors
}

fn validate_address(address: &Value, field: &str) -> Vec<FieldError> {
    let value = address.text("/ip");
    let mut errors = each(format!("{field}.ip"), value, ip::address(value));
    let hostname = address.text("/hostname");
    if !hostname.is_empty() {
        errors.extend(each(format!("{field}.hostname"), hostname, text::dns_label(hostname)));
    }
    if let Some(node) = address.at("/nodeName").as_str() {
        errors.extend(each(format!("{field}.nodeName"), node, text::dns_subdomain(node)));
    }
    if errors.is_empty() {
        errors = ip::not_special(&format!("{field}.ip"), value);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    #[test]
    fn bad_subsets_are_refused_where_upstream_says() {
        // S15.
        use CauseReason::{Invalid, Required};
        let good = json!({ "ip": "10.1.2.3" });
        let rows = [
            ("E23", json!({}), "subsets[0]", Required),
            (
                "E24",
                json!({ "addresses": [{ "ip": "127.0.0.1" }] }),
                "subsets[0].addresses[0].ip",
                Invalid,
            ),
            (
                "E25",
                json!({ "addresses": [good], "ports": [{ "port": 0 }] }),
                "subsets[0].ports[0].port",
                Invalid,
            ),
            (
                "E26",
                json!({ "addresses": [good], "ports": [{ "name": "a", "port": 1 }, { "port": 2 }] }),
                "subsets[0].ports[1].name",
                Required,
            ),
        ];
        for (row, subset, field, reason) in rows {
            let mut endpoints = json!({
                "metadata": { "name": "web", "namespace": "default" }, "subsets": [subset],
            });
            default(&mut endpoints, &env());
            let errors = validate_create(&endpoints, &env());
            assert_eq!(outcome(&errors), [(field, reason)], "{row}");
        }
    }
}
