//! Validation of containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resources::validate_resources;
use crate::rules::error::{duplicate, each, invalid, not_found, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::service::validate_protocol;
use crate::rules::text;
use crate::status::FieldError;

/// Errors of all containers of a pod spec; `volumes` are the names of its volumes.
pub(super) fn validate_containers(
    spec: &Value,
    field: &str,
    volumes: &BTreeSet<&str>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.list("/containers").is_empty() {
        errors.push(required(format!("{field}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in spec.list(&format!("/{list}")).iter().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            errors.extend(validate_container(container, &field, volumes));
            let name = container.text("/name");
            if !name.is_empty() && !names.insert(name) {
                errors.push(duplicate(format!("{field}.name"), name));
            }
        }
    }
    errors
}

fn validate_container(container: &Value, field: &str, volumes: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = container.text("/name");
    if name.is_empty() {
        errors.push(required(format!("{field}.name"), ""));
    } else {
        errors.extend(each(format!("{field}.name"), name, text::dns_label(name)));
    }
    let image = container.text("/image");
    if image.is_empty() {
        errors.push(required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        let text = "must not have leading or trailing whitespace";
        errors.push(invalid(format!("{field}.image"), image, text));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        errors.extend(validate_probe(container.at(&format!("/{probe}")), field, probe));
    }
    let policies: [(&str, &[&str]); 2] = [
        ("terminationMessagePolicy", &["FallbackToLogsOnError", "File"]),
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ];
    for (name, known) in policies {
        let value = container.text(&format!("/{name}"));
        let field = format!("{field}.{name}");
        if value.is_empty() {
            errors.push(required(field, ""));
        } else if !known.contains(&value) {
            errors.push(not_supported(field, value, known));
        }
    }
    errors.extend(validate_ports(container, field));
    errors.extend(validate_env(container, field));
    errors.extend(validate_mounts(container, field, volumes));
    errors.extend(validate_resources(container, field));
    errors
}

fn validate_ports(container: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, port) in container.list("/ports").iter().enumerate() {
        let field = format!("{field}.ports[{index}]");
        let name = port.text("/name");
        if !name.is_empty() {
            let why = text::port_name(name);
            if !why.is_empty() {
                errors.extend(each(format!("{field}.name"), name, why));
            } else if !names.insert(name) {
                errors.push(duplicate(format!("{field}.name"), name));
            }
        }
        let number = port.int("/containerPort");
        if number == 0 {
            errors.push(required(format!("{field}.containerPort"), ""));
        } else {
            let why = text::port_number(number);
            errors.extend(each(format!("{field}.containerPort"), number, why));
        }
        let host = port.int("/hostPort");
        if host != 0 {
            errors.extend(each(format!("{field}.hostPort"), host, text::port_number(host)));
        }
        errors.extend(validate_protocol(port, &field));
    }
    errors
}

fn validate_env(container: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, variable) in container.list("/env").iter().enumerate() {
        let field = format!("{field}.env[{index}]");
        let name = variable.text("/name");
        if name.is_empty() {
            errors.push(required(format!("{field}.name"), ""));
        } else {
            errors.extend(each(format!("{field}.name"), name, text::env_name(name)));
        }
        if variable.has("/valueFrom") && !variable.text("/value").is_empty() {
            let text = "may not be specified when `value` is not empty";
            errors.push(invalid(format!("{field}.valueFrom"), "", text));
        }
    }
    errors
}

fn validate_mounts(container: &Value, field: &str, volumes: &BTreeSet<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut paths = BTreeSet::new();
    for (index, mount) in container.list("/volumeMounts").iter().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        let name = mount.text("/name");
        if name.is_empty() {
            errors.push(required(format!("{field}.name"), ""));
        } else if !volumes.contains(name) {
            errors.push(not_found(format!("{field}.name"), name));
        }
        let path = mount.text("/mountPath");
        if path.is_empty() {
            errors.push(required(format!("{field}.mountPath"), ""));
        } else if !paths.insert(path) {
            errors.push(invalid(format!("{field}.mountPath"), path, "must be unique"));
        }
    }
    errors
}

fn validate_probe(probe: &Value, field: &str, name: &str) -> Vec<FieldError> {
    if probe.is_null() {
        return Vec::new();
    }
    let field = format!("{field}.{name}");
    let mut errors = Vec::new();
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    if !handlers.iter().any(|handler| probe.has(&format!("/{handler}"))) {
        errors.push(required(field.as_str(), "must specify a handler type"));
    }
    for handler in ["httpGet", "tcpSocket"] {
        match probe.at(&format!("/{handler}/port")) {
            Value::Null => {}
            Value::String(port) => {
                let field = format!("{field}.{handler}.port");
                errors.extend(each(field, port.as_str(), text::port_name(port)));
            }
            port => {
                let port = port.as_i64().unwrap_or(0);
                let field = format!("{field}.{handler}.port");
                errors.extend(each(field, port, text::port_number(port)));
            }
        }
    }
    let counts = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    for count in counts {
        let value = probe.int(&format!("/{count}"));
        if value < 0 {
            let text = "must be greater than or equal to 0";
            errors.push(invalid(format!("{field}.{count}"), value, text));
        }
    }
    if name != "readinessProbe" && probe.int("/successThreshold") > 1 {
        let value = probe.int("/successThreshold");
        errors.push(invalid(format!("{field}.successThreshold"), value, "must be 1"));
    }
    errors
}
