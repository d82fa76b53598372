//! Kinds that CustomResourceDefinitions add.
//!
//! ```text
//!  definition ─ settle (names, conditions) ─▶ status
//!             └ CustomKind::of ─▶ one kind per served version ─▶ kinds::Kind
//! ```
//!
//! What it is: the rules of such kinds, read off their definition once. What it is not: the rules
//! of definitions themselves, which are a kind like others (`rules::definition`).

mod columns;
mod names;
mod objects;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::jsonpath::JsonPath;
use crate::kinds::Subresource;
use crate::rules::fields::Fields;
use crate::structural::Structural;

pub(crate) use names::set_condition;
pub use names::{Names, is_established, settle};

use columns::PrinterColumn;

/// One version of a CustomResourceDefinition (CR4).
#[derive(Debug)]
pub struct CustomKind {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// The accepted names.
    pub names: Names,
    /// Whether objects live in a Namespace.
    pub namespaced: bool,
    /// Whether this version is served.
    pub is_served: bool,
    /// Whether objects are stored in this version.
    pub is_storage: bool,
    /// Number of the definition's present form. What was stored in an earlier one is brought up
    /// to date when it is shown.
    pub era: u32,
    /// What objects look like.
    pub schema: Structural,
    /// The same as the definition has it, for OpenAPI.
    pub(crate) described: Value,
    /// `status` and `scale`, as declared.
    pub subresources: Vec<Subresource>,
    /// Where `scale` finds its numbers.
    pub scale: Option<ScalePaths>,
    /// `Warning` header of every request, empty for none.
    pub deprecation: String,
    /// Fields that field selectors may name.
    pub selectable: Vec<SelectableField>,
    /// Whether the definition is being deleted: then objects only go.
    pub is_terminating: bool,
    has_status: bool,
    columns: Vec<PrinterColumn>,
}

/// Paths of the `scale` subresource.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    spec_replicas: JsonPath,
    status_replicas: JsonPath,
    label_selector: Option<JsonPath>,
}

/// A field that selectors may name.
#[derive(Clone, Debug)]
pub struct SelectableField {
    name: String,
    path: JsonPath,
}

impl CustomKind {
    /// Verbs of every custom resource, in upstream's order.
    pub const VERBS: [&'static str; 8] =
        ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

    /// The kinds of a definition's versions, the preferred one first.
    pub fn of(definition: &Value, era: u32) -> Vec<Self> {
        let names = Names::parse(definition.at("/status/acceptedNames"));
        let versions = definition.list("/spec/versions").iter();
        let mut kinds: Vec<Self> =
            versions.map(|version| Self::version(definition, version, &names, era)).collect();
        kinds.sort_by_key(|kind| priority(&kind.version));
        kinds
    }

    fn version(definition: &Value, version: &Value, names: &Names, era: u32) -> Self {
        let group = definition.text("/spec/group").to_owned();
        let name = version.text("/name").to_owned();
        let has_status = version.has("/subresources/status");
        let scale = ScalePaths::parse(version.at("/subresources/scale"));
        let mut subresources = Vec::new();
        if has_status {
            subresources.push(STATUS);
        }
        if scale.is_some() {
            subresources.push(SCALE);
        }
        let described = version.at("/schema/openAPIV3Schema").clone();
        let mut schema = match &described {
            Value::Null => Structural::anything(),
            schema => Structural::parse(schema),
        };
        schema.preserves_unknown |= definition.flag("/spec/preserveUnknownFields");
        let selectable = version.list("/selectableFields").iter().filter_map(|field| {
            let text = field.text("/jsonPath");
            let name = text.strip_prefix('.').unwrap_or(text).to_owned();
            Some(SelectableField { name, path: JsonPath::parse(text).ok()? })
        });
        let deprecation = match (version.flag("/deprecated"), version.at("/deprecationWarning")) {
            (false, _) => String::new(),
            (true, Value::String(text)) => text.clone(),
            (true, _) => format!("{group}/{name} {} is deprecated", names.kind),
        };
        Self {
            names: names.clone(),
            namespaced: definition.text("/spec/scope") == "Namespaced",
            is_served: version.flag("/served"),
            is_storage: version.flag("/storage"),
            era,
            schema,
            described,
            subresources,
            scale,
            deprecation,
            selectable: selectable.collect(),
            is_terminating: definition.has("/metadata/deletionTimestamp"),
            has_status,
            columns: columns::parse(version.list("/additionalPrinterColumns")),
            group,
            version: name,
        }
    }

    /// The verbs that discovery lists.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.is_terminating { &TERMINATING_VERBS } else { &Self::VERBS }
    }

    /// Order of kinds: by group, the preferred version first, and by name.
    pub fn compare_preference(&self, other: &Self) -> std::cmp::Ordering {
        let key =
            |kind: &Self| (kind.group.clone(), priority(&kind.version), kind.names.plural.clone());
        key(self).cmp(&key(other))
    }

    /// The selectable fields of an object.
    pub fn selectable_fields(&self, object: &Value) -> Vec<(String, String)> {
        let shown = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        let fields = self.selectable.iter();
        fields.map(|field| (field.name.clone(), shown(field.path.find(object)))).collect()
    }
}

impl SelectableField {
    /// As selectors name it: `spec.color`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl ScalePaths {
    fn parse(scale: &Value) -> Option<Self> {
        let path = |name: &str| JsonPath::parse(scale.text(name)).ok();
        Some(Self {
            spec_replicas: path("/specReplicasPath")?,
            status_replicas: path("/statusReplicasPath")?,
            label_selector: path("/labelSelectorPath"),
        })
    }

    /// Wanted replicas; `None` when the object does not say.
    pub fn wanted(&self, object: &Value) -> Option<i64> {
        self.spec_replicas.find(object).and_then(Value::as_i64)
    }

    /// Replicas that exist.
    pub fn present(&self, object: &Value) -> i64 {
        self.status_replicas.find(object).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The selector as text.
    pub fn selector<'v>(&self, object: &'v Value) -> &'v str {
        let selector = self.label_selector.as_ref().and_then(|path| path.find(object));
        selector.and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the wanted replicas.
    pub fn set_wanted(&self, object: &mut Value, replicas: i64) {
        self.spec_replicas.set(object, replicas.into());
    }

    /// The field of the wanted replicas, as in errors.
    pub(crate) fn wanted_field(&self) -> String {
        self.spec_replicas.fields().unwrap_or_default().join(".")
    }
}

/// Order of preference (apimachinery `version.CompareKubeAwareVersionStrings`): v2, v1, v2beta1,
/// v1alpha1, then others by name.
fn priority(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>, String) {
    use std::cmp::Reverse;
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let stages = [("alpha", 2), ("beta", 1)];
        let staged = stages.iter().find_map(|(word, rank)| {
            let (major, minor) = rest.split_once(word)?;
            Some((*rank, major.parse().ok()?, minor.parse().ok()?))
        });
        staged.or_else(|| Some((0, rest.parse().ok()?, 0)))
    });
    match parsed {
        Some((rank, major, minor)) => (rank, Reverse(major), Reverse(minor), String::new()),
        None => (3, Reverse(0), Reverse(0), version.to_owned()),
    }
}

const STATUS: Subresource = Subresource {
    name: "status",
    group: "",
    version: "",
    kind: "",
    verbs: &["get", "patch", "update"],
};
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};
const TERMINATING_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];
