use serde_json::{Value, json};

use crate::support::World;

async fn pod(world: &World, name: &str) -> Value {
    let body = json!({
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "portolan/web" }] },
    });
    world.create("pods/default", body).await.unwrap()
}

async fn bind(world: &World, name: &str) {
    let binding =
        json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": "node1" } });
    let path = format!("pods/default/{name}/binding");
    assert_eq!(world.create(&path, binding).await.unwrap()["status"], "Success");
}

#[tokio::test]
async fn a_binding_assigns_the_node_once() {
    let world = World::new().await;
    assert_eq!(pod(&world, "p").await["spec"]["serviceAccountName"], "default");
    bind(&world, "p").await;
    let bound = world.get("pods/default/p").await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "node1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let binding = json!({ "target": { "kind": "Node", "name": "node2" } });
    let failure = world.create("pods/default/p/binding", binding).await.unwrap_err();
    assert_eq!(failure.code, 409);
    assert!(failure.message.ends_with("pod p is already assigned to node \"node1\""));
}

#[tokio::test]
async fn a_pod_gets_the_credentials_of_its_account() {
    let world = World::new().await;
    let spec = &pod(&world, "p").await["spec"];
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, json!({ "expirationSeconds": 3607, "path": "token" }));
    let mount = json!({
        "name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    });
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
}

#[tokio::test]
async fn a_pod_or_its_account_may_refuse_credentials() {
    let world = World::new().await;
    let account = json!({ "metadata": { "name": "quiet" }, "automountServiceAccountToken": false });
    world.create("serviceaccounts/default", account).await.unwrap();
    let containers = json!([{ "name": "c", "image": "portolan/web" }]);
    for (name, mut spec, mounted) in [
        ("a", json!({ "serviceAccountName": "quiet" }), false),
        ("b", json!({ "automountServiceAccountToken": false }), false),
        ("c", json!({ "serviceAccountName": "quiet", "automountServiceAccountToken": true }), true),
    ] {
        spec["containers"] = containers.clone();
        let body = json!({ "metadata": { "name": name }, "spec": spec });
        let pod = world.create("pods/default", body).await.unwrap();
        assert_eq!(!pod["spec"]["volumes"].is_null(), mounted, "{name}");
    }
}

#[tokio::test]
async fn a_pod_of_an_unknown_account_is_refused() {
    let world = World::new().await;
    let body = json!({
        "metadata": { "name": "p" },
        "spec": {
            "serviceAccountName": "nobody",
            "containers": [{ "name": "c", "image": "portolan/web" }],
        },
    });
    let failure = world.create("pods/default", body).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (
            403,
            "pods \"p\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
        )
    );
}

#[tokio::test]
async fn a_bound_pod_is_deleted_in_two_steps() {
    let world = World::new().await;
    let generation = pod(&world, "p").await["metadata"]["generation"].as_i64();
    bind(&world, "p").await;
    let marked = world.delete("pods/default/p", Value::Null).await.unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["generation"].as_i64(), generation.map(|now| now + 1));
    let again = world.delete("pods/default/p", Value::Null).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    let shorter = world.delete("pods/default/p", json!({ "gracePeriodSeconds": 5 })).await.unwrap();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    world.delete("pods/default/p", json!({ "gracePeriodSeconds": 0 })).await.unwrap();
    assert_eq!(world.get("pods/default/p").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let world = World::new().await;
    pod(&world, "p").await;
    let last = world.delete("pods/default/p", Value::Null).await.unwrap();
    assert_eq!(last["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(world.get("pods/default/p").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn an_eviction_deletes() {
    let world = World::new().await;
    pod(&world, "p").await;
    bind(&world, "p").await;
    let eviction =
        json!({ "metadata": { "name": "p" }, "deleteOptions": { "gracePeriodSeconds": 1 } });
    world.create("pods/default/p/eviction", eviction).await.unwrap();
    let evicted = world.get("pods/default/p").await.unwrap();
    assert_eq!(evicted["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[tokio::test]
async fn a_deployment_scales() {
    let world = World::new().await;
    let body = json!({
        "metadata": { "name": "d" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "portolan/web" }] },
            },
        },
    });
    world.create("deployments/default", body).await.unwrap();
    let scale = world.get("deployments/default/d/scale").await.unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["status"]["selector"], "app=web");
    let patch = json!({ "spec": { "replicas": 4 } });
    let scale = world.merge("deployments/default/d/scale", patch).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 4);
    let deployment = world.get("deployments/default/d").await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], 4);
    assert_eq!(deployment["metadata"]["generation"], 2);
}
