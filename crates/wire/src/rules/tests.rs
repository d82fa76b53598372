//! What tests of rules share, and properties of all of them.

use crate::kinds::Env;
use crate::status::{CauseReason, FieldError};

/// A dual-stack cluster with IPv4 first.
pub(crate) fn env() -> Env {
    Env {
        service_cidrs: ["10.96.0.0/16", "fd00:10:96::/112"]
            .map(|cidr| cidr.parse().expect("a literal CIDR"))
            .to_vec(),
        node_ports: (30_000, 32_767),
        advertise: ("172.30.0.1".parse().expect("a literal address"), 6443),
    }
}

/// Path and reason of each error.
pub(crate) fn outcome(errors: &[FieldError]) -> Vec<(&str, CauseReason)> {
    errors.iter().map(|error| (error.field.as_str(), error.reason)).collect()
}

mod properties {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::env;
    use crate::kinds::kinds;

    /// Parts of objects that defaults look at.
    fn part() -> impl Strategy<Value = Value> {
        let port = json!({ "port": 80 });
        let probe = json!({ "httpGet": { "port": 80 }, "periodSeconds": 0 });
        let container = json!({
            "name": "c", "image": "web", "ports": [{ "containerPort": 80 }],
            "readinessProbe": probe, "resources": { "limits": { "cpu": "1" } },
        });
        let pod = json!({ "containers": [container], "volumes": [{ "name": "v" }] });
        prop::sample::subsequence(
            vec![
                ("type", json!("LoadBalancer")),
                ("type", json!("ExternalName")),
                ("ports", json!([port, 7])),
                ("externalIPs", json!(["192.0.2.1"])),
                ("sessionAffinity", json!("ClientIP")),
                ("clusterIP", json!("None")),
                ("containers", pod["containers"].clone()),
                ("hostNetwork", json!(true)),
                ("template", json!({ "spec": pod })),
                ("strategy", json!({ "type": "Recreate" })),
                ("podCIDR", json!("10.244.0.0/24")),
                ("finalizers", json!(["x"])),
                ("selector", json!({ "matchLabels": { "a": "b" } })),
            ],
            0..13,
        )
        .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    proptest! {
        #[test]
        fn defaulting_twice_changes_nothing(spec in part(), status in part()) {
            // S1.
            for row in kinds() {
                let mut once = json!({
                    "metadata": { "name": "x" }, "spec": spec, "status": status,
                    "ports": [{ "port": 80 }], "endpoints": [{ "addresses": ["10.0.0.1"] }],
                    "subsets": [{ "ports": [{ "port": 80 }] }], "stringData": { "a": "1" },
                });
                (row.default)(&mut once, &env());
                let mut twice = once.clone();
                (row.default)(&mut twice, &env());
                prop_assert_eq!(once, twice, "{:?}", row);
            }
        }
    }
}
