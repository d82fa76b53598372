//! Calls read back as what they were made from.

use std::sync::Arc;

use model::{
    Deployment, EndpointsName, Event, EventKind, Ingress, IpMode, Meta, Object, PodTemplate,
    Resource, ServiceName,
};
use serde_json::json;

use super::*;
use crate::to_model;

#[test]
fn a_slice_survives_the_way_out_and_back() {
    let value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1", "namespace": "default", "resourceVersion": "7", "uid": "u",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv6",
        "endpoints": [{
            "addresses": ["fd00::5"], "nodeName": "n1", "zone": "z",
            "conditions": { "ready": false, "serving": true, "terminating": true },
            "targetRef": { "kind": "Pod", "namespace": "default", "name": "p", "uid": "1" },
            "hints": { "forZones": [{ "name": "z" }], "forNodes": [{ "name": "n1" }] },
        }],
        "ports": [{ "name": "", "protocol": "UDP", "port": 53, "appProtocol": "dns" }],
    });
    let slice = to_model::endpoint_slice(&value).expect("a valid slice");
    let call = call(&Write::UpdateSlice(Box::new(slice.clone())));
    assert_eq!(call.path, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1");
    assert_eq!(call.method, Method::Put);
    assert_eq!(call.body, value);
}

#[test]
fn a_slice_without_a_name_is_named_by_the_server() {
    let mut slice = to_model::endpoint_slice(&json!({
        "metadata": { "name": "x", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
    }))
    .expect("a valid slice");
    slice.meta.name = "".into();
    let call = call(&Write::CreateSlice(Box::new(slice)));
    assert_eq!(call.body["metadata"]["generateName"], "web-");
    assert_eq!(call.body["metadata"].get("name"), None);
}

#[test]
fn endpoints_are_created_when_missing() {
    let endpoints = to_model::endpoints(&json!({
        "metadata": { "name": "web", "resourceVersion": "3", "uid": "u" },
        "subsets": [{ "addresses": [{ "ip": "10.1.2.3" }], "ports": [{ "port": 80 }] }],
    }))
    .expect("valid Endpoints");
    let call = call(&Write::PutEndpoints(Box::new(endpoints)));
    assert_eq!(call.body["subsets"][0]["ports"], json!([{ "port": 80, "protocol": "TCP" }]));
    let created = call.if_missing.expect("a call for the missing object");
    assert_eq!(created.method, Method::Post);
    assert_eq!(created.body["metadata"].get("uid"), None);
}

#[test]
fn a_pod_is_made_from_its_template() {
    let body = r#"{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c"}]}}"#;
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let owner = model::Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: "web-1".into(),
        uid: "u".into(),
        controller: true,
        block_owner_deletion: true,
    };
    let call = call(&Write::CreatePod {
        namespace: "default".into(),
        generate_name: "web-1-".to_owned(),
        owner,
        template: PodTemplate { labels, body: Arc::from(body) },
    });
    assert_eq!(call.path, "/api/v1/namespaces/default/pods");
    assert_eq!(call.body["metadata"]["generateName"], "web-1-");
    assert_eq!(call.body["metadata"]["labels"], json!({ "app": "web" }));
    assert_eq!(call.body["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(call.body["spec"], json!({ "containers": [{ "name": "c" }] }));
}

#[test]
fn a_deployment_status_reads_back() {
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {} },
        "status": {
            "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 1,
            "conditions": [{
                "type": "Available", "status": "False", "reason": "R", "message": "m",
                "lastUpdateTime": "2024-05-05T05:05:05Z",
                "lastTransitionTime": "2024-05-05T05:05:04Z",
            }],
        },
    });
    let Ok(Object::Deployment(deployment)) = to_model::object(&value) else {
        panic!("not a Deployment")
    };
    let Deployment { status, .. } = (*deployment).clone();
    let name = deployment.name();
    let call = call(&Write::DeploymentStatus { name, status, revision: 4 });
    let annotations = &call.body["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "4");
    assert_eq!(call.body["status"]["unavailableReplicas"], 3);
    assert_eq!(call.body["status"]["availableReplicas"], Value::Null);
    assert_eq!(call.body["status"]["conditions"], value["status"]["conditions"]);
}

#[test]
fn ingress_is_merged_into_the_status() {
    let name = ServiceName::new("default", "web");
    let address = "192.0.2.1".parse().expect("a literal address");
    let ingress = vec![Ingress::Ip(address, IpMode::Vip)];
    let call = call(&Write::ServiceIngress { name, uid: "u".into(), ingress });
    assert_eq!(call.path, "/api/v1/namespaces/default/services/web/status");
    let expected = json!({
        "metadata": { "uid": "u" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] } },
    });
    assert_eq!(call.body, expected);
}

#[test]
fn foreign_kinds_lose_a_finalizer_by_replacement() {
    let resource = Resource {
        group: "example.com".into(),
        version: "v1".into(),
        plural: "things".into(),
        kind: "Thing".into(),
        namespaced: true,
    };
    let mut meta = Meta::new("default", "a");
    meta.finalizers = ["x".to_owned(), "y".to_owned()].into();
    meta.resource_version = "9".into();
    let finalizer = "x".to_owned();
    let call = call(&Write::RemoveFinalizer { resource, meta: Box::new(meta), finalizer });
    assert_eq!(call.path, "/apis/example.com/v1/namespaces/default/things/a");
    assert_eq!(call.body["metadata"]["finalizers"], json!(["y"]));
    assert_eq!(call.body["metadata"]["resourceVersion"], "9");
}

#[test]
fn a_namespace_keeps_the_finalizers_of_others() {
    let live = json!({
        "metadata": { "name": "n", "resourceVersion": "7" },
        "spec": { "finalizers": ["example.com/mine", "kubernetes"] },
    });
    let call = finalize_namespace(&"n".into(), &live);
    assert_eq!((call.method, call.path.as_str()), (Method::Put, "/api/v1/namespaces/n/finalize"));
    assert_eq!(call.body["spec"]["finalizers"], json!(["example.com/mine"]));
    assert_eq!(call.body["metadata"]["resourceVersion"], "7");
}

#[test]
fn a_deletion_without_a_uid_has_no_precondition() {
    let call = call(&Write::DeleteEndpoints(EndpointsName::new("default", "web")));
    assert_eq!(call.method, Method::Delete);
    assert_eq!(call.body.get("preconditions"), None);
}

#[test]
fn events_get_their_time_when_they_are_sent() {
    let event = Event {
        api_version: "v1".into(),
        kind: "Node".into(),
        regarding: Meta::new("", "n1"),
        event_kind: EventKind::Warning,
        reason: "R".to_owned(),
        message: "m".to_owned(),
        component: "c".to_owned(),
    };
    let call = call(&Write::Event(Box::new(event))).at(Timestamp(5_000_000));
    assert_eq!(call.path, "/api/v1/namespaces/default/events");
    assert_eq!(call.body["lastTimestamp"], "1970-01-01T00:00:05Z");
}
