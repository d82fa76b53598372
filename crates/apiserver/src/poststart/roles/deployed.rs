//! The rights of Portolan's own components: what `deploy/rbac` holds for people to apply to other
//! clusters is in this one from the start, so that no component is ever refused.

use serde_json::Value;

use crate::authz::RBAC_GROUP;
use crate::meta;
use crate::registry::own::Kind;

/// A role or a binding.
pub(super) struct Deployed {
    pub(super) kind: Kind,
    /// Empty for cluster roles and their bindings.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Value,
}

/// The roles and bindings of the manifests. ServiceAccounts are left to those who run pods.
///
/// # Errors
///
/// Never, as long as the manifests are YAML; the test below reads them.
pub(super) fn roles_and_bindings() -> Result<Vec<Deployed>, serde_saphyr::Error> {
    let mut all = Vec::new();
    for manifest in MANIFESTS {
        let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
        all.extend(documents.into_iter().filter_map(deployed));
    }
    Ok(all)
}

fn deployed(object: Value) -> Option<Deployed> {
    let plural = match object["kind"].as_str()? {
        "ClusterRole" => "clusterroles",
        "ClusterRoleBinding" => "clusterrolebindings",
        "Role" => "roles",
        "RoleBinding" => "rolebindings",
        _ => return None,
    };
    Some(Deployed {
        kind: (RBAC_GROUP, plural),
        namespace: meta::text(&object, "namespace").to_owned(),
        name: meta::text(&object, "name").to_owned(),
        object,
    })
}

const MANIFESTS: [&str; 4] = [
    include_str!("../../../../../deploy/rbac/agent.yaml"),
    include_str!("../../../../../deploy/rbac/controller.yaml"),
    include_str!("../../../../../deploy/rbac/dns.yaml"),
    include_str!("../../../../../deploy/rbac/service-lb-controller.yaml"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_a_role_and_a_binding_to_it() {
        let all = roles_and_bindings().unwrap();
        let components = [
            "portolan:agent",
            "portolan:controller",
            "portolan:dns",
            "portolan:service-lb-controller",
        ];
        for component in components {
            let has =
                |plural: &str| all.iter().any(|one| one.kind.1 == plural && one.name == component);
            assert!(has("clusterroles") && has("clusterrolebindings"), "{component}");
        }
        let env = wire::kinds::Env {
            service_cidrs: Vec::new(),
            node_ports: (1, 2),
            advertise: ("192.0.2.1".parse().unwrap(), 1),
        };
        for Deployed { kind: (group, plural), name, object, .. } in all {
            let row = wire::kinds::find(group, "v1", plural).unwrap();
            assert_eq!((row.validate_create)(&object, &env), [], "{plural} {name}");
        }
    }
}
