//! The roles and bindings of every cluster, brought up to date at start.

mod aggregate;
mod deployed;

use futures::future::join_all;
use serde_json::Value;

use super::error::BootstrapError;
use crate::authz::RBAC_GROUP;
use crate::authz::policy::{AUTO_UPDATE, Policy};
use crate::authz::rule::{PolicyRule, compact, missing};
use crate::meta;
use crate::registry::Registry;
use crate::registry::own::Kind;

pub(super) use aggregate::spawn;
use deployed::Deployed;

/// Creates what is missing, and gives existing roles and bindings what they lack. What people
/// added stays, and objects annotated `autoupdate: "false"` are left alone.
///
/// # Errors
///
/// The object and what the registry said.
pub(super) async fn reconcile(registry: &Registry) -> Result<(), BootstrapError> {
    let Policy { roles, bindings } = Policy::of_every_cluster();
    let of_cluster = |kind: Kind, (name, object): (String, Value)| Deployed {
        kind,
        namespace: String::new(),
        name,
        object,
    };
    let deployed = deployed::roles_and_bindings().map_err(|error| BootstrapError {
        object: "the manifests in deploy/rbac".to_owned(),
        message: error.to_string(),
    })?;
    let all = (roles.into_iter().map(|role| of_cluster(CLUSTER_ROLES, role)))
        .chain(bindings.into_iter().map(|binding| of_cluster(CLUSTER_BINDINGS, binding)))
        .chain(deployed);
    // All at once: the store makes few commits of them.
    let written = join_all(all.map(|wanted| keep(registry, wanted))).await;
    written.into_iter().collect::<Result<(), _>>()?;
    aggregate::settle(registry).await;
    Ok(())
}

async fn keep(
    registry: &Registry,
    Deployed { kind, namespace, name, object: wanted }: Deployed,
) -> Result<(), BootstrapError> {
    let Some(own) = registry.own(kind, &namespace, &name) else { return Ok(()) };
    let result = match own.get() {
        None => own.create(wanted).await,
        Some(present) => match completed(&present, &wanted) {
            Some(new) => own.update("", new).await,
            None => Ok(()),
        },
    };
    match result {
        // Somebody else was faster.
        Err(failure) if failure.code == 409 => Ok(()),
        result => result.map_err(|failure| BootstrapError {
            object: format!("{} {name}", kind.1),
            message: failure.message,
        }),
    }
}

/// The object with everything that it should have; `None` when it has.
fn completed(present: &Value, wanted: &Value) -> Option<Value> {
    if present["metadata"]["annotations"][AUTO_UPDATE] == "false" || meta::is_deleting(present) {
        return None;
    }
    let mut new = present.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            new["metadata"][map][key] = value.clone();
        }
    }
    let lacking =
        missing(&PolicyRule::list(&present["rules"]), &PolicyRule::list(&wanted["rules"]));
    let rules = compact(lacking).into_iter().map(|rule| rule.to_value());
    extend(&mut new, "rules", rules);
    let is_known = |subject: &&Value| {
        let same = |known: &Value| {
            ["kind", "name", "namespace"].iter().all(|part| known[part] == subject[part])
        };
        present["subjects"].as_array().is_some_and(|known| known.iter().any(same))
    };
    let subjects = wanted["subjects"].as_array().into_iter().flatten();
    extend(&mut new, "subjects", subjects.filter(|subject| !is_known(subject)).cloned());
    if !wanted["aggregationRule"].is_null() && present["aggregationRule"].is_null() {
        new["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    (new != *present).then_some(new)
}

fn extend(object: &mut Value, name: &str, more: impl Iterator<Item = Value>) {
    let more: Vec<Value> = more.collect();
    if more.is_empty() {
        return;
    }
    match object[name].as_array_mut() {
        Some(items) => items.extend(more),
        None => object[name] = more.into(),
    }
}

const CLUSTER_ROLES: Kind = (RBAC_GROUP, "clusterroles");
const CLUSTER_BINDINGS: Kind = (RBAC_GROUP, "clusterrolebindings");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_added_stays_and_what_is_missing_comes_back() {
        let rule = |verbs: &[&str], resource: &str| json!({ "verbs": verbs, "apiGroups": [""], "resources": [resource] });
        let user = |name: &str| json!({ "kind": "User", "apiGroup": RBAC_GROUP, "name": name });
        let wanted = json!({
            "metadata": { "annotations": { AUTO_UPDATE: "true" } },
            "rules": [rule(&["get", "list"], "pods")],
            "subjects": [user("a")],
        });
        let mut present = wanted.clone();
        assert_eq!(completed(&present, &wanted), None);
        present["rules"] = json!([rule(&["get"], "pods"), rule(&["get"], "x")]);
        present["subjects"] = json!([user("b")]);
        let new = completed(&present, &wanted).unwrap();
        assert_eq!(new["rules"].as_array().map(Vec::len), Some(3));
        assert_eq!(new["subjects"].as_array().map(Vec::len), Some(2));
        present["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(completed(&present, &wanted), None);
    }
}
