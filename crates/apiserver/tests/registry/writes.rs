use portolan_apiserver::api::Options;
use serde_json::{Value, json};

use crate::support::{World, service};

fn config_map(name: &str, value: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "k": value } })
}

#[tokio::test]
async fn a_created_object_has_what_the_server_gives() {
    let world = World::new().await;
    let created = world.create("configmaps/default", config_map("a", "1")).await.unwrap();
    let metadata = &created["metadata"];
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["namespace"], "default");
    assert!(metadata["creationTimestamp"].is_string());
    assert_eq!(metadata["managedFields"][0]["manager"], "tests");
    let failure = world.create("configmaps/default", config_map("a", "1")).await.unwrap_err();
    assert_eq!((failure.code, failure.reason.as_str()), (409, "AlreadyExists"));
    let generated = json!({ "metadata": { "generateName": "web-" } });
    let generated = world.create("configmaps/default", generated).await.unwrap();
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), "web-".len() + 5);
}

#[tokio::test]
async fn a_missing_namespace_is_404_and_a_terminating_one_403() {
    let world = World::new().await;
    let failure = world.create("configmaps/nope", config_map("a", "1")).await.unwrap_err();
    assert_eq!(failure.message, "namespaces \"nope\" not found");
    world.create("namespaces", json!({ "metadata": { "name": "n" } })).await.unwrap();
    let marked = world.delete("namespaces/-/n", Value::Null).await.unwrap();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let failure = world.create("configmaps/n", config_map("a", "1")).await.unwrap_err();
    assert_eq!(failure.code, 403);
    assert_eq!(failure.details["causes"][0]["reason"], "NamespaceTerminating");
    world.update("namespaces/-/n/finalize", json!({ "metadata": { "name": "n" } })).await.unwrap();
    assert_eq!(world.get("namespaces/-/n").await.unwrap_err().code, 404);
    assert_eq!(world.delete("namespaces/-/default", Value::Null).await.unwrap_err().code, 403);
}

#[tokio::test]
async fn a_stale_update_loses_and_a_no_op_changes_nothing() {
    let world = World::new().await;
    let path = "configmaps/default/a";
    let first = world.create("configmaps/default", config_map("a", "1")).await.unwrap();
    let mut second = first.clone();
    second["data"]["k"] = "2".into();
    let second = world.update(path, second).await.unwrap();
    let again = world.update(path, second.clone()).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let failure = world.update(path, first).await.unwrap_err();
    assert_eq!((failure.code, failure.reason.as_str()), (409, "Conflict"));
    let empty = world.merge(path, json!({})).await.unwrap();
    assert_eq!(empty["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn put_to_a_missing_name_depends_on_the_kind() {
    // S22.
    let world = World::new().await;
    let failure = world.update("configmaps/default/a", config_map("a", "1")).await.unwrap_err();
    assert_eq!(failure.code, 404);
    world.update("services/default/s", service("s", json!({}))).await.unwrap();
    let mut other = service("t", json!({}));
    other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    assert_eq!(world.update("services/default/t", other).await.unwrap_err().code, 409);
    let failure = world.update("services/default/t", service("s", json!({}))).await.unwrap_err();
    assert_eq!(
        failure.message,
        "the name of the object (s) does not match the name on the URL (t)"
    );
}

#[tokio::test]
async fn a_status_write_keeps_the_spec_and_a_spec_write_the_status() {
    // S21.
    let world = World::new().await;
    let spec = json!({ "type": "LoadBalancer" });
    world.create("services/default", service("s", spec)).await.unwrap();
    let patch = json!({
        "spec": { "type": "ClusterIP" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    });
    let written = world.merge("services/default/s/status", patch).await.unwrap();
    assert_eq!(written["spec"]["type"], "LoadBalancer");
    let ingress = json!([{ "ip": "192.0.2.1", "ipMode": "VIP" }]);
    assert_eq!(written["status"]["loadBalancer"]["ingress"], ingress);
    let patch = json!({ "metadata": { "labels": { "a": "b" } }, "status": { "loadBalancer": {} } });
    let written = world.merge("services/default/s", patch).await.unwrap();
    assert_eq!(written["status"]["loadBalancer"]["ingress"], ingress);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let world = World::new().await;
    let mut body = service("s", json!({ "clusterIP": "10.96.0.60" }));
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create("services/default", body).await.unwrap();
    let held = world.delete("services/default/s", Value::Null).await.unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    world.get("ipaddresses/-/10.96.0.60").await.unwrap();
    let free = json!({ "metadata": { "finalizers": null } });
    world.merge("services/default/s", free).await.unwrap();
    assert_eq!(world.get("services/default/s").await.unwrap_err().code, 404);
    assert_eq!(world.get("ipaddresses/-/10.96.0.60").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn propagation_policies_become_finalizers_and_preconditions_hold() {
    let world = World::new().await;
    world.create("configmaps/default", config_map("a", "1")).await.unwrap();
    let path = "configmaps/default/a";
    let other = json!({ "preconditions": { "uid": "x" } });
    assert_eq!(world.delete(path, other).await.unwrap_err().code, 409);
    let both = json!({ "propagationPolicy": "Orphan", "orphanDependents": true });
    assert_eq!(world.delete(path, both).await.unwrap_err().code, 422);
    let foreground = json!({ "propagationPolicy": "Foreground" });
    let held = world.delete(path, foreground).await.unwrap();
    assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let status = world.delete(path, json!({ "propagationPolicy": "Background" })).await.unwrap();
    assert_eq!(status["status"], "Success");
    assert_eq!(world.get(path).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn apply_creates_owns_and_conflicts() {
    let world = World::new().await;
    let path = "configmaps/default/a";
    let config = |value: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" },
            "data": { "k": value } })
    };
    let first = world.apply(path, "m1", config("1")).await.unwrap();
    assert_eq!(first["metadata"]["managedFields"][0]["operation"], "Apply");
    let again = world.apply(path, "m1", config("1")).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let failure = world.apply(path, "m2", config("2")).await.unwrap_err();
    assert_eq!(failure.message, "Apply failed with 1 conflict: conflict with \"m1\": .data.k");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::new().await;
    for (name, label) in [("a", "1"), ("b", "1"), ("c", "2")] {
        let body = json!({ "metadata": { "name": name, "labels": { "x": label } } });
        world.create("configmaps/default", body).await.unwrap();
    }
    let options = Options { label_selector: "x=1".to_owned(), ..Options::default() };
    let request = crate::support::request(
        portolan_apiserver::api::Verb::DeleteCollection,
        "configmaps/default",
    );
    let deleted =
        world.call(portolan_apiserver::api::Request { options, ..request }).await.unwrap();
    assert_eq!(deleted["names"], json!(["a", "b"]));
    let left = world.list("configmaps/default", Options::default()).await.unwrap();
    assert_eq!(left["names"], json!(["c", "kube-root-ca.crt"]));
}

#[tokio::test]
async fn both_event_apis_show_the_same_objects() {
    let world = World::new().await;
    let event = json!({
        "metadata": { "name": "e", "namespace": "default" },
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        "reason": "Started", "message": "hello", "type": "Normal",
        "source": { "component": "kubelet" },
        "firstTimestamp": "2026-11-23T12:00:00Z", "lastTimestamp": "2026-11-23T12:00:00Z",
        "count": 1,
    });
    world.create("events/default", event).await.unwrap();
    let row = wire::kinds::find("events.k8s.io", "v1", "events").unwrap();
    let shown = world.registry.get(row, "default", "e").unwrap().value();
    assert_eq!(shown["note"], "hello");
    assert_eq!(shown["regarding"]["name"], "p");
    assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
}

#[tokio::test]
async fn a_namespace_is_held_by_every_finalizer() {
    let world = World::new().await;
    let body = json!({
        "metadata": { "name": "n" }, "spec": { "finalizers": ["example.com/mine"] },
    });
    let created = world.create("namespaces", body).await.unwrap();
    assert_eq!(created["spec"]["finalizers"], json!(["example.com/mine", "kubernetes"]));
    world.delete("namespaces/-/n", Value::Null).await.unwrap();
    let finalize = async |finalizers: Value| {
        let body = json!({ "metadata": { "name": "n" }, "spec": { "finalizers": finalizers } });
        world.update("namespaces/-/n/finalize", body).await
    };
    let held = finalize(json!(["example.com/mine"])).await.unwrap();
    assert_eq!(held["status"]["phase"], "Terminating");
    let again = finalize(json!(["example.com/mine"])).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], held["metadata"]["resourceVersion"]);
    let failure = finalize(json!(["example.com/mine", "mine"])).await.unwrap_err();
    assert_eq!(failure.code, 422);
    assert_eq!(failure.details["causes"][0]["field"], "spec.finalizers[1]");
    finalize(json!([])).await.unwrap();
    assert_eq!(world.get("namespaces/-/n").await.unwrap_err().code, 404);
}
