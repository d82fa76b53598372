//! Nodes and ServiceCIDRs.

use model::{Node, NodeCondition, ServiceCidr};
use serde_json::Value;

use super::{Rejected, meta, parse, placement};
use crate::rules::fields::Fields;

/// A defaulted Node.
pub(super) fn node(value: &Value) -> Result<Node, Rejected> {
    let internal = |address: &&Value| address.text("/type") == "InternalIP";
    let addresses = value.list("/status/addresses").iter().filter(internal);
    Ok(Node {
        meta: meta(value)?,
        internal_ips: addresses
            .filter_map(|address| parse::address(address.text("/address")))
            .collect(),
        pod_cidrs: value.texts("/spec/podCIDRs").into_iter().filter_map(parse::cidr).collect(),
        unschedulable: value.flag("/spec/unschedulable"),
        taints: value.list("/spec/taints").iter().map(taint).collect(),
        ready: ready(value),
        allocatable: placement::resources(value.at("/status/allocatable")),
    })
}

/// A defaulted ServiceCIDR; without condition Ready it counts as ready (semantics 2.2).
pub(super) fn service_cidr(value: &Value) -> Result<ServiceCidr, Rejected> {
    let ready = parse::condition(value, "Ready");
    Ok(ServiceCidr {
        meta: meta(value)?,
        cidrs: value.texts("/spec/cidrs").into_iter().filter_map(parse::cidr).collect(),
        ready: ready.is_none_or(|condition| condition.text("/status") != "False"),
    })
}

fn taint(value: &Value) -> String {
    format!("{}={}:{}", value.text("/key"), value.text("/value"), value.text("/effect"))
}

fn ready(value: &Value) -> NodeCondition {
    let condition = parse::condition(value, "Ready");
    match condition.map(|condition| condition.text("/status")) {
        Some("True") => NodeCondition::Ready,
        Some("False") => NodeCondition::NotReady,
        _ => {
            let heard = condition
                .and_then(|condition| parse::time(condition.text("/lastHeartbeatTime")))
                .unwrap_or_default();
            NodeCondition::Unknown { since: heard }
        }
    }
}
