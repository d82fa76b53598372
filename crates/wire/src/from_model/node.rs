//! Nodes.

use model::{IpNet, Meta, Name, Uid};
use serde_json::{Value, json};

use super::{Call, path};

/// Says that a node does not report any more.
pub(super) fn unreachable(name: &Name, uid: &Uid) -> Call {
    let condition = json!({
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
    });
    let body = json!({
        "metadata": { "uid": uid.as_str() }, "status": { "conditions": [condition] },
    });
    Call::strategic(format!("{}/status", path("", "v1", "", "nodes", name)), body)
}

/// Replaces the taints.
pub(super) fn taints(meta: &Meta, taints: &[String]) -> Call {
    let taints: Vec<Value> = taints.iter().map(|text| taint(text)).collect();
    let body = json!({
        "metadata": {
            "uid": meta.uid.as_str(), "resourceVersion": meta.resource_version.as_str(),
        },
        "spec": { "taints": taints },
    });
    Call::merge(path("", "v1", "", "nodes", &meta.name), body)
}

/// Gives the node its ranges of pod addresses.
pub(super) fn pod_cidrs(meta: &Meta, cidrs: &[IpNet]) -> Call {
    let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    let body = json!({
        "metadata": {
            "uid": meta.uid.as_str(), "resourceVersion": meta.resource_version.as_str(),
        },
        "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs },
    });
    Call::merge(path("", "v1", "", "nodes", &meta.name), body)
}

fn taint(text: &str) -> Value {
    let (rest, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    let mut taint = json!({ "key": key, "effect": effect });
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    taint
}
