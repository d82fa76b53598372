//! cells.

use serde_json::Value;

pub(super) fn config_map(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn deployment(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn endpoint_slice(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn endpoints(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn event(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn ip_address(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn lease(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn namespace(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn node(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn pod(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn replica_set(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn secret(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn service(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn service_account(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn service_cidr(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}

pub(super) fn name_age(_: &Value, _: i64) -> Vec<Value> {
    Vec::new()
}
