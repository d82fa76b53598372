//! Services (S20).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NONE, created, labels, name, or_none};
use crate::rules::fields::Fields;

pub(in crate::kinds) fn service(service: &Value, now: i64) -> Vec<Value> {
    let cluster_ip = service.texts("/spec/clusterIPs").first().copied().unwrap_or(NONE).to_owned();
    let ports: Vec<String> = service.list("/spec/ports").iter().map(port).collect();
    vec![
        name(service),
        service.text("/spec/type").into(),
        cluster_ip.into(),
        external_ip(service).into(),
        or_none(ports.join(",")).into(),
        created(service, now),
        labels(service, "/spec/selector").into(),
    ]
}

fn port(port: &Value) -> String {
    let (number, protocol) = (port.int("/port"), port.text("/protocol"));
    match port.int("/nodePort") {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

fn external_ip(service: &Value) -> String {
    let external_ips = service.texts("/spec/externalIPs");
    match service.text("/spec/type") {
        "ClusterIP" | "NodePort" => or_none(external_ips.join(",")),
        "ExternalName" => service.text("/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let entry = |ingress: &'_ Value| match ingress.text("/ip") {
                "" => ingress.text("/hostname").to_owned(),
                address => address.to_owned(),
            };
            let ingresses: BTreeSet<String> = service
                .list("/status/loadBalancer/ingress")
                .iter()
                .map(entry)
                .filter(|text| !text.is_empty())
                .collect();
            let all: Vec<String> =
                ingresses.into_iter().chain(external_ips.into_iter().map(str::to_owned)).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => "<unknown>".to_owned(),
    }
}
