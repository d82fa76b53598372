//! Slices that mirror hand-made Endpoints objects (semantics 3.6).

use std::collections::BTreeSet;

use model::{
    AddressType, Cluster, Conditions, Endpoint, EndpointSlice, Endpoints, EndpointsAddress,
    EndpointsName, EndpointsSubset, Family, Hints, Labels, Meta, Owner, ServiceName, SlicePort,
    Write,
};

use crate::Reconciled;
use crate::events::Reporter;
use crate::packing::{Groups, Packer};

const REPORTER: Reporter = Reporter {
    api_version: "v1",
    kind: "Endpoints",
    component: "endpoint-slice-mirroring-controller",
};
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Most addresses of a subset that are mirrored, and most endpoints of a mirrored slice.
const MAX_ADDRESSES: usize = 1000;

/// Brings the mirrored slices of an Endpoints object in line with it, and removes them when the
/// object is gone, opted out, or its Service has a selector or is gone (C16).
pub fn mirroring(cluster: &Cluster, name: &EndpointsName) -> Reconciled {
    let mut result = Reconciled::default();
    let service = ServiceName::new(name.namespace.clone(), name.name.clone());
    let existing: Vec<&EndpointSlice> =
        cluster.slices_of(&service).map(|slice| &**slice).filter(|slice| is_ours(slice)).collect();
    let has_service = cluster
        .services
        .get(&service)
        .is_some_and(|service| service.selector.is_empty() && service.meta.deleting.is_none());
    let object = cluster.endpoints.get(name).filter(|object| has_service && is_mirrored(object));
    let Some(object) = object else {
        result.writes.extend(
            existing
                .into_iter()
                .map(|slice| Write::DeleteSlice(slice.name(), slice.meta.uid.clone())),
        );
        return result;
    };
    for family in Family::ALL {
        let template = template(object, service.clone(), family);
        let packer = Packer {
            template: &template,
            max: MAX_ADDRESSES,
            placeholder: false,
            owns_annotations: true,
            may_create: object.meta.deleting.is_none(),
        };
        let of_family: Vec<&EndpointSlice> = existing
            .iter()
            .copied()
            .filter(|slice| slice.address_type == AddressType::Ip(family))
            .collect();
        let packed = packer.pack(&of_family, groups(object, family));
        result.writes.extend(packed.into_writes(TRIGGER_TIME, None));
    }
    let skipped: usize = object.subsets.iter().map(too_many).sum();
    if skipped > 0 && !result.writes.is_empty() {
        result.writes.push(too_many_event(object, skipped));
    }
    result
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == CONTROLLER)
        && slice.meta.deleting.is_none()
}

/// Endpoints may opt out; those that serve as a lock of a leader election never were a Service's.
fn is_mirrored(object: &Endpoints) -> bool {
    let skips = object.meta.labels.get(SKIP_MIRROR).is_some_and(|value| value == "true");
    !skips && !object.meta.annotations.contains_key(LEADER)
}

fn template(object: &Endpoints, service: ServiceName, family: Family) -> EndpointSlice {
    let mut meta = Meta::new(object.meta.namespace.clone(), "");
    meta.labels = labels(object);
    meta.annotations = object.meta.annotations.clone();
    meta.annotations.remove(LAST_APPLIED);
    meta.annotations.remove(TRIGGER_TIME);
    meta.owners.push(Owner {
        api_version: "v1".into(),
        kind: "Endpoints".into(),
        name: object.meta.name.clone(),
        uid: object.meta.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    });
    EndpointSlice {
        meta,
        service: Some(service),
        address_type: AddressType::Ip(family),
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn labels(object: &Endpoints) -> Labels {
    let mut labels = object.meta.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), object.meta.name.to_string());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

/// One group per port list; addresses beyond the maximum are left out, ready ones first in.
fn groups(object: &Endpoints, family: Family) -> Groups {
    let mut groups = Groups::new();
    for subset in &object.subsets {
        let mut seen = BTreeSet::new();
        let endpoints: Vec<Endpoint> = mirrored(subset)
            .filter(|(address, _)| Family::of(address.ip) == family && seen.insert(address.ip))
            .map(|(address, ready)| endpoint(address, ready))
            .collect();
        if !endpoints.is_empty() {
            let ports = named(&subset.ports);
            let group = groups.entry(ports.iter().cloned().collect()).or_default();
            group.ports = ports;
            group.endpoints.extend(endpoints);
        }
    }
    groups
}

/// Endpoints leave out an empty name; a slice port without a name would be ignored.
fn named(ports: &[SlicePort]) -> Vec<SlicePort> {
    let named = |port: &SlicePort| {
        let name = port.name.clone().unwrap_or_else(|| "".into());
        SlicePort { name: Some(name), ..port.clone() }
    };
    ports.iter().map(named).collect()
}

fn mirrored(subset: &EndpointsSubset) -> impl Iterator<Item = (&EndpointsAddress, bool)> {
    let ready = subset.addresses.iter().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().map(|address| (address, false));
    ready.chain(not_ready).take(MAX_ADDRESSES)
}

/// C17.
fn too_many(subset: &EndpointsSubset) -> usize {
    (subset.addresses.len() + subset.not_ready_addresses.len()).saturating_sub(MAX_ADDRESSES)
}

fn endpoint(address: &EndpointsAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip],
        conditions: Conditions { ready, serving: ready, terminating: false },
        node: address.node.clone(),
        zone: None,
        hostname: address.hostname.clone(),
        target: address.target.clone().map(Box::new),
        hints: Hints::default(),
    }
}

fn too_many_event(object: &Endpoints, skipped: usize) -> Write {
    let text = format!(
        "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints \
         subset. {skipped} addresses were skipped"
    );
    REPORTER.warning(&object.meta, "TooManyAddressesToMirror", text)
}
