//! Objects to model.
//!
//! As tolerant as the dataplane must be (semantics D5): a bad endpoint, port or address is left
//! out, never the whole object unless nothing sensible remains. Objects may be raw manifests that
//! no API server has seen: defaults are applied first.

mod endpoints;
mod meta;
mod node;
mod parse;
mod placement;
mod pod;
mod service;
mod workload;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::{
    Deployment, EndpointSlice, Endpoints, Meta, Namespace, Node, Object, Pod, ReplicaSet, Service,
    ServiceCidr,
};
use serde_json::Value;

use crate::kinds::{self, Env, KindRow};
use crate::rules::fields::Fields;

/// An object that cannot be used at all, beside which everything else goes on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct Rejected {
    /// Kind, namespace and name, such as `Service default/web`.
    pub object: String,
    /// What is wrong and with which field.
    pub reason: String,
}

/// An object of any kind that the model knows, told by its `apiVersion` and `kind`.
///
/// # Errors
/// The kind is none of the model's, or the object is beyond use.
pub fn object(value: &Value) -> Result<Object, Rejected> {
    object_in_place(&mut value.clone())
}

/// As [`object`], and leaves the value with its defaults: cheaper by a copy.
///
/// # Errors
/// As [`object`].
pub fn object_in_place(value: &mut Value) -> Result<Object, Rejected> {
    let row = kinds::row_of(value)
        .ok_or_else(|| rejected(value, "its apiVersion and kind are none that is served"))?;
    default(value, row)?;
    Ok(match (row.group, row.kind) {
        ("", "Service") => Object::Service(Arc::new(service::service(value)?)),
        ("discovery.k8s.io", "EndpointSlice") => {
            Object::EndpointSlice(Arc::new(endpoints::endpoint_slice(value)?))
        }
        ("", "Endpoints") => Object::Endpoints(Arc::new(endpoints::endpoints(value)?)),
        ("", "Node") => Object::Node(Arc::new(node::node(value)?)),
        ("networking.k8s.io", "ServiceCIDR") => {
            Object::ServiceCidr(Arc::new(node::service_cidr(value)?))
        }
        ("", "Namespace") => Object::Namespace(Arc::new(Namespace { meta: meta(value)? })),
        ("", "Pod") => Object::Pod(Arc::new(pod::pod(value)?)),
        ("apps", "Deployment") => Object::Deployment(Arc::new(workload::deployment(value)?)),
        ("apps", "ReplicaSet") => Object::ReplicaSet(Arc::new(workload::replica_set(value)?)),
        _ => return Err(rejected(value, "objects of this kind decide nothing")),
    })
}

/// A Service.
///
/// # Errors
/// It has no name, or its type is unknown.
pub fn service(value: &Value) -> Result<Service, Rejected> {
    service::service(&defaulted(value, "", "services")?)
}

/// An EndpointSlice.
///
/// # Errors
/// It has no name, or its address type is unknown.
pub fn endpoint_slice(value: &Value) -> Result<EndpointSlice, Rejected> {
    endpoints::endpoint_slice(&defaulted(value, "discovery.k8s.io", "endpointslices")?)
}

/// An Endpoints object.
///
/// # Errors
/// It has no name.
pub fn endpoints(value: &Value) -> Result<Endpoints, Rejected> {
    endpoints::endpoints(&defaulted(value, "", "endpoints")?)
}

/// A Node.
///
/// # Errors
/// It has no name.
pub fn node(value: &Value) -> Result<Node, Rejected> {
    node::node(&defaulted(value, "", "nodes")?)
}

/// A ServiceCIDR.
///
/// # Errors
/// It has no name.
pub fn service_cidr(value: &Value) -> Result<ServiceCidr, Rejected> {
    node::service_cidr(&defaulted(value, "networking.k8s.io", "servicecidrs")?)
}

/// A Namespace.
///
/// # Errors
/// It has no name.
pub fn namespace(value: &Value) -> Result<Namespace, Rejected> {
    Ok(Namespace { meta: meta(&defaulted(value, "", "namespaces")?)? })
}

/// A Pod.
///
/// # Errors
/// It has no name.
pub fn pod(value: &Value) -> Result<Pod, Rejected> {
    pod::pod(&defaulted(value, "", "pods")?)
}

/// A Deployment.
///
/// # Errors
/// It has no name, or a selector that nobody understands.
pub fn deployment(value: &Value) -> Result<Deployment, Rejected> {
    workload::deployment(&defaulted(value, "apps", "deployments")?)
}

/// A ReplicaSet.
///
/// # Errors
/// It has no name, or a selector that nobody understands.
pub fn replica_set(value: &Value) -> Result<ReplicaSet, Rejected> {
    workload::replica_set(&defaulted(value, "apps", "replicasets")?)
}

/// The metadata of any object.
///
/// # Errors
/// It has no name.
pub fn meta(value: &Value) -> Result<Meta, Rejected> {
    meta::meta(value)
}

/// The object with defaults, and in Namespace `default` when it names none.
fn defaulted(value: &Value, group: &str, plural: &str) -> Result<Value, Rejected> {
    let row: &KindRow = kinds::find(group, "v1", plural)
        .ok_or_else(|| rejected(value, "its kind is none that is served"))?;
    let mut value = value.clone();
    default(&mut value, row)?;
    Ok(value)
}

fn default(value: &mut Value, row: &KindRow) -> Result<(), Rejected> {
    if !value.is_object() {
        return Err(rejected(value, "it is not an object"));
    }
    (row.default)(value, &env());
    if row.namespaced && value.text("/metadata/namespace").is_empty() {
        crate::rules::fields::set(value, "/metadata/namespace", "default");
    }
    Ok(())
}

/// Defaults of single objects do not depend on the server.
fn env() -> Env {
    Env {
        service_cidrs: Vec::new(),
        node_ports: (30_000, 32_767),
        advertise: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

fn rejected(value: &Value, reason: impl Into<String>) -> Rejected {
    let kind = match value.text("/kind") {
        "" => "object",
        kind => kind,
    };
    let name = match (value.text("/metadata/namespace"), value.text("/metadata/name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    Rejected { object: format!("{kind} {name}").trim_end().to_owned(), reason: reason.into() }
}
