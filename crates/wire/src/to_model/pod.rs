//! Pods.

use model::{ContainerPort, Pod, PodPhase};
use serde_json::Value;

use super::{Rejected, meta, parse, placement};
use crate::rules::fields::Fields;

/// A defaulted Pod.
pub(super) fn pod(value: &Value) -> Result<Pod, Rejected> {
    let ready = parse::condition(value, "Ready");
    let since = ready.and_then(|ready| parse::time(ready.text("/lastTransitionTime")));
    Ok(Pod {
        meta: meta(value)?,
        node: parse::name(value.at("/spec/nodeName")),
        placement: placement::placement(value),
        tolerations: value.list("/spec/tolerations").iter().map(toleration).collect(),
        host_network: value.flag("/spec/hostNetwork"),
        hostname: parse::name(value.at("/spec/hostname")),
        subdomain: parse::name(value.at("/spec/subdomain")),
        ports: ports(value),
        ips: value
            .list("/status/podIPs")
            .iter()
            .filter_map(|entry| parse::address(entry.text("/ip")))
            .collect(),
        phase: match value.text("/status/phase") {
            "Running" => PodPhase::Running,
            "Succeeded" => PodPhase::Succeeded,
            "Failed" => PodPhase::Failed,
            "Unknown" => PodPhase::Unknown,
            _ => PodPhase::Pending,
        },
        unschedulable: unschedulable(value),
        ready: ready.is_some_and(|ready| ready.text("/status") == "True"),
        ready_since: since.unwrap_or_default(),
    })
}

/// Ports of containers, and of init containers that run beside them.
fn ports(value: &Value) -> Vec<ContainerPort> {
    let sidecars = value
        .list("/spec/initContainers")
        .iter()
        .filter(|container| container.text("/restartPolicy") == "Always");
    let containers = value.list("/spec/containers").iter().chain(sidecars);
    let port = |value: &Value| {
        Some(ContainerPort {
            name: value.text("/name").into(),
            protocol: parse::protocol(value.text("/protocol"))?,
            port: parse::port(value.at("/containerPort"))?,
        })
    };
    containers.flat_map(|container| container.list("/ports")).filter_map(port).collect()
}

fn toleration(value: &Value) -> String {
    let (key, effect) = (value.text("/key"), value.text("/effect"));
    if value.text("/operator") == "Exists" {
        format!("{key}:{effect}")
    } else {
        format!("{key}={}:{effect}", value.text("/value"))
    }
}

fn unschedulable(value: &Value) -> Option<String> {
    let condition = parse::condition(value, "PodScheduled")?;
    let refused =
        condition.text("/status") == "False" && condition.text("/reason") == "Unschedulable";
    refused.then(|| condition.text("/message").to_owned())
}
