//! The served kinds: one row each. The API server is this table plus generic code.

use std::net::IpAddr;

use model::IpNet;
use serde_json::Value;

use crate::status::FieldError;

/// A served kind and its rules.
pub struct KindRow {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural name, as in paths.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Short names, such as `svc`.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a Namespace.
    pub namespaced: bool,
    /// Which subresources are served (`status`, `scale`, `log`, `exec`, `portforward`, `binding`,
    /// `eviction`, `token`, `finalize`, `proxy`).
    pub subresources: &'static [&'static str],
    /// Whether PUT to a missing name creates.
    pub create_on_update: bool,
    /// Whether a PUT without resourceVersion is allowed.
    pub unconditional_update: bool,
    /// Whether `metadata.generation` is kept, and for which changes.
    pub has_generation: bool,
    /// How DELETE of the object itself answers: the object (true) or a Status (false).
    pub delete_returns_object: bool,
    /// Fills defaults; runs on create, update and on read.
    pub default: fn(&mut Value, &Env),
    /// Before validation of a create: wipes what clients may not set.
    pub prepare_create: fn(&mut Value, &Env),
    /// Before validation of an update: keeps status, wipes by type transition.
    pub prepare_update: fn(&mut Value, &Value, &Env),
    /// Before validation of a status write: keeps spec.
    pub prepare_status: fn(&mut Value, &Value, &Env),
    /// All errors of a new object.
    pub validate_create: fn(&Value, &Env) -> Vec<FieldError>,
    /// All errors of a changed object (new, old).
    pub validate_update: fn(&Value, &Value, &Env) -> Vec<FieldError>,
    /// All errors of a status write (new, old).
    pub validate_status: fn(&Value, &Value, &Env) -> Vec<FieldError>,
    /// `Warning` headers for a write (new, old).
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Fields that field selectors may name besides metadata.name and metadata.namespace.
    pub selectable_fields: fn(&Value) -> Vec<(&'static str, String)>,
    /// Columns of `kubectl get`.
    pub columns: &'static [Column],
    /// Cells of one row. `now` is microseconds since the epoch, for ages.
    pub cells: fn(&Value, i64) -> Vec<Value>,
}

/// What rules need to know about the server.
#[derive(Clone, Debug)]
pub struct Env {
    /// `--service-cluster-ip-range`, one or two, the primary family first.
    pub service_cidrs: Vec<IpNet>,
    /// `--service-node-port-range`, inclusive.
    pub node_ports: (u16, u16),
    /// Address and port at which pods reach the API server.
    pub advertise: (IpAddr, u16),
}

/// A table column (`metav1.TableColumnDefinition`).
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Title.
    pub name: &'static str,
    /// `string`, `integer`, ...
    pub kind: &'static str,
    /// `name` or empty.
    pub format: &'static str,
    /// Text of `kubectl explain`-like help.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// Every served kind, in discovery order.
pub fn kinds() -> &'static [KindRow] {
    &[]
}
