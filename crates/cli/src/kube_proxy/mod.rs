//! kube-proxy's configuration: its file and its flags, in one table, turned into ours.
//!
//! ```text
//!  --config FILE ─▶ file ─┐
//!                         ├─▶ Configuration ─▶ settings ─▶ AgentConfig, warnings
//!  flags ─────────▶ flags ┘        (fields: one table of names, defaults and support)
//! ```

pub(crate) mod changes;
mod duration;
mod fields;
mod file;
mod flags;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::fields::{Field, Support};
pub(crate) use self::flags::Flags;
pub(crate) use self::settings::Settings;

/// `apiVersion` of the file.
const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// `kind` of the file.
const KIND: &str = "KubeProxyConfiguration";

/// A KubeProxyConfiguration: what was set, checked field by field; the rest is default.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Configuration {
    set: BTreeMap<&'static str, Value>,
}

impl Configuration {
    /// Whether the field was set to something else than its default.
    fn is_set(&self, path: &str) -> bool {
        self.set.contains_key(path)
    }

    /// The value of a field of the table.
    fn get(&self, path: &str) -> Value {
        let default = || Field::at(path).map_or(Value::Null, Field::default_value);
        self.set.get(path).cloned().unwrap_or_else(default)
    }

    fn text(&self, path: &str) -> String {
        self.get(path).as_str().unwrap_or_default().to_owned()
    }

    fn truth(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    fn number(&self, path: &str) -> i64 {
        self.get(path).as_i64().unwrap_or_default()
    }

    fn duration(&self, path: &str) -> Duration {
        duration::parse(&self.text(path)).unwrap_or_default()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let texts = |value: &Value| value.as_str().map(str::to_owned);
        self.get(path)
            .as_array()
            .map(|list| list.iter().filter_map(texts).collect())
            .unwrap_or_default()
    }

    fn set(&mut self, field: &'static Field, value: Value) {
        if value == field.default_value() {
            self.set.remove(field.path);
        } else {
            self.set.insert(field.path, value);
        }
    }

    /// One line for each field that was set and has no effect.
    fn unsupported(&self) -> impl Iterator<Item = String> + '_ {
        self.set.keys().filter_map(|path| match Field::at(path)?.support {
            Support::Ignored(reason) => Some(format!("{path} is ignored: {reason}")),
            Support::Used(_) => None,
        })
    }

    /// The whole object with its defaults, as kube-proxy serves it on `/configz` and writes it.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), API_VERSION.into());
        object.insert("kind".to_owned(), KIND.into());
        for field in fields::FIELDS {
            insert(&mut object, field.path, self.get(field.path));
        }
        Value::Object(object)
    }
}

/// Puts a value at a dotted path, making the objects on the way.
fn insert(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((parent, rest)) => {
            if let Value::Object(inner) = object.entry(parent).or_insert_with(|| json!({})) {
                insert(inner, rest, value);
            }
        }
    }
}
