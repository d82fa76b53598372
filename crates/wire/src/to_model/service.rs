//! Services.

use std::net::IpAddr;

use model::{
    Affinity, ClusterIps, Family, FamilyPolicy, Ingress, IpMode, IpNet, LoadBalancer, Service,
    ServicePort, ServiceType, TargetPort, TrafficDistribution, TrafficPolicy,
};
use serde_json::Value;

use super::{Rejected, meta, parse, rejected};
use crate::rules::fields::Fields;
use crate::rules::service::RANGES_ANNOTATION;
use crate::rules::workload::labels;

/// Resets TCP connections to endpoints that are gone, if it is `true`.
const RESET_ANNOTATION: &str = "portolan.dev/reset-connections";

/// A defaulted Service.
pub(super) fn service(value: &Value) -> Result<Service, Rejected> {
    let cluster_ips = cluster_ips(value);
    Ok(Service {
        meta: meta(value)?,
        kind: kind(value)?,
        families: families(value, &cluster_ips),
        cluster_ips,
        family_policy: match value.text("/spec/ipFamilyPolicy") {
            "PreferDualStack" => FamilyPolicy::PreferDualStack,
            "RequireDualStack" => FamilyPolicy::RequireDualStack,
            _ => FamilyPolicy::SingleStack,
        },
        ports: value.list("/spec/ports").iter().filter_map(port).collect(),
        selector: labels(value.at("/spec/selector")),
        external_ips: addresses(value, "/spec/externalIPs"),
        external_traffic_policy: policy(value, "/spec/externalTrafficPolicy"),
        internal_traffic_policy: policy(value, "/spec/internalTrafficPolicy"),
        session_affinity: affinity(value),
        health_check_node_port: parse::port(value.at("/spec/healthCheckNodePort")),
        publish_not_ready_addresses: value.flag("/spec/publishNotReadyAddresses"),
        traffic_distribution: match value.text("/spec/trafficDistribution") {
            "PreferClose" => Some(TrafficDistribution::PreferClose),
            "PreferSameZone" => Some(TrafficDistribution::PreferSameZone),
            "PreferSameNode" => Some(TrafficDistribution::PreferSameNode),
            _ => None,
        },
        reset_connections: value.at("/metadata/annotations").get(RESET_ANNOTATION)
            == Some(&Value::from("true")),
    })
}

fn kind(value: &Value) -> Result<ServiceType, Rejected> {
    Ok(match value.text("/spec/type") {
        "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer(load_balancer(value)),
        "ExternalName" => {
            let name = value.text("/spec/externalName");
            ServiceType::ExternalName(name.strip_suffix('.').unwrap_or(name).to_owned())
        }
        other => return Err(rejected(value, format!("spec.type is {other:?}, which is unknown"))),
    })
}

fn load_balancer(value: &Value) -> LoadBalancer {
    LoadBalancer {
        class: value.at("/spec/loadBalancerClass").as_str().map(str::to_owned),
        requested: parse::address(value.text("/spec/loadBalancerIP")),
        source_ranges: source_ranges(value),
        allocate_node_ports: value
            .at("/spec/allocateLoadBalancerNodePorts")
            .as_bool()
            .unwrap_or(true),
        ingress: value.list("/status/loadBalancer/ingress").iter().filter_map(ingress).collect(),
    }
}

/// The field, or the older annotation where the field is empty.
fn source_ranges(value: &Value) -> Vec<IpNet> {
    let mut ranges = value.texts("/spec/loadBalancerSourceRanges");
    if ranges.is_empty() {
        let annotation = value.at("/metadata/annotations").get(RANGES_ANNOTATION);
        let text = annotation.and_then(Value::as_str).unwrap_or("");
        ranges = text.split(',').collect();
    }
    ranges.into_iter().filter_map(parse::cidr).collect()
}

fn ingress(value: &Value) -> Option<Ingress> {
    let mode = if value.text("/ipMode") == "Proxy" { IpMode::Proxy } else { IpMode::Vip };
    if let Some(address) = parse::address(value.text("/ip")) {
        return Some(Ingress::Ip(address, mode));
    }
    let hostname = value.text("/hostname");
    (!hostname.is_empty()).then(|| Ingress::Hostname(hostname.to_owned()))
}

fn cluster_ips(value: &Value) -> ClusterIps {
    let mut list = value.texts("/spec/clusterIPs");
    if list.is_empty() {
        list.push(value.text("/spec/clusterIP"));
    }
    if list.first() == Some(&"None") {
        return ClusterIps::Headless;
    }
    let addresses: Vec<IpAddr> = list.into_iter().filter_map(parse::address).collect();
    if addresses.is_empty() { ClusterIps::Unassigned } else { ClusterIps::Assigned(addresses) }
}

/// The field, or what the cluster IPs say.
fn families(value: &Value, cluster_ips: &ClusterIps) -> Vec<Family> {
    let family = |text: &str| match text {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    };
    let families: Vec<Family> =
        value.texts("/spec/ipFamilies").into_iter().filter_map(family).collect();
    if !families.is_empty() {
        return families;
    }
    cluster_ips.addresses().iter().map(|address| Family::of(*address)).collect()
}

fn port(value: &Value) -> Option<ServicePort> {
    let port = parse::port(value.at("/port"))?;
    let target = match value.at("/targetPort") {
        Value::String(name) if !name.is_empty() => TargetPort::Name(name.as_str().into()),
        number => TargetPort::Number(parse::port(number).unwrap_or(port)),
    };
    Some(ServicePort {
        name: value.text("/name").into(),
        protocol: parse::protocol(value.text("/protocol"))?,
        port,
        target,
        node_port: parse::port(value.at("/nodePort")),
        app_protocol: value.at("/appProtocol").as_str().map(str::to_owned),
    })
}

fn affinity(value: &Value) -> Option<Affinity> {
    let seconds = value.int("/spec/sessionAffinityConfig/clientIP/timeoutSeconds");
    let timeout_seconds = u32::try_from(seconds).ok()?;
    (value.text("/spec/sessionAffinity") == "ClientIP").then_some(Affinity { timeout_seconds })
}

fn policy(value: &Value, pointer: &str) -> TrafficPolicy {
    if value.text(pointer) == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn addresses(value: &Value, pointer: &str) -> Vec<IpAddr> {
    value.texts(pointer).into_iter().filter_map(parse::address).collect()
}
