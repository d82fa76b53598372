//! `--audit-policy-file`: which requests are written down (`audit.k8s.io/v1` Policy).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::authz::{Asked, Attributes, Resource};

/// Which requests are written down, how much of them, and at which stages. The first rule that
/// fits decides; what no rule fits is not written.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

/// What a policy says of one request.
#[derive(Clone, Default, Debug)]
pub(super) struct Wanted {
    /// How much is written down.
    pub(super) level: Level,
    omitted: Vec<Stage>,
    /// Whether `metadata.managedFields` are left out of bodies.
    pub(super) omits_managed_fields: bool,
}

impl Wanted {
    /// Whether an event is written at this stage.
    pub(super) fn at(&self, stage: Stage) -> bool {
        self.level > Level::None && !self.omitted.contains(&stage)
    }
}

/// When an event is written.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
pub(super) enum Stage {
    /// The request has come.
    RequestReceived,
    /// The head of a long answer has been sent.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server panicked while it answered.
    Panic,
}

/// How much of a request is written down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Debug)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what, when, and what came of it.
    Metadata,
    /// The request's body as well.
    Request,
    /// The bodies of request and answer as well.
    RequestResponse,
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the audit policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no Policy, or has parts that this server does not know.
    #[error("{} is no audit.k8s.io/v1 Policy that this server can follow: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Policy {
    /// Metadata of every request.
    pub(super) fn everything() -> Self {
        let all = Rule { level: Level::Metadata, ..Rule::default() };
        Self { rules: vec![all], omit_stages: Vec::new(), omit_managed_fields: false }
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| PolicyError::Parse { path: path.to_owned(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if file.api_version != "audit.k8s.io/v1" || file.kind != "Policy" {
            return Err(format!("it is {} {}", file.api_version, file.kind));
        }
        if file.rules.is_empty() {
            return Err("it has no rules".to_owned());
        }
        for (index, rule) in file.rules.iter().enumerate() {
            rule.check().map_err(|reason| format!("rules[{index}].{reason}"))?;
        }
        Ok(Self {
            rules: file.rules,
            omit_stages: file.omit_stages,
            omit_managed_fields: file.omit_managed_fields,
        })
    }

    /// How this request is written down.
    pub(super) fn wants(&self, request: &Attributes<'_>) -> Wanted {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(request)) else {
            return Wanted::default();
        };
        Wanted {
            level: rule.level,
            omitted: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omits_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Rule {
    /// What kube-apiserver refuses of a rule (apiserver `audit/validation`).
    fn check(&self) -> Result<(), String> {
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.urls.is_empty() {
            return Err("nonResourceURLs: rules cannot apply to both regular resources and \
                        non-resource URLs"
                .to_owned());
        }
        for (index, url) in self.urls.iter().enumerate() {
            if url != "*" && !url.starts_with('/') {
                return Err(format!("nonResourceURLs[{index}]: {url} must start with '/'"));
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                return Err(format!("nonResourceURLs[{index}]: '*' is only valid at the end"));
            }
        }
        for (index, group) in self.resources.iter().enumerate() {
            if group.resources.is_empty() && !group.resource_names.is_empty() {
                return Err(format!(
                    "resources[{index}].resourceNames: requires at least one resource"
                ));
            }
        }
        Ok(())
    }

    /// Empty lists fit everything.
    fn fits(&self, request: &Attributes<'_>) -> bool {
        let has = |list: &[String], wanted: &str| {
            list.is_empty() || list.iter().any(|item| item == wanted)
        };
        let groups = self.user_groups.is_empty()
            || self.user_groups.iter().any(|group| request.user.groups.contains(group));
        if !groups || !has(&self.users, &request.user.name) || !has(&self.verbs, request.verb) {
            return false;
        }
        match &request.asked {
            Asked::Resource(resource) => {
                let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
                (self.urls.is_empty() || about_resources)
                    && has(&self.namespaces, resource.namespace)
                    && (self.resources.is_empty()
                        || self.resources.iter().any(|group| group.fits(resource)))
            }
            Asked::Path(path) => {
                let fits = |url: &String| match url.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => url == path,
                };
                self.urls.iter().any(fits)
                    || (self.urls.is_empty()
                        && self.resources.is_empty()
                        && self.namespaces.is_empty())
            }
        }
    }
}

impl GroupResources {
    fn fits(&self, resource: &Resource<'_>) -> bool {
        let combined = match resource.subresource {
            "" => resource.resource.to_owned(),
            subresource => format!("{}/{subresource}", resource.resource),
        };
        let is = |wanted: &String| {
            let (all_of, all_sub) = (wanted.strip_suffix("/*"), wanted.strip_prefix("*/"));
            *wanted == combined
                || wanted == "*"
                || (!resource.subresource.is_empty()
                    && (all_of == Some(resource.resource) || all_sub == Some(resource.subresource)))
        };
        self.group == resource.group
            && (self.resources.is_empty() || self.resources.iter().any(is))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == resource.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::User;

    fn wants(policy: &str, user: &str, verb: &str, asked: Asked<'_>) -> bool {
        let user = User { name: user.to_owned(), ..User::default() };
        let wanted = Policy::parse(policy).unwrap().wants(&Attributes { user: &user, verb, asked });
        assert!(!wanted.at(Stage::RequestReceived), "is left out by the policy");
        wanted.at(Stage::ResponseComplete)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [robot]
- level: Metadata
  resources:
  - group: ''
    resources: [pods/*, secrets]
- level: None
  nonResourceURLs: [/healthz*]
- level: Metadata
  verbs: [delete]
";
        let core = |resource, subresource| {
            Asked::Resource(Resource { resource, subresource, ..Resource::default() })
        };
        for (user, verb, asked, expected) in [
            ("robot", "get", core("secrets", ""), false),
            ("a", "get", core("secrets", ""), true),
            ("a", "get", core("pods", "log"), true),
            ("a", "get", core("pods", ""), false),
            ("a", "delete", core("pods", ""), true),
            ("a", "get", Asked::Path("/healthz/ping"), false),
            ("a", "delete", Asked::Path("/x"), true),
        ] {
            assert_eq!(wants(policy, user, verb, asked.clone()), expected, "{user} {asked:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (policy, why) in [
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]", "All"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, \
                 namespaces: [a], nonResourceURLs: [/a]}]",
                "rules[0].nonResourceURLs",
            ),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, \
                 nonResourceURLs: [/a*b]}]",
                "at the end",
            ),
            ("apiVersion: v1\nkind: Policy\nrules: [{level: None}]", "v1 Policy"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "no rules"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, x: 1}]", "x"),
        ] {
            let reason = Policy::parse(policy).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
    }
}
