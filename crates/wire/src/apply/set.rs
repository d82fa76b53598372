//! Sets of fields, as a tree: who owns what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path. Variants are in the order in which the real server sorts them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Element {
    /// A struct field or map key.
    Field(String),
    /// A list entry by its keys: names and values as JSON text, sorted by name.
    Key(Vec<(String, String)>),
    /// A list entry by its value, as JSON text.
    Value(String),
    /// A list entry by position; only read, never written.
    Index(usize),
}

impl Element {
    /// The form in `fieldsV1`: `f:ports`, `k:{"port":80}`, `v:"x"`, `i:0`.
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Vec<_> =
                    keys.iter().map(|(k, v)| format!("{}:{v}", Value::from(k.as_str()))).collect();
                format!("k:{{{}}}", keys.join(","))
            }
            Self::Value(text) => format!("v:{text}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (sort, rest) = text.split_once(':')?;
        match sort {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::keys(keys.iter().map(|(k, v)| (k.as_str(), v))))
            }
            "v" => serde_json::from_str::<Value>(rest).ok().map(|v| Self::Value(v.to_string())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// A list entry by its keys.
    pub(super) fn keys<'a>(keys: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut keys: Vec<_> = keys.map(|(k, v)| (k.to_owned(), v.to_string())).collect();
        keys.sort();
        Self::Key(keys)
    }
}

/// As in messages: `.spec`, `[port=80,protocol="TCP"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(text) => write!(f, "[={text}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A set of paths. A path may be in the set, lead to others that are, or both.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct FieldSet {
    members: BTreeSet<Element>,
    children: BTreeMap<Element, Self>,
}

impl FieldSet {
    /// Whether there is no path in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Adds a path; the empty path is not a field.
    pub(super) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the set has this step itself.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.members.contains(element)
    }

    /// What the set has below a step.
    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    /// Paths in either.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let own = result.children.entry(element.clone()).or_default();
            *own = own.union(child);
        }
        result
    }

    /// Paths in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members, children: children.collect() }
    }

    /// Paths in this one only.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, child)| {
            let rest = match other.children.get(element) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self { members, children: children.collect() }
    }

    /// This set without the paths of the other and all that is below them.
    pub(super) fn without_below(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, child)| {
            if other.members.contains(element) {
                return None;
            }
            let rest = match other.children.get(element) {
                Some(theirs) => child.without_below(theirs),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self { members, children: children.collect() }
    }

    /// The same with every step that leads somewhere and satisfies `is_named` as a member.
    pub(super) fn with_steps(&self, is_named: &dyn Fn(&[Element]) -> bool) -> Self {
        self.steps(&mut Vec::new(), is_named)
    }

    fn steps(&self, path: &mut Vec<Element>, is_named: &dyn Fn(&[Element]) -> bool) -> Self {
        let mut result = Self { members: self.members.clone(), children: BTreeMap::new() };
        for (element, child) in &self.children {
            path.push(element.clone());
            if is_named(path) {
                result.members.insert(element.clone());
            }
            result.children.insert(element.clone(), child.steps(path, is_named));
            path.pop();
        }
        result
    }

    /// All paths as in messages: those that end here first, then those below.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.members.iter().map(ToString::to_string).collect();
        for (element, child) in &self.children {
            paths.extend(child.paths().iter().map(|rest| format!("{element}{rest}")));
        }
        paths
    }

    /// The `fieldsV1` form.
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::new();
        for element in self.members.iter().filter(|m| !self.children.contains_key(m)) {
            map.insert(element.encode(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            let mut below = child.to_value();
            if self.members.contains(element)
                && let Value::Object(below) = &mut below
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.encode(), below);
        }
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form; `None` if it is not one.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, below) in value.as_object()? {
            if key == "." {
                continue;
            }
            let element = Element::decode(key)?;
            let below_map = below.as_object()?;
            if below_map.is_empty() || below_map.contains_key(".") {
                set.members.insert(element.clone());
            }
            let child = Self::from_value(below)?;
            if !child.is_empty() {
                set.children.insert(element, child);
            }
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_writes_fields_v1() {
        let value = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:ports": {
                "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}
            }}
        });
        let set = FieldSet::from_value(&value).expect("is a set");
        assert_eq!(set.to_value(), value);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels.a",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port",
            ]
        );
        assert_eq!(FieldSet::from_value(&json!({"x": {}})), None);
    }

    fn set() -> impl Strategy<Value = FieldSet> {
        let path = prop::collection::vec("[a-c]", 1..4);
        prop::collection::vec(path, 0..8).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                let path: Vec<_> = path.into_iter().map(Element::Field).collect();
                set.insert(&path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn set_algebra_holds(a in set(), b in set()) {
            let sorted = |s: &FieldSet| { let mut p = s.paths(); p.sort(); p };
            let parts = a.difference(&b).union(&a.intersection(&b));
            prop_assert_eq!(sorted(&parts), sorted(&a));
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            let back = FieldSet::from_value(&a.union(&b).to_value()).map(|s| sorted(&s));
            prop_assert_eq!(back, Some(sorted(&a.union(&b))));
            prop_assert!(a.without_below(&a).is_empty());
        }
    }
}
