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

mod attributes;
mod escalation;
mod live;
mod mode;
mod node;
pub(crate) mod policy;
pub(crate) mod review;
pub(crate) mod rule;
mod rules;

use std::sync::Arc;

use wire::status::{self, Failure, quote};

use crate::api::User;
use crate::resources::Resources;
use crate::store::Store;

pub(crate) use attributes::{Asked, Attributes, Decision, RBAC_GROUP, Resource};
use live::Live;
pub use mode::{AuthorizationMode, UnknownMode};
use node::NodeView;

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

#[cfg(test)]
mod tests;
