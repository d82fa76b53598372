//! `core/v1` Node.

use serde_json::{Value, json};

use super::error::{duplicate, each, forbidden, invalid, not_supported, required};
use super::fields::{Fields, copy, remove, set};
use super::{ip, meta, text};
use crate::kinds::Env;
use crate::status::FieldError;

/// `podCIDR` and the first of `podCIDRs` are one; where they differ the former counts.
pub(crate) fn default(node: &mut Value, _: &Env) {
    for field in ["spec", "status"] {
        if !node.has(&format!("/{field}")) {
            set(node, &format!("/{field}"), json!({}));
        }
    }
    let single = node.text("/spec/podCIDR").to_owned();
    let first = node.texts("/spec/podCIDRs").first().map(|cidr| (*cidr).to_owned());
    match first {
        Some(first) if single.is_empty() => set(node, "/spec/podCIDR", first),
        Some(first) if first == single => {}
        _ if !single.is_empty() => set(node, "/spec/podCIDRs", json!([single])),
        _ => {}
    }
    if !node.has("/status/daemonEndpoints") {
        let none = json!({ "kubeletEndpoint": { "Port": 0 } });
        set(node, "/status/daemonEndpoints", none);
    }
    for name in INFO {
        let pointer = format!("/status/nodeInfo/{name}");
        if !node.has(&pointer) {
            set(node, &pointer, "");
        }
    }
}

/// A new Node takes no pods until it is ready (admission plugin TaintNodesByCondition).
pub(crate) fn prepare_create(node: &mut Value, _: &Env) {
    // Dynamic configuration of kubelets is gone from Kubernetes.
    remove(node, "/spec/configSource");
    let mut taints = node.list("/spec/taints").to_vec();
    let known =
        |taint: &Value| (taint.text("/key"), taint.text("/effect")) == (NOT_READY, "NoSchedule");
    if !taints.iter().any(known) {
        taints.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
    }
    set(node, "/spec/taints", taints);
}

/// A changed Node keeps its status.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    copy(new, old, "status");
}

/// All errors of a new Node.
pub(crate) fn validate_create(node: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(node, false, text::dns_subdomain);
    errors.extend(validate_taints(node));
    let cidrs = node.texts("/spec/podCIDRs");
    for (index, cidr) in cidrs.iter().enumerate() {
        errors.extend(each(format!("spec.podCIDRs[{index}]"), *cidr, ip::cidr(cidr)));
    }
    let family = |cidr: &&str| ip::parse_cidr_sloppy(cidr).map(|net| net.addr().is_ipv4());
    if cidrs.len() > 2 || (cidrs.len() == 2 && family(&cidrs[0]) == family(&cidrs[1])) {
        let text = "may specify no more than one CIDR for each IP family";
        errors.push(invalid("spec.podCIDRs", node.at("/spec/podCIDRs").clone(), text));
    }
    errors
}

/// All errors of a changed Node.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let cidrs = (new.list("/spec/podCIDRs"), old.list("/spec/podCIDRs"));
    if !cidrs.1.is_empty() && cidrs.0 != cidrs.1 {
        let text = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(forbidden("spec.podCIDRs", text));
    }
    let ids = (new.text("/spec/providerID"), old.text("/spec/providerID"));
    if !ids.1.is_empty() && ids.0 != ids.1 {
        let text = "node updates may not change providerID except from \"\" to valid";
        errors.push(forbidden("spec.providerID", text));
    }
    errors.extend(validate_create(new, env));
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    for (index, address) in new.list("/status/addresses").iter().enumerate() {
        let pair = (address.text("/type"), address.text("/address"));
        let earlier = &new.list("/status/addresses")[..index];
        if earlier.iter().any(|known| (known.text("/type"), known.text("/address")) == pair) {
            let field = format!("status.addresses[{index}]");
            errors.push(duplicate(field, address.clone()));
        }
    }
    errors
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(node: &Value) -> Vec<(&'static str, String)> {
    vec![("spec.unschedulable", node.flag("/spec/unschedulable").to_string())]
}

fn validate_taints(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, taint) in node.list("/spec/taints").iter().enumerate() {
        let field = format!("spec.taints[{index}]");
        let key = taint.text("/key");
        errors.extend(each(format!("{field}.key"), key, text::qualified_name(key)));
        let value = taint.text("/value");
        errors.extend(each(format!("{field}.value"), value, text::label_value(value)));
        let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
        match taint.text("/effect") {
            "" => errors.push(required(format!("{field}.effect"), "")),
            effect if !effects.contains(&effect) => {
                errors.push(not_supported(format!("{field}.effect"), effect, &effects));
            }
            _ => {}
        }
        let pair =
            |taint: &Value| (taint.text("/key").to_owned(), taint.text("/effect").to_owned());
        if node.list("/spec/taints")[..index].iter().any(|other| pair(other) == pair(taint)) {
            errors.push(duplicate_taint(field, taint));
        }
    }
    errors
}

fn duplicate_taint(field: String, taint: &Value) -> FieldError {
    let mut error = duplicate(field, taint.clone());
    error.message.push_str(": taints must be unique by key and effect pair");
    error
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const INFO: [&str; 10] = [
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
];
