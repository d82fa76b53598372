//! What goes when a Namespace goes.

use model::{Meta, NamespaceName, Reason, Resource, Write};

use crate::{Inventory, Reconciled};

/// The next step of removing a terminating Namespace: delete what is in it, and once nothing is
/// left, finalize it. Does nothing for a Namespace that is not being deleted.
///
/// Pods go first (KEP-5080): nothing that protects them, such as a NetworkPolicy, may go before them.
pub fn namespace(inventory: &Inventory, name: &NamespaceName) -> Reconciled {
    let mut result = Reconciled::default();
    if !is_terminating(inventory, name) {
        return result;
    }
    let content: Vec<(&Resource, &Meta)> = inventory
        .iter()
        .filter(|(resource, _)| resource.namespaced)
        .flat_map(|(resource, objects)| objects.iter().map(move |meta| (resource, meta)))
        .filter(|(_, meta)| meta.namespace == *name)
        .collect();
    if content.is_empty() {
        result.writes.push(Write::FinalizeNamespace(name.clone()));
        return result;
    }
    let has_pods = content.iter().any(|(resource, _)| is_pod(resource));
    for &(resource, meta) in &content {
        if meta.deleting.is_some() || has_pods && !is_pod(resource) {
            continue;
        }
        result.writes.push(Write::Delete {
            resource: resource.clone(),
            meta: Box::new(meta.clone()),
            grace_seconds: None,
        });
    }
    result.report.push(Reason::Other(format!("{} objects are left", content.len())));
    result
}

fn is_terminating(inventory: &Inventory, name: &NamespaceName) -> bool {
    inventory
        .iter()
        .filter(|(resource, _)| is_core(resource, "namespaces"))
        .flat_map(|(_, objects)| objects)
        .any(|meta| meta.name == *name && meta.deleting.is_some())
}

fn is_pod(resource: &Resource) -> bool {
    is_core(resource, "pods")
}

fn is_core(resource: &Resource, plural: &str) -> bool {
    resource.group.is_empty() && resource.plural.as_str() == plural
}
