//! Tolerance: bad parts are left out, and nothing panics.

use model::{Object, ServiceType, TargetPort};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_short_manifest_is_a_service() {
    let web = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    });
    let Ok(Object::Service(service)) = object(&web) else { panic!("not a Service") };
    assert_eq!(service.name().to_string(), "default/web");
    assert_eq!(service.kind, ServiceType::ClusterIp);
    assert_eq!(service.ports[0].target, TargetPort::Number(service.ports[0].port));
}

#[test]
fn connections_are_reset_only_if_the_annotation_says_true() {
    // D35.
    for (annotations, resets) in [
        (json!({}), false),
        (json!({ "portolan.dev/reset-connections": "true" }), true),
        (json!({ "portolan.dev/reset-connections": "false" }), false),
        (json!({ "portolan.dev/reset-connections": "yes" }), false),
    ] {
        let web = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "annotations": annotations },
            "spec": { "ports": [{ "port": 80 }] },
        });
        let Ok(Object::Service(service)) = object(&web) else { panic!("not a Service") };
        assert_eq!(service.reset_connections, resets, "{annotations}");
    }
}

#[test]
fn bad_parts_are_left_out() {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.244.0.5"], "conditions": { "ready": false } },
            { "addresses": ["fd00::5"] },
            { "addresses": ["nonsense"] },
            7,
        ],
        "ports": [{ "port": 80 }, { "name": "b", "port": 99999 }, { "protocol": "quic" }],
    });
    let slice = endpoint_slice(&slice).expect("only parts of it are bad");
    assert_eq!(slice.endpoints.len(), 1);
    assert!(!slice.endpoints[0].conditions.ready && slice.endpoints[0].conditions.serving);
    assert_eq!(slice.ports.len(), 2);
    assert_eq!(slice.ports[1].port, None);
}

#[test]
fn an_object_beyond_use_is_rejected_with_its_name() {
    let web = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "a" },
        "spec": { "type": "Cluster" },
    });
    let error = object(&web).expect_err("the type is unknown");
    assert_eq!(error.to_string(), "Service a/web: spec.type is \"Cluster\", which is unknown");
}

#[test]
fn the_template_is_canonical() {
    let parsed = |template: &str| {
        let text = format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"d"}},
                "spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},"template":{template}}}}}"#
        );
        deployment(&serde_json::from_str(&text).expect("valid JSON")).expect("a Deployment")
    };
    let one = parsed(r#"{"metadata":{"labels":{"a":"b","c":"d"}},"spec":{"containers":[]}}"#);
    let two = parsed(r#"{"spec":{"containers":[]},"metadata":{"labels":{"c":"d","a":"b"}}}"#);
    assert_eq!(one.template, two.template);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:./-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field_name(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Names that the parsers look at, so that they meet values of wrong types.
fn field_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "name",
        "namespace",
        "labels",
        "spec",
        "type",
        "ports",
        "port",
        "targetPort",
        "nodePort",
        "clusterIP",
        "clusterIPs",
        "addresses",
        "endpoints",
        "conditions",
        "containers",
        "image",
        "resources",
        "limits",
        "subsets",
        "status",
        "podIPs",
        "ip",
        "template",
        "metadata",
        "selector",
        "matchExpressions",
        "strategy",
        "rollingUpdate",
        "env",
        "volumes",
        "taints",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn no_json_panics(metadata in any_json(), spec in any_json(), rest in any_json()) {
        for row in kinds::kinds() {
            let mut value = json!({
                "apiVersion": row.api_version(), "kind": row.kind,
                "metadata": metadata, "spec": spec, "status": rest,
                "subsets": rest, "endpoints": spec, "ports": rest, "addressType": "IPv4",
            });
            let _ = object(&value);
            value["metadata"] = json!({ "name": "x" });
            let _ = object(&value);
        }
    }
}
