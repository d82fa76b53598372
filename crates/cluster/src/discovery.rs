//! Which resources the server has.

use std::collections::BTreeMap;

use model::{Name, Resource};
use serde_json::Value;

use crate::client::{Client, RequestError};

impl Client {
    /// Every resource that can be listed, watched and deleted, in its preferred version, ordered.
    ///
    /// A group whose discovery fails (an aggregated API that is down) is left out and logged: it
    /// must not stop the others.
    ///
    /// # Errors
    /// When the server does not answer, or not for the core group.
    pub async fn resources(&self) -> Result<Vec<Resource>, RequestError> {
        let mut lists = vec![("".to_owned(), "v1".to_owned(), "/api/v1".to_owned())];
        let groups = self.get("/apis").await?;
        for group in groups["groups"].as_array().into_iter().flatten() {
            let name = group["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().into_iter().flatten() {
                let version = version["version"].as_str().unwrap_or_default();
                lists.push((
                    name.to_owned(),
                    version.to_owned(),
                    format!("/apis/{name}/{version}"),
                ));
            }
        }
        let mut found = BTreeMap::new();
        for (group, version, path) in lists {
            match self.get(&path).await {
                Ok(list) => add(&mut found, &group, &version, &list),
                Err(error) if group.is_empty() => return Err(error),
                Err(error) => tracing::warn!(
                    group,
                    version,
                    error = &error as &dyn std::error::Error,
                    "could not discover an API group, its objects are left alone"
                ),
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Adds the usable resources of one `APIResourceList`. Versions come in the order of preference:
/// the first that has a resource keeps it.
fn add(found: &mut BTreeMap<(Name, Name), Resource>, group: &str, version: &str, list: &Value) {
    for entry in list["resources"].as_array().into_iter().flatten() {
        let text = |field: &str| Name::from(entry[field].as_str().unwrap_or_default());
        let verbs: Vec<&str> =
            entry["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let usable = ["list", "watch", "delete"].iter().all(|verb| verbs.contains(verb));
        let plural = text("name");
        if !usable || plural.contains('/') {
            continue;
        }
        found.entry((group.into(), plural.clone())).or_insert_with(|| Resource {
            group: group.into(),
            version: version.into(),
            plural,
            kind: text("kind"),
            namespaced: entry["namespaced"].as_bool().unwrap_or_default(),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subresources_and_unwatchable_resources_are_left_out() {
        let all = json!(["create", "delete", "get", "list", "watch"]);
        let list = json!({"resources": [
            {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": all},
            {"name": "pods/log", "kind": "Pod", "namespaced": true, "verbs": ["get"]},
            {"name": "bindings", "kind": "Binding", "namespaced": true, "verbs": ["create"]},
        ]});
        let mut found = BTreeMap::new();
        add(&mut found, "", "v1", &list);
        assert_eq!(found.len(), 1);
        assert!(
            found.values().all(|resource| resource.kind == "Pod".into() && resource.namespaced)
        );
    }

    #[test]
    fn the_preferred_version_of_a_resource_wins() {
        let list = json!({"resources": [
            {"name": "leases", "kind": "Lease", "namespaced": true, "verbs": ["delete", "list", "watch"]},
        ]});
        let mut found = BTreeMap::new();
        add(&mut found, "coordination.k8s.io", "v1", &list);
        add(&mut found, "coordination.k8s.io", "v1beta1", &list);
        let versions: Vec<&str> =
            found.values().map(|resource| resource.version.as_str()).collect();
        assert_eq!(versions, ["v1"]);
    }
}
