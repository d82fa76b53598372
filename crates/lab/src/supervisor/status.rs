//! The table of nodes and Services, and the question whether everything answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::{Lab, manifests};
use crate::config::AddressPlan;
use crate::control::{NodeStatus, PortStatus, ServiceStatus, Status};
use crate::net::Namespace;
use crate::view::{Kind, key};

/// How long a connection that must succeed may take before it is tried again.
const ATTEMPT: Duration = Duration::from_millis(250);
/// The pause after a refused connection: no event tells that a kernel on the way has changed.
const PAUSE: Duration = Duration::from_millis(5);

/// The lab as it is now.
pub(super) fn status(lab: &Lab) -> Status {
    with_memory(table(lab))
}

/// All but the memory, which always changes.
pub(super) fn table(lab: &Lab) -> Status {
    Status {
        state_dir: lab.state.path.clone(),
        kubeconfig: lab.state.kubeconfig(),
        api_url: lab.api_url.clone(),
        nodes: (0..lab.config.nodes).map(|index| node(lab, index)).collect(),
        services: lab.view.all(Kind::Service).iter().map(|object| service(lab, object)).collect(),
        memory_bytes: 0,
    }
}

/// Adds the memory.
pub(super) fn with_memory(table: Status) -> Status {
    Status { memory_bytes: resident_memory(), ..table }
}

/// What is still missing before all applied objects are there and ready, in words.
pub(super) fn missing(lab: &Lab) -> Vec<String> {
    let mut missing = Vec::new();
    for index in 0..lab.config.nodes {
        let node = node(lab, index);
        if node.running && !node.ready {
            missing.push(format!("{} is not ready", node.name));
        }
    }
    missing.extend(
        lab.config
            .manifests
            .iter()
            .chain(&manifests::dns())
            .filter_map(|object| unready(lab, object)),
    );
    for object in applied_services(lab) {
        let service = service(lab, &object);
        let name = manifests::title(&object);
        let selects =
            object["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty());
        if selects && service.ready_endpoints == 0 {
            missing.push(format!("{name} has no ready endpoint"));
        }
        if service.kind == "LoadBalancer" && service.external_ips.is_empty() {
            missing.push(format!("{name} has no load balancer address"));
        }
    }
    missing
}

/// What an applied Deployment still lacks.
fn unready(lab: &Lab, object: &Value) -> Option<String> {
    if object["kind"] != "Deployment" {
        return None;
    }
    let wanted =
        usize::try_from(object["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(usize::MAX);
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let selected = |pod: &Value| {
        let own = &pod["metadata"];
        own["namespace"] == namespace
            && labels.is_some_and(|labels| {
                labels.iter().all(|(key, value)| own["labels"][key] == *value)
            })
    };
    let ready = lab.view.all(Kind::Pod).iter().filter(|pod| selected(pod) && is_ready(pod)).count();
    (ready < wanted)
        .then(|| format!("{} has {ready} of {wanted} pods ready", manifests::title(object)))
}

/// Whether a Node or Pod has the condition Ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Waits until nothing is missing and every TCP port of the applied Services takes connections
/// where it should: node ports and load balancers from the client, cluster addresses from node1.
pub(super) async fn wait_until_served(lab: &Lab) {
    let mut changes = lab.view.changes();
    // Something is always missing before every applied Service has come back from the API.
    while !missing(lab).is_empty() || applied_services(lab).len() < wanted_services(lab).len() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    lab.step("nodes and endpoints ready");
    let targets: Vec<_> =
        applied_services(lab).iter().flat_map(|object| targets(lab, object)).collect();
    futures::future::join_all(targets.iter().map(|(from, to)| answers(from, *to))).await;
}

async fn answers(from: &Namespace, to: SocketAddr) {
    while !matches!(tokio::time::timeout(ATTEMPT, from.connect(to)).await, Ok(Ok(_))) {
        tokio::time::sleep(PAUSE).await;
    }
}

fn targets(lab: &Lab, object: &Value) -> Vec<(Namespace, SocketAddr)> {
    let topology = lab.topology.borrow();
    let service = service(lab, object);
    let mut targets = Vec::new();
    if service.ready_endpoints == 0 {
        return targets;
    }
    for port in service.ports.iter().filter(|port| port.protocol == "TCP") {
        let parse = |text: &String| text.parse::<IpAddr>().ok();
        for address in service.external_ips.iter().filter_map(parse) {
            targets.push((topology.client.clone(), SocketAddr::new(address, port.port)));
        }
        if let Some(node_port) = port.node_port {
            let running = (0..lab.config.nodes).filter(|index| topology.node(*index).is_some());
            targets.extend(running.map(|index| {
                (topology.client.clone(), SocketAddr::new(AddressPlan::node(index)[0], node_port))
            }));
        }
        if let Some(node) = topology.node(0) {
            targets.extend(
                service
                    .cluster_ips
                    .iter()
                    .filter_map(parse)
                    .map(|address| (node.clone(), SocketAddr::new(address, port.port))),
            );
        }
    }
    targets
}

/// Namespace and name of the Services that `up` applies.
fn wanted_services(lab: &Lab) -> Vec<(String, String)> {
    let dns = manifests::dns();
    let services =
        lab.config.manifests.iter().chain(&dns).filter(|object| object["kind"] == "Service");
    services
        .map(|object| {
            let (namespace, name) = key(object);
            (if namespace.is_empty() { "default".to_owned() } else { namespace }, name)
        })
        .collect()
}

fn applied_services(lab: &Lab) -> Vec<std::rc::Rc<Value>> {
    wanted_services(lab)
        .iter()
        .filter_map(|(namespace, name)| lab.view.get(Kind::Service, namespace, name))
        .collect()
}

fn node(lab: &Lab, index: u16) -> NodeStatus {
    let name = AddressPlan::node_name(index);
    let nodes = lab.nodes.borrow();
    let running = nodes.get(&index);
    let object = lab.view.get(Kind::Node, "", &name);
    let ready = object.is_some_and(|node| is_ready(&node));
    NodeStatus {
        addresses: AddressPlan::node(index).to_vec(),
        running: running.is_some(),
        ready,
        pods: running.map_or(0, |node| node.kubelet().pod_count()),
        name,
    }
}

/// A Service and what is known about it.
pub(super) fn service(lab: &Lab, object: &Value) -> ServiceStatus {
    let (namespace, name) = key(object);
    let spec = &object["spec"];
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| Some(text.as_str()?.to_owned()))
            .collect()
    };
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        let number = |field: &str| {
            port[field]
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0)
        };
        Some(PortStatus {
            name: port["name"].as_str().unwrap_or_default().to_owned(),
            protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
            port: number("port")?,
            node_port: number("nodePort"),
        })
    };
    ServiceStatus {
        kind: spec["type"].as_str().unwrap_or("ClusterIP").to_owned(),
        cluster_ips: texts(&spec["clusterIPs"])
            .into_iter()
            .filter(|address| address != "None")
            .collect(),
        external_ips: ingress
            .filter_map(|ingress| Some(ingress["ip"].as_str()?.to_owned()))
            .collect(),
        ports: spec["ports"].as_array().into_iter().flatten().filter_map(port).collect(),
        ready_endpoints: ready_endpoints(lab, &namespace, &name),
        urls: lab.urls.of(&namespace, &name),
        namespace,
        name,
    }
}

/// Distinct ready endpoints; an endpoint with two addresses stands in two slices and counts once.
fn ready_endpoints(lab: &Lab, namespace: &str, service: &str) -> usize {
    let mut per_family = std::collections::BTreeMap::<String, usize>::new();
    for slice in lab.view.all(Kind::EndpointSlice) {
        let metadata = &slice["metadata"];
        if metadata["namespace"] != namespace
            || metadata["labels"]["kubernetes.io/service-name"] != service
        {
            continue;
        }
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"].as_bool().unwrap_or(true))
            .count();
        *per_family.entry(slice["addressType"].to_string()).or_default() += ready;
    }
    per_family.into_values().max().unwrap_or(0)
}

/// Resident memory of every process of the lab's pid namespace, in bytes.
fn resident_memory() -> u64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}
