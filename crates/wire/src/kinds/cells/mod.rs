//! Cells of the tables that `kubectl get` shows (`pkg/printers/internalversion`). Each function
//! gives the cells of its kind's row, in the order of [`super::columns`].

mod endpoints;
mod event;
mod node;
mod pod;
mod service;
mod workload;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::age;
use crate::rules::fields::Fields;

pub(super) use endpoints::{endpoint_slice, endpoints};
pub(super) use event::event;
pub(super) use node::node;
pub(super) use pod::pod;
pub(super) use service::service;
pub(super) use workload::{deployment, replica_set};

pub(super) fn name_age(object: &Value, now: i64) -> Vec<Value> {
    vec![name(object), created(object, now)]
}

pub(super) fn config_map(map: &Value, now: i64) -> Vec<Value> {
    let keys = map.map("/data").count() + map.map("/binaryData").count();
    vec![name(map), keys.into(), created(map, now)]
}

pub(super) fn secret(secret: &Value, now: i64) -> Vec<Value> {
    let keys = secret.map("/data").count();
    vec![name(secret), secret.text("/type").into(), keys.into(), created(secret, now)]
}

pub(super) fn service_account(account: &Value, now: i64) -> Vec<Value> {
    vec![name(account), account.list("/secrets").len().into(), created(account, now)]
}

pub(super) fn namespace(namespace: &Value, now: i64) -> Vec<Value> {
    vec![name(namespace), namespace.text("/status/phase").into(), created(namespace, now)]
}

pub(super) fn lease(lease: &Value, now: i64) -> Vec<Value> {
    vec![name(lease), lease.text("/spec/holderIdentity").into(), created(lease, now)]
}

pub(super) fn ip_address(address: &Value, now: i64) -> Vec<Value> {
    let parent = address.at("/spec/parentRef");
    let resource = match parent.text("/group") {
        "" => parent.text("/resource").to_owned(),
        group => format!("{}.{group}", parent.text("/resource")),
    };
    let shown = match (parent.is_null(), parent.text("/namespace")) {
        (true, _) => NONE.to_owned(),
        (false, "") => format!("{resource}/{}", parent.text("/name")),
        (false, namespace) => format!("{resource}/{namespace}/{}", parent.text("/name")),
    };
    vec![name(address), shown.into(), created(address, now)]
}

pub(super) fn service_cidr(cidr: &Value, now: i64) -> Vec<Value> {
    vec![name(cidr), cidr.texts("/spec/cidrs").join(",").into(), created(cidr, now)]
}

pub(super) fn role(role: &Value, _: i64) -> Vec<Value> {
    vec![name(role), role.text("/metadata/creationTimestamp").into()]
}

pub(super) fn role_binding(binding: &Value, now: i64) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = binding
            .list("/subjects")
            .iter()
            .filter(|subject| subject.text("/kind") == kind)
            .map(|subject| match (kind, subject.text("/namespace")) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", subject.text("/name")),
                _ => subject.text("/name").to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    let reference = binding.at("/roleRef");
    let role = format!("{}/{}", reference.text("/kind"), reference.text("/name"));
    let (users, groups) = (subjects("User"), subjects("Group"));
    let accounts = subjects("ServiceAccount");
    vec![name(binding), role.into(), created(binding, now), users, groups, accounts]
}

/// `metadata.name`.
fn name(object: &Value) -> Value {
    object.text("/metadata/name").into()
}

/// Time since `metadata.creationTimestamp`.
fn created(object: &Value, now: i64) -> Value {
    age::since(object.text("/metadata/creationTimestamp"), now).into()
}

/// `a=1,b=2`, or `<none>`.
fn labels(object: &Value, pointer: &str) -> String {
    let mut pairs: Vec<String> = object
        .map(pointer)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.sort();
    or_none(pairs.join(","))
}

/// The text, or `<none>`.
fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// The first three items and how many more there are.
fn at_most_three(items: &[String]) -> String {
    let shown = items[..items.len().min(3)].join(",");
    match items.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

const NONE: &str = "<none>";
