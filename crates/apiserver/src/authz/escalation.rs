//! Nobody grants what he does not have (`pkg/registry/rbac/*/policybased`): who writes a role must
//! hold its rules, who writes a binding those of its role, unless the verbs `escalate` or `bind`
//! allow it.

use serde_json::Value;
use wire::status::{self, Failure, quote};

use super::attributes::{Asked, Attributes, RBAC_GROUP, Resource};
use super::rule::{PolicyRule, compact, missing, quoted};
use super::{Authorizer, is_master};
use crate::api::{Request, User};

impl Authorizer {
    /// Refuses a write of a role or binding that would give more than its writer has.
    ///
    /// # Errors
    ///
    /// 403 that names the rights; 404 when the role of a binding does not exist.
    pub(crate) fn check_escalation(
        &self,
        request: &Request,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        if request.kind.group() != RBAC_GROUP || is_master(&request.user) {
            return Ok(());
        }
        let is_same = |name: &str| old.is_some_and(|old| is_equal(&new[name], &old[name]));
        match request.kind.plural() {
            "roles" | "clusterroles" => {
                if is_same("rules") && is_same("aggregationRule") {
                    return Ok(());
                }
                self.check_role(request, new)
            }
            _ if is_same("subjects") && is_same("roleRef") => Ok(()),
            _ => self.check_binding(request, new),
        }
    }

    /// Refuses a PUT or apply to a missing name by a user who may not create.
    ///
    /// # Errors
    ///
    /// 403.
    pub(crate) fn check_create(&self, request: &Request) -> Result<(), Failure> {
        let asked = Asked::Resource(Resource {
            group: request.kind.group(),
            resource: request.kind.plural(),
            subresource: request.subresource(),
            namespace: request.namespace(),
            name: request.name(),
        });
        let user = &request.user;
        self.authorize(&Attributes { user, verb: "create", asked }).map(drop)
    }

    fn check_role(&self, request: &Request, role: &Value) -> Result<(), Failure> {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        if self.may(request, "escalate", request.kind.plural(), name) {
            return Ok(());
        }
        // What an aggregation collects is not known beforehand: everything must be held.
        let mut wanted = PolicyRule::list(&role["rules"]);
        if !role["aggregationRule"].is_null() {
            wanted.extend(everything());
        }
        self.check_held(request, name, &wanted)
    }

    fn check_binding(&self, request: &Request, binding: &Value) -> Result<(), Failure> {
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        let reference = &binding["roleRef"];
        let role = reference["name"].as_str().unwrap_or_default();
        let plural = match reference["kind"].as_str() {
            Some("ClusterRole") => "clusterroles",
            Some("Role") => "roles",
            // Not a kind of role: validation will say so.
            _ => return Ok(()),
        };
        if self.may(request, "bind", plural, role) {
            return Ok(());
        }
        let rules = self
            .live
            .with(|rules| rules.role(request.namespace(), reference).map(<[PolicyRule]>::to_vec));
        let Ok(rules) = rules else {
            return Err(status::not_found(RBAC_GROUP, plural, role));
        };
        self.check_held(request, name, &rules)
    }

    fn may(&self, request: &Request, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Asked::Resource(Resource {
            group: RBAC_GROUP,
            resource,
            subresource: "",
            namespace: request.namespace(),
            name,
        });
        self.decide(&Attributes { user: &request.user, verb, asked }).allowed
    }

    fn check_held(
        &self,
        request: &Request,
        name: &str,
        wanted: &[PolicyRule],
    ) -> Result<(), Failure> {
        let user = &request.user;
        let (owned, problems) = self.rules_of(user, request.namespace());
        let missing = compact(missing(&owned, wanted));
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
        lines.sort();
        lines.dedup();
        let mut why = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&user.name),
            quoted(&user.groups),
            lines.join("\n")
        );
        if !problems.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", problems.join(", ")));
        }
        let (group, plural) = (request.kind.group(), request.kind.plural());
        Err(status::forbidden(group, plural, name, &why))
    }

    /// All rules of a user in a namespace (empty: in the cluster), and what is wrong with bindings
    /// that give him none.
    pub(super) fn rules_of(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        self.live.with(|rules| {
            let (mut owned, mut problems) = (Vec::new(), Vec::new());
            for grant in rules.grants(user, namespace) {
                match grant.rules {
                    Ok(rules) => owned.extend_from_slice(rules),
                    Err(problem) => problems.push(problem.to_owned()),
                }
            }
            (owned, problems)
        })
    }
}

/// Absent, `null` and empty are one.
fn is_equal(left: &Value, right: &Value) -> bool {
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    left == right || (is_empty(left) && is_empty(right))
}

pub(super) fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), urls: all(), ..PolicyRule::default() },
    ]
}
