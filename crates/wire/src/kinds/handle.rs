//! One handle for every served kind, whoever defines it.

use std::sync::Arc;

use serde_json::Value;

use super::{Column, Env, KindRow, Subresource};
use crate::custom::CustomKind;
use crate::schema::{Form, Gvk};
use crate::status::FieldError;

/// A served kind: a row of the table, or a version of a CustomResourceDefinition. Cheap to clone.
///
/// Whoever serves objects speaks to this handle and cannot tell where the rules come from; the
/// methods are those of [`KindRow`], which documents them.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Compiled in.
    BuiltIn(&'static KindRow),
    /// Defined by an object of the cluster.
    Custom(Arc<CustomKind>),
}

impl From<&'static KindRow> for Kind {
    fn from(row: &'static KindRow) -> Self {
        Self::BuiltIn(row)
    }
}

impl From<&Self> for Kind {
    fn from(kind: &Self) -> Self {
        kind.clone()
    }
}

impl Kind {
    /// API group, empty for core.
    pub fn group(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.group,
            Self::Custom(kind) => &kind.group,
        }
    }

    /// Version.
    pub fn version(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.version,
            Self::Custom(kind) => &kind.version,
        }
    }

    /// Plural name, as in paths.
    pub fn plural(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.plural,
            Self::Custom(kind) => &kind.names.plural,
        }
    }

    /// Singular name.
    pub fn singular(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.singular,
            Self::Custom(kind) => &kind.names.singular,
        }
    }

    /// Kind.
    pub fn kind(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.kind,
            Self::Custom(kind) => &kind.names.kind,
        }
    }

    /// Kind of a list of these.
    pub fn list_kind(&self) -> String {
        match self {
            Self::BuiltIn(row) => row.list_kind(),
            Self::Custom(kind) => kind.names.list_kind.clone(),
        }
    }

    /// Short names, such as `svc`.
    pub fn short_names(&self) -> Vec<&str> {
        match self {
            Self::BuiltIn(row) => row.short_names.to_vec(),
            Self::Custom(kind) => kind.names.short_names.iter().map(String::as_str).collect(),
        }
    }

    /// Categories, such as `all`.
    pub fn categories(&self) -> Vec<&str> {
        match self {
            Self::BuiltIn(row) => row.categories.to_vec(),
            Self::Custom(kind) => kind.names.categories.iter().map(String::as_str).collect(),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> Gvk<'_> {
        Gvk { group: self.group(), version: self.version(), kind: self.kind() }
    }

    /// What its objects look like.
    pub fn form(&self) -> Form<'_> {
        match self {
            Self::BuiltIn(_) => self.gvk().into(),
            Self::Custom(kind) => Form {
                gvk: self.gvk(),
                custom: Some(&kind.schema),
                has_status: kind.subresources.iter().any(|part| part.name == "status"),
            },
        }
    }

    /// What the body of a write looks like: the object, or what a subresource takes.
    pub fn form_of<'k>(&'k self, subresource: Option<&'k Subresource>) -> Form<'k> {
        match subresource {
            // A subresource without a version of its own shows the object, or something beside it
            // such as an Eviction or a Scale.
            Some(Subresource { version: "", kind, .. }) if !kind.is_empty() => {
                Gvk { kind, ..self.gvk() }.into()
            }
            Some(Subresource { group, version, kind, .. }) if !version.is_empty() => {
                Gvk { group, version, kind }.into()
            }
            _ => self.form(),
        }
    }

    /// Whether objects live in a Namespace.
    pub fn namespaced(&self) -> bool {
        match self {
            Self::BuiltIn(row) => row.namespaced,
            Self::Custom(kind) => kind.namespaced,
        }
    }

    /// Whether the resource itself takes a verb. Discovery does not tell of all of them while a
    /// definition is being deleted: objects must still be let go of their finalizers.
    pub fn takes(&self, verb: &str) -> bool {
        match self {
            Self::BuiltIn(row) => row.verbs.contains(&verb),
            Self::Custom(_) => CustomKind::VERBS.contains(&verb),
        }
    }

    /// Verbs of the resource itself, as discovery lists them.
    pub fn verbs(&self) -> &[&'static str] {
        match self {
            Self::BuiltIn(row) => row.verbs,
            Self::Custom(kind) => kind.verbs(),
        }
    }

    /// Which subresources are served.
    pub fn subresources(&self) -> &[Subresource] {
        match self {
            Self::BuiltIn(row) => row.subresources,
            Self::Custom(kind) => &kind.subresources,
        }
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources().iter().find(|subresource| subresource.name == name)
    }

    /// Whether objects are kept.
    pub fn is_kept(&self) -> bool {
        self.verbs().contains(&"get")
    }

    /// The kind whose objects this one shows: itself, unless it is an alias of another row.
    pub fn stored(&self) -> Self {
        match self {
            Self::BuiltIn(row) => Self::BuiltIn(row.stored_row()),
            Self::Custom(_) => self.clone(),
        }
    }

    /// Whether objects of this shape and era (see [`CustomKind::era`]) are shown as they are kept.
    pub fn shows_as_stored(&self, era: u32) -> bool {
        match self {
            Self::BuiltIn(row) => row.stored_as.is_none(),
            Self::Custom(kind) => kind.is_storage && kind.era == era,
        }
    }

    /// Turns an object of this kind into the stored shape.
    pub fn to_stored(&self, object: &mut Value) {
        if let Self::BuiltIn(row) = self {
            (row.to_stored)(object);
        }
    }

    /// Turns an object of the stored shape into this kind's.
    pub fn from_stored(&self, object: &mut Value) {
        match self {
            Self::BuiltIn(row) => (row.from_stored)(object),
            Self::Custom(kind) => kind.renew(object),
        }
    }

    /// Whether PUT to a missing name creates.
    pub fn create_on_update(&self) -> bool {
        matches!(self, Self::BuiltIn(row) if row.create_on_update)
    }

    /// Whether a PUT without resourceVersion is allowed.
    pub fn unconditional_update(&self) -> bool {
        matches!(self, Self::BuiltIn(row) if row.unconditional_update)
    }

    /// How DELETE answers: the object (true) or a Status (false).
    pub fn delete_returns_object(&self) -> bool {
        matches!(self, Self::BuiltIn(row) if row.delete_returns_object)
    }

    /// The grace period in seconds of a kind that is deleted in two steps.
    pub fn grace_period(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        match self {
            Self::BuiltIn(row) => row.grace_period.map(|grace_period| grace_period(object, asked)),
            Self::Custom(_) => None,
        }
    }

    /// Fills defaults.
    pub fn default(&self, object: &mut Value, env: &Env) {
        match self {
            Self::BuiltIn(row) => (row.default)(object, env),
            Self::Custom(kind) => kind.default(object),
        }
    }

    /// Fills what stored objects may lack.
    pub fn default_on_read(&self, object: &mut Value, env: &Env) {
        match self {
            Self::BuiltIn(row) => (row.default_on_read)(object, env),
            Self::Custom(kind) => kind.default(object),
        }
    }

    /// Before validation of a create.
    pub fn prepare_create(&self, object: &mut Value, env: &Env) {
        match self {
            Self::BuiltIn(row) => (row.prepare_create)(object, env),
            Self::Custom(kind) => kind.prepare_create(object),
        }
    }

    /// Before validation of an update.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, env: &Env) {
        match self {
            Self::BuiltIn(row) => (row.prepare_update)(new, old, env),
            Self::Custom(kind) => kind.prepare_update(new, old),
        }
    }

    /// Before validation of a status write.
    pub fn prepare_status(&self, new: &mut Value, old: &Value, env: &Env) {
        match self {
            Self::BuiltIn(row) => (row.prepare_status)(new, old, env),
            Self::Custom(kind) => kind.prepare_status(new, old),
        }
    }

    /// All errors of a new object.
    pub fn validate_create(&self, object: &Value, env: &Env) -> Vec<FieldError> {
        match self {
            Self::BuiltIn(row) => (row.validate_create)(object, env),
            Self::Custom(kind) => kind.validate_create(object),
        }
    }

    /// All errors of a changed object.
    pub fn validate_update(&self, new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
        match self {
            Self::BuiltIn(row) => (row.validate_update)(new, old, env),
            Self::Custom(kind) => kind.validate_update(new, old),
        }
    }

    /// All errors of a status write.
    pub fn validate_status(&self, new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
        match self {
            Self::BuiltIn(row) => (row.validate_status)(new, old, env),
            Self::Custom(kind) => kind.validate_status(new, old),
        }
    }

    /// `Warning` headers for a write.
    pub fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        match self {
            Self::BuiltIn(row) => (row.warnings)(new, old),
            Self::Custom(_) => Vec::new(),
        }
    }

    /// `Warning` header of every request for this kind, empty for none.
    pub fn deprecation(&self) -> &str {
        match self {
            Self::BuiltIn(row) => row.deprecation,
            Self::Custom(kind) => &kind.deprecation,
        }
    }

    /// Names of the fields that field selectors may name besides those of metadata.
    pub fn selectable_names(&self) -> Vec<&str> {
        match self {
            Self::BuiltIn(row) => {
                let fields = (row.selectable_fields)(&Value::Null);
                fields.into_iter().map(|(name, _)| name).collect()
            }
            Self::Custom(kind) => kind.selectable.iter().map(|field| field.name()).collect(),
        }
    }

    /// Columns of `kubectl get`.
    pub fn columns(&self) -> Vec<Column<'_>> {
        match self {
            Self::BuiltIn(row) => row.columns.to_vec(),
            Self::Custom(kind) => kind.columns(),
        }
    }

    /// Cells of one row. `now` is microseconds since the epoch, for ages.
    pub fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        match self {
            Self::BuiltIn(row) => (row.cells)(object, now),
            Self::Custom(kind) => kind.cells(object, now),
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group(), self.version(), self.plural())
            == (other.group(), other.version(), other.plural())
    }
}
