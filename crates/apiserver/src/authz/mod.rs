//! May this user do that? Modes as kube-apiserver's `--authorization-mode`: each is asked in
//! turn, and the first that allows decides.
//!
//! What it is: a decision over roles and bindings held in memory, with its reason; the default
//! roles of every cluster; the rule that nobody grants what he does not have; and the reviews by
//! which clients ask beforehand (`kubectl auth can-i`).
//!
//! What it is not: it does not find out who somebody is (see `auth`).
//!
//! ```text
//!  store ─▶ live ─▶ Rules ─┐
//!  pods  ─▶ node ──────────┼─▶ Authorizer::decide(Attributes) ─▶ Decision { allowed, reason }
//!  system:masters ─────────┘        ▲            ▲          ▲
//!                              http requests  reviews  escalation (writes of roles, bindings)
//! ```

mod aggregate;
mod deployed;
mod escalation;
mod live;
mod node;
mod policy;
pub(crate) mod review;
mod rule;
mod rules;

use std::sync::Arc;

use wire::status::{self, Failure, quote};

use crate::api::User;
use crate::config::AuthorizationMode;
use crate::resources::Resources;
use crate::store::Store;

pub(crate) use aggregate::spawn as spawn_aggregation;
use live::Live;
use node::NodeView;
pub(crate) use policy::reconcile;

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    /// Who.
    pub(crate) user: &'a User,
    /// RBAC's word, or the method of a path in small letters.
    pub(crate) verb: &'a str,
    /// With what.
    pub(crate) asked: Asked<'a>,
}

/// A resource of the API, or a path outside it.
#[derive(Clone, Debug)]
pub(crate) enum Asked<'a> {
    /// A resource.
    Resource(Resource<'a>),
    /// A path.
    Path(&'a str),
}

/// A resource, an object or a subresource. What is not named is empty.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Resource<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Resource<'_> {
    /// `pods` or `pods/log`.
    fn combined(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Attributes<'_> {
    fn namespace(&self) -> &str {
        match &self.asked {
            Asked::Resource(resource) => resource.namespace,
            Asked::Path(_) => "",
        }
    }
}

/// Whether something is allowed, and why; the reason may be empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

impl Decision {
    fn allow(reason: impl Into<String>) -> Self {
        Self { allowed: true, reason: reason.into() }
    }

    fn no(reason: impl Into<String>) -> Self {
        Self { allowed: false, reason: reason.into() }
    }
}

/// Decides.
pub(crate) struct Authorizer {
    modes: Vec<AuthorizationMode>,
    live: Live,
    nodes: NodeView,
}

impl Authorizer {
    /// Over the objects of this store.
    pub(crate) fn new(
        modes: Vec<AuthorizationMode>,
        store: &Arc<Store>,
        resources: &Resources,
    ) -> Self {
        let live = Live::new(store.clone(), resources);
        Self { modes, live, nodes: NodeView::new(store.clone(), resources) }
    }

    /// May this be?
    pub(crate) fn decide(&self, request: &Attributes<'_>) -> Decision {
        if is_master(request.user) {
            return Decision::allow("");
        }
        let mut reasons = Vec::new();
        for mode in &self.modes {
            let decision = match mode {
                AuthorizationMode::AlwaysAllow => Decision::allow(""),
                AuthorizationMode::AlwaysDeny => Decision::no("Everything is forbidden."),
                AuthorizationMode::Node => self.nodes.decide(request),
                AuthorizationMode::Rbac => self.live.with(|rules| rules.decide(request)),
            };
            if decision.allowed {
                return decision;
            }
            reasons.push(decision.reason);
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::no(reasons.join("\n"))
    }

    /// The reason to allow it.
    ///
    /// # Errors
    ///
    /// 403 with the real server's words.
    pub(crate) fn authorize(&self, request: &Attributes<'_>) -> Result<String, Failure> {
        let Decision { allowed, reason } = self.decide(request);
        if allowed { Ok(reason) } else { Err(refuse(request, &reason)) }
    }
}

/// Whether a user may do everything, whatever the modes are.
fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// 403, as `responsewriters.Forbidden` writes it.
fn refuse(request: &Attributes<'_>, reason: &str) -> Failure {
    let (user, verb) = (quote(&request.user.name), request.verb);
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let resource = match &request.asked {
        Asked::Path(path) => {
            let path = quote(path);
            return status::forbidden_path(&format!(
                "User {user} cannot {verb} path {path}{because}"
            ));
        }
        Asked::Resource(resource) => resource,
    };
    let scope = match resource.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", quote(namespace)),
    };
    let why = format!(
        "User {user} cannot {verb} resource {} in API group {} {scope}{because}",
        quote(&resource.combined()),
        quote(resource.group),
    );
    status::forbidden(resource.group, resource.resource, resource.name, &why)
}

/// The group that may do everything.
const MASTERS: &str = "system:masters";
/// API group of roles and bindings.
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
