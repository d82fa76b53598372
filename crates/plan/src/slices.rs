//! EndpointSlices of Services with a selector (semantics 3.1 to 3.5).

use std::collections::BTreeSet;

use model::{
    AddressType, Cluster, Conditions, Endpoint, EndpointSlice, Family, Hints, Labels, Meta, Owner,
    Pod, PodName, Reason, Report, Service, ServiceName, ServiceType, Timestamp,
    TrafficDistribution,
};

use crate::Reconciled;
use crate::packing::{Groups, Packed, Packer};
use crate::selected::{
    HEADLESS, has_address, has_cluster_ip, hostname_of, ports_of, selected, target_of,
};
use crate::time::rfc3339;
use crate::topology;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// When the change that led to the write happened; feeds the network programming latency.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Most endpoints in a slice, as upstream's default.
const MAX_ENDPOINTS: usize = 100;

/// Brings the slices of a Service in line with its pods. For a Service that is gone or has no
/// selector there is nothing to do: garbage collection removes what it left (C1).
pub fn slices(cluster: &Cluster, name: &ServiceName) -> Reconciled {
    let mut result = Reconciled::default();
    let Some(service) = cluster.services.get(name) else { return result };
    if matches!(service.kind, ServiceType::ExternalName(_)) || service.selector.is_empty() {
        return result;
    }
    let existing: Vec<&EndpointSlice> =
        cluster.slices_of(name).map(|slice| &**slice).filter(|slice| is_ours(slice)).collect();
    let mut packed = Vec::new();
    let mut events = Vec::new();
    for address_type in address_types(service, &existing) {
        let of_type: Vec<&EndpointSlice> =
            existing.iter().copied().filter(|slice| slice.address_type == address_type).collect();
        let template = template(service, address_type);
        let family = match address_type {
            AddressType::Ip(family) if service.families.contains(&family) => Some(family),
            _ => None,
        };
        let packer = Packer {
            template: &template,
            max: MAX_ENDPOINTS,
            placeholder: family.is_some(),
            owns_annotations: false,
            // C11.
            may_create: service.meta.deleting.is_none(),
        };
        let mut groups = family
            .map(|family| groups(cluster, service, family, &mut result.report))
            .unwrap_or_default();
        if let Some(family) = family
            && topology::is_auto(&service.meta.annotations)
        {
            let outcome = share_out(cluster, &mut groups);
            events.extend(topology::event(service, family, &of_type, &outcome));
            result.report.extend(outcome.err().map(Reason::Other));
        }
        packed.push(packer.pack(&of_type, groups));
    }
    let trigger = trigger_time(cluster, service, existing.is_empty(), &packed).map(rfc3339);
    for packed in packed {
        result.writes.extend(packed.into_writes(TRIGGER_TIME, trigger.as_deref()));
    }
    if !result.writes.is_empty() {
        result.writes.extend(events);
    }
    result
}

/// Slices of other managers are left alone, and so are those that are on their way out (C10).
fn is_ours(slice: &EndpointSlice) -> bool {
    slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == CONTROLLER)
        && slice.meta.deleting.is_none()
}

/// The wanted families first, then types that are left over from before (C5).
fn address_types(service: &Service, existing: &[&EndpointSlice]) -> BTreeSet<AddressType> {
    let wanted = service.families.iter().map(|family| AddressType::Ip(*family));
    wanted.chain(existing.iter().map(|slice| slice.address_type)).collect()
}

fn template(service: &Service, address_type: AddressType) -> EndpointSlice {
    let mut meta = Meta::new(service.meta.namespace.clone(), "");
    meta.labels = labels(service);
    meta.owners.push(Owner {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: service.meta.name.clone(),
        uid: service.meta.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    });
    EndpointSlice {
        meta,
        service: Some(service.name()),
        address_type,
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

/// The Service's labels, but for those that mean something on slices (C9).
fn labels(service: &Service) -> Labels {
    let mut labels = service.meta.labels.clone();
    labels.remove(HEADLESS);
    if !has_cluster_ip(service) {
        // C13.
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.meta.name.to_string());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

/// The endpoints of one family, grouped by the ports they resolve to (C3, C6).
fn groups(cluster: &Cluster, service: &Service, family: Family, report: &mut Report) -> Groups {
    let mut groups = Groups::new();
    let pods = selected(cluster, &service.meta.namespace, &service.selector);
    for pod in pods.filter(|pod| has_address(pod)) {
        let node = pod.node.as_ref().and_then(|node| cluster.nodes.get(node));
        if node.is_none() && !service.publish_not_ready_addresses {
            report.push(Reason::Other(format!(
                "pod {} is left out: its node is not known",
                pod.name()
            )));
            continue;
        }
        let mut endpoint = endpoint(pod, service, family);
        if endpoint.addresses.is_empty() {
            continue;
        }
        endpoint.zone = node.and_then(|node| node.zone());
        endpoint.hints = hints(service, &endpoint);
        let ports = ports_of(pod, service);
        let group = groups.entry(ports.iter().cloned().collect()).or_default();
        group.ports = ports;
        group.endpoints.push(endpoint);
    }
    groups
}

/// A pod as an endpoint (semantics 3.2), still without zone and hints (C4, C12).
fn endpoint(pod: &Pod, service: &Service, family: Family) -> Endpoint {
    let terminating = pod.meta.deleting.is_some();
    let of_family = |address: &_| Family::of(*address) == family;
    Endpoint {
        addresses: pod.ips.iter().copied().filter(of_family).collect(),
        conditions: Conditions {
            ready: service.publish_not_ready_addresses || (pod.ready && !terminating),
            serving: pod.ready,
            terminating,
        },
        node: pod.node.clone(),
        zone: None,
        hostname: hostname_of(pod, service),
        target: Some(Box::new(target_of(pod))),
        hints: Hints::default(),
    }
}

/// Hints by zone for all endpoints of a family, whatever their ports.
fn share_out(cluster: &Cluster, groups: &mut Groups) -> Result<(), String> {
    let mut endpoints: Vec<&mut Endpoint> =
        groups.values_mut().flat_map(|group| &mut group.endpoints).collect();
    topology::share_out(cluster, &mut endpoints)
}

/// Hints by `trafficDistribution` (KEP-4444, KEP-3015): only ready endpoints with a zone have any.
/// C14.
fn hints(service: &Service, endpoint: &Endpoint) -> Hints {
    let mut hints = Hints::default();
    let Some(distribution) = service.traffic_distribution else { return hints };
    if !endpoint.conditions.ready || topology::is_auto(&service.meta.annotations) {
        return hints;
    }
    hints.zones = endpoint.zone.clone().into_iter().collect();
    if distribution == TrafficDistribution::PreferSameNode {
        hints.nodes = endpoint.node.clone().into_iter().collect();
    }
    hints
}

/// When what these writes are about happened: the earliest readiness change of the pods concerned,
/// and for the first slices the creation of the Service. `None` when nothing tells.
fn trigger_time(
    cluster: &Cluster,
    service: &Service,
    is_first: bool,
    packed: &[Packed],
) -> Option<Timestamp> {
    let changed = packed.iter().flat_map(|packed| &packed.changed);
    let pods = changed.filter_map(|endpoint| {
        let target = endpoint.target.as_ref()?;
        cluster.pods.get(&PodName::new(target.namespace.clone(), target.name.clone()))
    });
    let changes = pods.map(|pod| pod.meta.deleting.unwrap_or(pod.ready_since));
    let created = is_first.then_some(service.meta.created);
    changes.chain(created).filter(|time| *time != Timestamp::default()).min()
}
