//! IPAddress objects, which say whose an address is (KEP-1880).

use std::net::IpAddr;

use model::Family;
use serde_json::{Value, json};

use crate::meta;
use crate::resources::Resources;

/// The IPAddress object that reserves an address for a Service.
pub(super) fn ip_address(
    address: IpAddr,
    namespace: &str,
    name: &str,
    resources: &Resources,
) -> Value {
    let mut object = json!({
        "metadata": {
            "name": address.to_string(),
            "labels": {
                FAMILY_LABEL: Family::of(address).as_str(),
                MANAGED_BY.0: MANAGED_BY.1,
            },
        },
        "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": name } },
    });
    if let Some(row) = resources.find("networking.k8s.io", "ipaddresses") {
        let now = meta::seconds(jiff::Timestamp::now());
        let writer = wire::apply::Writer { manager: MANAGER, subresource: "", now: &now };
        wire::apply::track_update(None, &mut object, row.form(), &writer);
    }
    meta::start(&mut object);
    object
}

/// Whether an IPAddress object is one of this allocator.
pub(crate) fn is_managed(object: &Value) -> bool {
    object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1
}

/// Namespace and name of the Service that an IPAddress object refers to; empty when it refers to
/// something else.
pub(crate) fn owner_of(object: &Value) -> (&str, &str) {
    let parent = &object["spec"]["parentRef"];
    let is_service =
        parent["resource"] == "services" && parent["group"].as_str().unwrap_or("").is_empty();
    if !is_service {
        return ("", "");
    }
    (parent["namespace"].as_str().unwrap_or(""), parent["name"].as_str().unwrap_or(""))
}

/// Label of IPAddress objects that this allocator made.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
/// Field manager of what the server writes by itself.
const MANAGER: &str = "kube-apiserver";
