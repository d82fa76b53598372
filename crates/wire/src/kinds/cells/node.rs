//! Nodes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NONE, created, name, or_none};
use crate::rules::fields::Fields;

pub(in crate::kinds) fn node(node: &Value, now: i64) -> Vec<Value> {
    let info = |field: &str| node.text(&format!("/status/nodeInfo/{field}"));
    let known = |field: &str| match info(field) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    vec![
        name(node),
        status(node).into(),
        roles(node).into(),
        created(node, now),
        info("kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        known("osImage").into(),
        known("kernelVersion").into(),
        known("containerRuntimeVersion").into(),
    ]
}

fn status(node: &Value) -> String {
    let conditions = node.list("/status/conditions");
    let ready = conditions.iter().find(|condition| condition.text("/type") == "Ready");
    let ready = match ready.map(|condition| condition.text("/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = if node.flag("/spec/unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{closed}")
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&str, &Value)| {
        let role = match (key.strip_prefix("node-role.kubernetes.io/"), key) {
            (Some(role), _) => role.to_owned(),
            (None, "kubernetes.io/role") => value.as_str()?.to_owned(),
            _ => return None,
        };
        (!role.is_empty()).then_some(role)
    };
    let roles: BTreeSet<String> = node.map("/metadata/labels").filter_map(role).collect();
    or_none(roles.into_iter().collect::<Vec<_>>().join(","))
}

fn address(node: &Value, kind: &str) -> String {
    let addresses = node.list("/status/addresses");
    let address = addresses.iter().find(|address| address.text("/type") == kind);
    address.map_or(NONE, |address| address.text("/address")).to_owned()
}
