//! One rule of a role: what it allows, and whether other rules hold it (upstream
//! `rbac/v1/evaluation_helpers.go`, `component-helpers/auth/rbac/validation`).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use wire::status::quote;

use super::attributes::{Asked, Attributes, Resource};

/// `rbac.authorization.k8s.io/v1` PolicyRule. `*` in a list means everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct PolicyRule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    /// Empty: all names, also of requests that name no object.
    pub(crate) names: Vec<String>,
    /// Paths outside the API; a trailing `*` stands for any rest.
    pub(crate) urls: Vec<String>,
}

impl PolicyRule {
    /// The rules of a role, as in `.rules`.
    pub(crate) fn list(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::from_value).collect()
    }

    fn from_value(rule: &Value) -> Self {
        let texts = |name: &str| -> Vec<String> {
            let items = rule[name].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// As the API writes it.
    pub(crate) fn to_value(&self) -> Value {
        let mut rule = json!({ "verbs": self.verbs });
        for (name, texts) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !texts.is_empty() {
                rule[name] = texts.as_slice().into();
            }
        }
        rule
    }

    /// Whether this rule alone allows a request.
    pub(crate) fn allows(&self, request: &Attributes<'_>) -> bool {
        has(&self.verbs, request.verb)
            && match &request.asked {
                Asked::Path(path) => self.urls.iter().any(|url| covers_url(url, path)),
                Asked::Resource(resource) => self.allows_resource(resource),
            }
    }

    fn allows_resource(&self, resource: &Resource<'_>) -> bool {
        has(&self.groups, resource.group)
            && covers_resource(&self.resources, &resource.combined())
            && (self.names.is_empty() || self.names.iter().any(|name| name == resource.name))
    }

    /// Whether everything that `part` allows is allowed by this rule. `part` is one of
    /// [`Self::parts`].
    fn covers(&self, part: &Self) -> bool {
        let all = |texts: &[String], parts: &[String]| parts.iter().all(|part| has(texts, part));
        let names = match part.names.as_slice() {
            [] => self.names.is_empty(),
            names => self.names.is_empty() || names.iter().all(|name| self.names.contains(name)),
        };
        all(&self.verbs, &part.verbs)
            && all(&self.groups, &part.groups)
            && part.resources.iter().all(|resource| covers_resource(&self.resources, resource))
            && names
            && part.urls.iter().all(|url| self.urls.iter().any(|own| covers_url(own, url)))
    }

    /// The same as rules with one verb, one group, one resource and at most one name each, or one
    /// verb and one path.
    fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for url in &self.urls {
                let urls = vec![url.clone()];
                parts.push(Self { verbs: verbs.clone(), urls, ..Self::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let part = Self {
                        verbs: verbs.clone(),
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        parts.push(part.clone());
                    }
                    let named = |name: &String| Self { names: vec![name.clone()], ..part.clone() };
                    parts.extend(self.names.iter().map(named));
                }
            }
        }
        parts
    }
}

impl fmt::Display for PolicyRule {
    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, texts)| !texts.is_empty())
        .map(|(name, texts)| format!("{name}:{}", quoted(texts)))
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// What `wanted` allows and `owned` does not.
pub(crate) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        .flat_map(PolicyRule::parts)
        .filter(|part| !owned.iter().any(|rule| rule.covers(part)))
        .collect()
}

/// The same rules with the verbs of one resource (and name) together.
pub(crate) fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut compacted = Vec::new();
    let mut simple: BTreeMap<PolicyRule, Vec<String>> = BTreeMap::new();
    for mut rule in rules {
        let is_simple = rule.urls.is_empty()
            && rule.names.len() <= 1
            && (rule.groups.len(), rule.resources.len()) == (1, 1);
        if is_simple {
            let verbs = std::mem::take(&mut rule.verbs);
            simple.entry(rule).or_default().extend(verbs);
        } else {
            compacted.push(rule);
        }
    }
    compacted.extend(simple.into_iter().map(|(rule, verbs)| PolicyRule { verbs, ..rule }));
    compacted
}

/// A list as Go's `%q` writes it: `["a" "b"]`.
pub(crate) fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", texts.join(" "))
}

fn has(texts: &[String], wanted: &str) -> bool {
    texts.iter().any(|text| text == ALL || text == wanted)
}

/// `*`, the resource itself, or `*/subresource`.
fn covers_resource(resources: &[String], wanted: &str) -> bool {
    let subresource = wanted.split_once('/').map(|(_, subresource)| subresource);
    resources.iter().any(|resource| {
        resource == ALL
            || resource == wanted
            || resource.strip_prefix("*/").is_some_and(|own| Some(own) == subresource)
    })
}

fn covers_url(own: &str, wanted: &str) -> bool {
    own == wanted || own.strip_suffix(ALL).is_some_and(|prefix| wanted.starts_with(prefix))
}

const ALL: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        PolicyRule {
            verbs: texts(verbs),
            groups: texts(groups),
            resources: texts(resources),
            names: texts(names),
            urls: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_held_is_told_resource_by_resource() {
        let owned = [rule(&[""], &["pods", "*/status"], &[], &["get", "list"])];
        let wanted = [rule(&["", "apps"], &["pods"], &[], &["get", "delete"])];
        let missing = compact(missing(&owned, &wanted));
        let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#,
                r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete"]}"#,
            ]
        );
    }

    #[test]
    fn a_rule_for_names_does_not_hold_one_for_all() {
        let named = rule(&[""], &["secrets"], &["a"], &["get"]);
        let all = rule(&[""], &["secrets"], &[], &["get"]);
        assert_eq!(missing(std::slice::from_ref(&named), std::slice::from_ref(&all)).len(), 1);
        assert_eq!(missing(&[all], &[named]), []);
    }

    #[test]
    fn everything_is_held_by_stars() {
        let admin = rule(&["*"], &["*"], &[], &["*"]);
        let wanted = rule(&["x"], &["y/z"], &["n"], &["w"]);
        assert_eq!(missing(&[admin], &[wanted]), []);
        let status = rule(&[""], &["*/status"], &[], &["get"]);
        let part = |resource: &str| [rule(&[""], &[resource], &[], &["get"])];
        assert_eq!(missing(std::slice::from_ref(&status), &part("pods/status")), []);
        assert_eq!(missing(&[status], &part("pods")).len(), 1);
    }

    #[test]
    fn urls_may_end_in_a_star() {
        assert!(covers_url("/api/*", "/api/v1"));
        assert!(!covers_url("/api/*", "/api"));
        assert!(covers_url("*", "/"));
        assert!(!covers_url("/healthz", "/healthz/ping"));
    }
}
