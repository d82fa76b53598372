//! ClusterRoles with an `aggregationRule` have the rules of all ClusterRoles that it selects
//! (upstream controller `clusterrole-aggregation`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::authz::RBAC_GROUP;
use crate::meta;
use crate::poststart::pass::{self, Look, Pass};
use crate::registry::Registry;
use crate::registry::own::{Kind, Own};

/// Keeps them so.
pub(crate) fn spawn(registry: &Arc<Registry>) {
    pass::spawn(registry, Aggregate);
}

struct Aggregate;

impl Pass for Aggregate {
    const KINDS: &'static [Kind] = &[CLUSTER_ROLES];

    async fn run(&mut self, registry: &Registry, look: Look) -> Duration {
        if matches!(&look, Look::Changed(changes) if changes.is_empty()) {
            return RESYNC;
        }
        settle(registry).await;
        RESYNC
    }
}

/// Collects until nothing changes: what is aggregated may itself be an aggregate.
pub(super) async fn settle(registry: &Registry) {
    for _ in 0..DEEPEST {
        if !collect(registry).await {
            return;
        }
    }
    tracing::warn!("ClusterRoles aggregate one another more than {DEEPEST} levels deep");
}

/// One level. Whether something changed.
async fn collect(registry: &Registry) -> bool {
    let roles: Vec<Value> =
        registry.all(CLUSTER_ROLES).into_iter().map(|record| record.value()).collect();
    let mut changed = false;
    for role in roles.iter().filter(|role| !role["aggregationRule"].is_null()) {
        let rules = collected(role, &roles);
        let present = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
        if present == rules || meta::is_deleting(role) {
            continue;
        }
        let name = meta::text(role, "name");
        let Some(own) = registry.own(CLUSTER_ROLES, "", name) else { continue };
        let mut new = role.clone();
        new["rules"] = rules.into();
        match (Own { manager: MANAGER, ..own }).update("", new).await {
            Ok(()) => changed = true,
            // Somebody has just changed it: that change makes another look.
            Err(failure) if failure.code == 409 || failure.code == 404 => {}
            Err(failure) => {
                tracing::warn!(role = name, failure = failure.message, "cannot aggregate");
            }
        }
    }
    changed
}

/// The rules of all others that this role selects, in the order of their names, each once.
fn collected(role: &Value, roles: &[Value]) -> Vec<Value> {
    let own_name = meta::text(role, "name");
    let mut rules: Vec<Value> = Vec::new();
    for other in roles {
        let labels = &other["metadata"]["labels"];
        let is_selected = meta::text(other, "name") != own_name
            && wire::rules::rbac::aggregates(&role["aggregationRule"], labels);
        if !is_selected {
            continue;
        }
        for rule in other["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

const CLUSTER_ROLES: Kind = (RBAC_GROUP, "clusterroles");
const MANAGER: &str = "clusterrole-aggregation-controller";
/// Levels of aggregates of aggregates.
const DEEPEST: usize = 8;
/// Only changes matter; this is a safety net.
const RESYNC: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_rules_come_once_and_never_from_itself() {
        let rule = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
        let role = |name: &str, label: &str| json!({ "metadata": { "name": name, "labels": { label: "true" } }, "rules": [rule] });
        let mut all = role("all", "to");
        all["aggregationRule"] =
            json!({ "clusterRoleSelectors": [{ "matchLabels": { "to": "true" } }] });
        let roles = [role("a", "to"), all.clone(), role("b", "to"), role("c", "other")];
        assert_eq!(collected(&all, &roles), [rule]);
    }
}
