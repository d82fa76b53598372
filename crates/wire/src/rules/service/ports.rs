//! `spec.ports`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::service_type;
use crate::rules::error::{
    duplicate, duplicate_shown, each, forbidden, invalid, not_supported, required,
};
use crate::rules::fields::Fields;
use crate::rules::text;
use crate::status::{FieldError, quote};

/// Errors of each port by itself, and of names (S2).
pub(super) fn validate_ports(service: &Value) -> Vec<FieldError> {
    let ports = service.list("/spec/ports");
    let mut names = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        errors.extend(validate_name(port, &field, ports.len() > 1, &mut names));
        let number = port.int("/port");
        errors.extend(each(format!("{field}.port"), number, text::port_number(number)));
        errors.extend(validate_protocol(port, &field));
        errors.extend(validate_number_or_name(port.at("/targetPort"), &field));
        if port.has("/appProtocol") {
            let name = port.text("/appProtocol");
            let field = format!("{field}.appProtocol");
            errors.extend(each(field, name, text::qualified_name(name)));
        }
    }
    errors
}

/// Errors of node ports that the type does not have, and of pairs that occur twice.
pub(super) fn validate_pairs(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ports = service.list("/spec/ports");
    if service_type(service) == "ClusterIP" {
        for (index, port) in ports.iter().enumerate() {
            if port.int("/nodePort") != 0 {
                let field = format!("spec.ports[{index}].nodePort");
                errors.push(forbidden(field, "may not be used when `type` is 'ClusterIP'"));
            }
        }
    }
    let mut node_ports = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.int("/nodePort");
        if number != 0 && !node_ports.insert((port.text("/protocol"), number)) {
            errors.push(duplicate(format!("spec.ports[{index}].nodePort"), number));
        }
    }
    let mut pairs = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (port.text("/protocol"), port.int("/port"));
        if !pairs.insert((protocol, number)) {
            errors.push(duplicate_shown(format!("spec.ports[{index}]"), &pair(protocol, number)));
        }
    }
    errors
}

/// Errors of a `protocol`.
pub(crate) fn validate_protocol(port: &Value, field: &str) -> Option<FieldError> {
    let protocol = port.text("/protocol");
    let field = format!("{field}.protocol");
    match protocol {
        "" => Some(required(field, "")),
        protocol if PROTOCOLS.contains(&protocol) => None,
        protocol => Some(not_supported(field, protocol, &PROTOCOLS)),
    }
}

fn validate_name<'a>(
    port: &'a Value,
    field: &str,
    needed: bool,
    names: &mut BTreeSet<&'a str>,
) -> Vec<FieldError> {
    let name = port.text("/name");
    let field = format!("{field}.name");
    if name.is_empty() {
        return if needed { vec![required(field, "")] } else { Vec::new() };
    }
    let mut errors = each(field.as_str(), name, text::dns_label(name));
    if !names.insert(name) {
        errors.push(duplicate(field, name));
    }
    errors
}

fn validate_number_or_name(target: &Value, field: &str) -> Vec<FieldError> {
    let field = format!("{field}.targetPort");
    match target {
        Value::String(name) => each(field, name.as_str(), text::port_name(name)),
        number => {
            let number = number.as_i64().unwrap_or(0);
            text::port_number(number)
                .into_iter()
                .map(|why| invalid(field.as_str(), number, why))
                .collect()
        }
    }
}

/// The pair as upstream prints it: a whole internal ServicePort with the other fields empty.
fn pair(protocol: &str, port: i64) -> String {
    format!(
        "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{port},\"TargetPort\":0,\
         \"NodePort\":0}}",
        quote(protocol)
    )
}

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
