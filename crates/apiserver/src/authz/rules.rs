//! All roles and bindings, so indexed that a request looks only at the bindings of its user.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::status::quote;

use super::attributes::{Attributes, Decision};
use super::rule::PolicyRule;
use crate::api::User;

/// The rules in force. A pure value: what it answers depends on what was put into it and on
/// nothing else.
#[derive(Default, Debug)]
pub(crate) struct Rules {
    /// By `namespace/name`; ClusterRoles by `name`.
    roles: BTreeMap<String, Vec<PolicyRule>>,
    /// Likewise.
    bindings: BTreeMap<String, Binding>,
    /// Names of the bindings of a subject, by namespace; the empty one is the cluster's.
    by_subject: BTreeMap<(String, Principal), BTreeSet<String>>,
}

/// Kinds that rules are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Role and ClusterRole.
    Role,
    /// RoleBinding and ClusterRoleBinding.
    Binding,
}

#[derive(Debug)]
struct Binding {
    /// `ClusterRoleBinding "b" of ClusterRole "r"`.
    title: String,
    /// Key of the role; an error when there cannot be such a role.
    role: Result<String, String>,
    /// What to say when there is no such role.
    role_missing: String,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    principal: Principal,
    /// `User "x"`.
    title: String,
}

/// Whom a subject means. ServiceAccounts are users with long names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Principal {
    User(String),
    Group(String),
}

/// A binding that gives a user rights.
pub(crate) struct Grant<'a> {
    binding: &'a Binding,
    subject: &'a Subject,
    /// The rules of its role, or why there are none.
    pub(crate) rules: Result<&'a [PolicyRule], &'a str>,
}

impl Grant<'_> {
    /// `ClusterRoleBinding "b" of ClusterRole "r" to User "u"`.
    pub(crate) fn source(&self) -> String {
        format!("{} to {}", self.binding.title, self.subject.title)
    }
}

impl Rules {
    /// Takes in a new or changed object; `path` is `namespace/name`, or the name.
    pub(crate) fn put(&mut self, part: Part, path: &str, object: &Value) {
        self.remove(part, path);
        match part {
            Part::Role => {
                self.roles.insert(path.to_owned(), PolicyRule::list(&object["rules"]));
            }
            Part::Binding => {
                let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
                let binding = binding(namespace, name, object);
                for subject in &binding.subjects {
                    let key = (namespace.to_owned(), subject.principal.clone());
                    self.by_subject.entry(key).or_default().insert(path.to_owned());
                }
                self.bindings.insert(path.to_owned(), binding);
            }
        }
    }

    /// Forgets a deleted object.
    pub(crate) fn remove(&mut self, part: Part, path: &str) {
        match part {
            Part::Role => drop(self.roles.remove(path)),
            Part::Binding => {
                let Some(binding) = self.bindings.remove(path) else { return };
                let namespace = path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
                for subject in binding.subjects {
                    let key = (namespace.to_owned(), subject.principal);
                    if let Some(paths) = self.by_subject.get_mut(&key) {
                        paths.remove(path);
                        if paths.is_empty() {
                            self.by_subject.remove(&key);
                        }
                    }
                }
            }
        }
    }

    /// Forgets all objects of a kind: those in Namespaces, or those of the cluster.
    pub(crate) fn clear(&mut self, part: Part, namespaced: bool) {
        let paths: Vec<String> = match part {
            Part::Role => self.roles.keys().cloned().collect(),
            Part::Binding => self.bindings.keys().cloned().collect(),
        };
        for path in paths.iter().filter(|path| path.contains('/') == namespaced) {
            self.remove(part, path);
        }
    }

    /// The bindings of a user: those of the cluster, then those of the namespace unless it is
    /// empty.
    pub(crate) fn grants(&self, user: &User, namespace: &str) -> Vec<Grant<'_>> {
        let mut scopes = vec![""];
        if !namespace.is_empty() {
            scopes.push(namespace);
        }
        scopes.into_iter().flat_map(|scope| self.grants_in(user, scope)).collect()
    }

    /// The rules of a role that a binding in this namespace (empty: of the cluster) refers to.
    ///
    /// # Errors
    ///
    /// `role.rbac.authorization.k8s.io "x" not found`.
    pub(crate) fn role(&self, namespace: &str, reference: &Value) -> Result<&[PolicyRule], String> {
        let key = role_key(namespace, reference)?;
        self.roles.get(&key).map(Vec::as_slice).ok_or_else(|| role_missing(reference))
    }

    /// May this be? The reason names the binding, or what is wrong with bindings that might
    /// have allowed it.
    pub(crate) fn decide(&self, request: &Attributes<'_>) -> Decision {
        let mut problems: Vec<&str> = Vec::new();
        for grant in self.grants(request.user, request.namespace()) {
            match grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(request)) => {
                    return Decision::allow(format!("RBAC: allowed by {}", grant.source()));
                }
                Ok(_) => {}
                Err(problem) if problems.contains(&problem) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Decision::no(match problems.as_slice() {
            [] => String::new(),
            [problem] => format!("RBAC: {problem}"),
            problems => format!("RBAC: [{}]", problems.join(", ")),
        })
    }

    fn grants_in(&self, user: &User, scope: &str) -> Vec<Grant<'_>> {
        let principals: Vec<Principal> = std::iter::once(Principal::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Principal::Group))
            .collect();
        let mut paths: BTreeMap<&String, &Principal> = BTreeMap::new();
        for principal in &principals {
            let found = self.by_subject.get(&(scope.to_owned(), principal.clone()));
            for path in found.into_iter().flatten() {
                paths.entry(path).or_insert(principal);
            }
        }
        paths.into_iter().filter_map(|(path, principal)| self.grant(path, principal)).collect()
    }

    fn grant(&self, path: &str, principal: &Principal) -> Option<Grant<'_>> {
        let binding = self.bindings.get(path)?;
        let subject = binding.subjects.iter().find(|subject| subject.principal == *principal)?;
        let rules = match &binding.role {
            Ok(key) => {
                let rules = self.roles.get(key).map(Vec::as_slice);
                rules.ok_or(binding.role_missing.as_str())
            }
            Err(problem) => Err(problem.as_str()),
        };
        Some(Grant { binding, subject, rules })
    }
}

fn binding(namespace: &str, name: &str, object: &Value) -> Binding {
    let reference = &object["roleRef"];
    let title = match namespace {
        "" => format!("ClusterRoleBinding {}", quote(name)),
        namespace => format!("RoleBinding {}", quote(&format!("{name}/{namespace}"))),
    };
    let title =
        format!("{title} of {} {}", text(reference, "kind"), quote(text(reference, "name")));
    let subjects = object["subjects"].as_array().into_iter().flatten();
    Binding {
        title,
        role: role_key(namespace, reference),
        role_missing: role_missing(reference),
        subjects: subjects.filter_map(|subject| self::subject(namespace, subject)).collect(),
    }
}

/// `None` for a ServiceAccount without a namespace, and for unknown kinds: they mean nobody.
fn subject(namespace: &str, subject: &Value) -> Option<Subject> {
    let name = text(subject, "name");
    let title = |name: &str| format!("{} {}", text(subject, "kind"), quote(name));
    Some(match text(subject, "kind") {
        "User" => Subject { principal: Principal::User(name.to_owned()), title: title(name) },
        "Group" => Subject { principal: Principal::Group(name.to_owned()), title: title(name) },
        "ServiceAccount" => {
            let own = text(subject, "namespace");
            let namespace = if own.is_empty() { namespace } else { own };
            if namespace.is_empty() {
                return None;
            }
            Subject {
                principal: Principal::User(format!("system:serviceaccount:{namespace}:{name}")),
                title: title(&format!("{name}/{namespace}")),
            }
        }
        _ => return None,
    })
}

fn role_key(namespace: &str, reference: &Value) -> Result<String, String> {
    let name = text(reference, "name");
    match text(reference, "kind") {
        "Role" if !namespace.is_empty() => Ok(format!("{namespace}/{name}")),
        "ClusterRole" => Ok(name.to_owned()),
        kind => Err(format!("unsupported role reference kind: {}", quote(kind))),
    }
}

fn role_missing(reference: &Value) -> String {
    let kind = text(reference, "kind").to_lowercase();
    format!("{kind}.rbac.authorization.k8s.io {} not found", quote(text(reference, "name")))
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}
