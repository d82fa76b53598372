//! The served kinds. Those that are compiled in have one row each; the API server is this table,
//! the kinds that CustomResourceDefinitions add, and generic code over [`Kind`].

mod cells;
mod columns;
mod handle;
mod table;

pub mod age;

use std::net::IpAddr;

use model::{Family, IpNet};
use serde_json::Value;

use crate::status::FieldError;

pub(crate) use self::columns::NAME as NAME_COLUMN;
pub use self::handle::Kind;

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
    /// Verbs of the resource itself, sorted, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Which subresources are served.
    pub subresources: &'static [Subresource],
    /// The group and plural under which objects are kept, where that is another row's: both rows
    /// then show the same objects.
    pub stored_as: Option<(&'static str, &'static str)>,
    /// Turns an object of this row into the stored row's shape. Idempotent.
    pub to_stored: fn(&mut Value),
    /// Turns an object of the stored row's shape into this row's. Idempotent.
    pub from_stored: fn(&mut Value),
    /// Whether PUT to a missing name creates.
    pub create_on_update: bool,
    /// Whether a PUT without resourceVersion is allowed.
    pub unconditional_update: bool,
    /// Whether `metadata.generation` is kept. `prepare_create` sets it to 1, `prepare_update`
    /// carries it over and raises it; only the raise that goes with `deletionTimestamp` is left
    /// to the registry.
    pub has_generation: bool,
    /// How DELETE of the object itself answers: the object (true) or a Status (false).
    pub delete_returns_object: bool,
    /// For kinds that are deleted in two steps: the grace period in seconds of this object, given
    /// what the client asked for. `None`: deleted at once.
    pub grace_period: Option<fn(&Value, Option<i64>) -> i64>,
    /// Fills defaults; runs on every object that clients send, and is idempotent.
    pub default: fn(&mut Value, &Env),
    /// Fills what stored objects of other servers may lack (semantics 1.3); runs on read.
    pub default_on_read: fn(&mut Value, &Env),
    /// Before validation of a create: wipes what clients may not set.
    pub prepare_create: fn(&mut Value, &Env),
    /// Before validation of an update (new, old): keeps status, wipes by type transition.
    pub prepare_update: fn(&mut Value, &Value, &Env),
    /// Before validation of a status write (new, old): keeps spec.
    pub prepare_status: fn(&mut Value, &Value, &Env),
    /// All errors of a new object.
    pub validate_create: fn(&Value, &Env) -> Vec<FieldError>,
    /// All errors of a changed object (new, old).
    pub validate_update: fn(&Value, &Value, &Env) -> Vec<FieldError>,
    /// All errors of a status write (new, old).
    pub validate_status: fn(&Value, &Value, &Env) -> Vec<FieldError>,
    /// `Warning` headers for a write (new, old).
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// `Warning` header of every request for this kind, empty for none.
    pub deprecation: &'static str,
    /// Fields that field selectors may name besides metadata.name and metadata.namespace. Gives
    /// the same names, in the same order, for every value, `Null` included (S23).
    pub selectable_fields: fn(&Value) -> Vec<(&'static str, String)>,
    /// Columns of `kubectl get`.
    pub columns: &'static [Column<'static>],
    /// Cells of one row. `now` is microseconds since the epoch, for ages.
    pub cells: fn(&Value, i64) -> Vec<Value>,
}

impl KindRow {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Kind of a list of these, such as `ServiceList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether objects are kept. Questions (SubjectAccessReview) are answered and forgotten.
    pub fn is_kept(&self) -> bool {
        self.verbs.contains(&"get")
    }

    /// The row whose objects this one shows: itself, unless `stored_as` names another.
    pub fn stored_row(&'static self) -> &'static Self {
        self.stored_as.and_then(|(group, plural)| find(group, self.version, plural)).unwrap_or(self)
    }
}

impl std::fmt::Debug for KindRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KindRow({}/{} {})", self.group, self.version, self.plural)
    }
}

/// A subresource, as discovery lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subresource {
    /// Last part of the path, such as `status`.
    pub name: &'static str,
    /// API group of the body's kind.
    pub group: &'static str,
    /// Version of the body's kind; empty when it is the resource's own group and version.
    pub version: &'static str,
    /// Kind of the body; empty when it is the resource's own.
    pub kind: &'static str,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
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

impl Env {
    /// The families that Services can have, the primary one first.
    pub fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::with_capacity(2);
        for cidr in &self.service_cidrs {
            let family = Family::of(cidr.addr());
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }
}

/// A table column (`metav1.TableColumnDefinition`).
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// Title.
    pub name: &'a str,
    /// `string`, `integer`, ...
    pub kind: &'a str,
    /// `name` or empty.
    pub format: &'a str,
    /// Text of `kubectl explain`-like help.
    pub description: &'a str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// Every served kind, in discovery order.
pub fn kinds() -> &'static [KindRow] {
    table::KINDS
}

/// The row of a resource, as in a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static KindRow> {
    kinds().iter().find(|row| row.group == group && row.version == version && row.plural == plural)
}

/// The row of an object's `apiVersion` and `kind`.
pub fn find_kind(api_version: &str, kind: &str) -> Option<&'static KindRow> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    kinds().iter().find(|row| row.group == group && row.version == version && row.kind == kind)
}

/// The row of an object.
pub fn row_of(object: &Value) -> Option<&'static KindRow> {
    find_kind(object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_path_and_by_kind() {
        for row in kinds() {
            let by_path = find(row.group, row.version, row.plural).map(|row| row.kind);
            assert_eq!(by_path, Some(row.kind));
            let by_kind = find_kind(&row.api_version(), row.kind).map(|row| row.plural);
            assert_eq!(by_kind, Some(row.plural));
        }
    }

    #[test]
    fn selectable_fields_have_fixed_names() {
        // S23.
        for row in kinds() {
            let names = |value: &Value| -> Vec<&str> {
                (row.selectable_fields)(value).into_iter().map(|(name, _)| name).collect()
            };
            let object = serde_json::json!({ "spec": { "type": "NodePort" }, "status": {} });
            assert_eq!(names(&Value::Null), names(&object), "{row:?}");
        }
    }

    #[test]
    fn verbs_are_sorted() {
        for row in kinds() {
            assert!(row.verbs.is_sorted(), "{row:?}");
            for subresource in row.subresources {
                assert!(subresource.verbs.is_sorted(), "{row:?} {}", subresource.name);
            }
        }
    }
}
