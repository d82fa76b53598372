//! EndpointSlices and Endpoints.

use model::{
    AddressType, Endpoint, EndpointSlice, Endpoints, EndpointsAddress, EndpointsSubset, Name,
    SlicePort, TargetRef,
};
use serde_json::{Map, Value, json};

use super::{Call, meta, path};

/// Creates a slice; without a name the server adds letters to the Service's.
pub(super) fn create_slice(slice: &EndpointSlice) -> Call {
    let mut body = slice_body(slice);
    if slice.meta.name.is_empty() {
        let stem = slice.service.as_ref().map_or("endpoints", |service| service.name.as_str());
        body["metadata"]["generateName"] = format!("{stem}-").into();
    }
    Call::post(path(GROUP, "v1", &slice.meta.namespace, "endpointslices", ""), body)
}

/// Replaces a slice that is still as it was read.
pub(super) fn update_slice(slice: &EndpointSlice) -> Call {
    let meta = &slice.meta;
    let path = path(GROUP, "v1", &meta.namespace, "endpointslices", &meta.name);
    Call::put(path, slice_body(slice))
}

/// Creates or replaces an Endpoints object.
pub(super) fn put(endpoints: &Endpoints) -> Call {
    let subsets: Vec<Value> = endpoints.subsets.iter().map(subset).collect();
    let body = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": meta::metadata(&endpoints.meta),
        "subsets": or_null(subsets),
    });
    let meta = &endpoints.meta;
    let mut created = body.clone();
    if let Some(metadata) = created["metadata"].as_object_mut() {
        metadata.remove("uid");
        metadata.remove("resourceVersion");
    }
    let all = path("", "v1", &meta.namespace, "endpoints", "");
    let mut call = Call::put(format!("{all}/{}", meta.name), body);
    call.if_missing = Some(Box::new(Call::post(all, created)));
    call
}

fn slice_body(slice: &EndpointSlice) -> Value {
    let address_type = match slice.address_type {
        AddressType::Ip(family) => family.as_str(),
        AddressType::Fqdn => "FQDN",
    };
    let mirrored = slice.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MIRROR);
    let endpoints: Vec<Value> =
        slice.endpoints.iter().map(|endpoint| self::endpoint(endpoint, mirrored)).collect();
    let ports: Vec<Value> = slice.ports.iter().map(slice_port).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": meta::metadata(&slice.meta), "addressType": address_type,
        "endpoints": or_null(endpoints), "ports": or_null(ports),
    })
}

/// Mirrored endpoints say only whether they are ready (semantics 3.6).
fn endpoint(endpoint: &Endpoint, mirrored: bool) -> Value {
    let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
    let conditions = endpoint.conditions;
    let shown = if mirrored {
        json!({ "ready": conditions.ready })
    } else {
        json!({
            "ready": conditions.ready, "serving": conditions.serving,
            "terminating": conditions.terminating,
        })
    };
    let mut fields = Map::new();
    fields.insert("addresses".to_owned(), addresses.into());
    fields.insert("conditions".to_owned(), shown);
    insert_name(&mut fields, "hostname", endpoint.hostname.as_ref());
    insert_name(&mut fields, "nodeName", endpoint.node.as_ref());
    insert_name(&mut fields, "zone", endpoint.zone.as_ref());
    insert_target(&mut fields, endpoint.target.as_deref());
    let named = |names: &std::collections::BTreeSet<Name>| -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name.as_str() })).collect()
    };
    let mut hints = Map::new();
    for (field, names) in [("forZones", &endpoint.hints.zones), ("forNodes", &endpoint.hints.nodes)]
    {
        if !names.is_empty() {
            hints.insert(field.to_owned(), named(names).into());
        }
    }
    if !hints.is_empty() {
        fields.insert("hints".to_owned(), hints.into());
    }
    fields.into()
}

fn slice_port(port: &SlicePort) -> Value {
    let mut fields = Map::new();
    if let Some(name) = &port.name {
        fields.insert("name".to_owned(), name.as_str().into());
    }
    fields.insert("protocol".to_owned(), port.protocol.as_str().into());
    if let Some(number) = port.port {
        fields.insert("port".to_owned(), number.get().into());
    }
    if let Some(protocol) = &port.app_protocol {
        fields.insert("appProtocol".to_owned(), protocol.as_str().into());
    }
    fields.into()
}

fn subset(subset: &EndpointsSubset) -> Value {
    let mut fields = Map::new();
    let lists =
        [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
    for (field, addresses) in lists {
        if !addresses.is_empty() {
            let addresses: Vec<Value> = addresses.iter().map(address).collect();
            fields.insert(field.to_owned(), addresses.into());
        }
    }
    let ports: Vec<Value> = subset.ports.iter().map(subset_port).collect();
    if !ports.is_empty() {
        fields.insert("ports".to_owned(), ports.into());
    }
    fields.into()
}

/// An empty name is no name here, unlike in slices.
fn subset_port(port: &SlicePort) -> Value {
    let name = port.name.clone().filter(|name| !name.is_empty());
    slice_port(&SlicePort { name, ..port.clone() })
}

fn address(address: &EndpointsAddress) -> Value {
    let mut fields = Map::new();
    fields.insert("ip".to_owned(), address.ip.to_string().into());
    insert_name(&mut fields, "hostname", address.hostname.as_ref());
    insert_name(&mut fields, "nodeName", address.node.as_ref());
    insert_target(&mut fields, address.target.as_ref());
    fields.into()
}

fn insert_name(fields: &mut Map<String, Value>, field: &str, name: Option<&Name>) {
    if let Some(name) = name {
        fields.insert(field.to_owned(), name.as_str().into());
    }
}

fn insert_target(fields: &mut Map<String, Value>, target: Option<&TargetRef>) {
    let Some(target) = target else { return };
    let mut shown = Map::new();
    for (field, name) in [
        ("kind", &target.kind),
        ("namespace", &target.namespace),
        ("name", &target.name),
        ("uid", &target.uid),
    ] {
        insert_name(&mut shown, field, Some(name).filter(|name| !name.is_empty()));
    }
    fields.insert("targetRef".to_owned(), shown.into());
}

/// Go writes empty lists of these fields as `null`.
fn or_null(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { items.into() }
}

const GROUP: &str = "discovery.k8s.io";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
