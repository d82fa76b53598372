use serde_json::{Value, json};

use crate::support::{World, config, env, open, until_closed};

#[tokio::test]
async fn a_new_cluster_has_what_every_cluster_has() {
    let world = World::new().await;
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let object = world.get(&format!("namespaces/-/{namespace}")).await.unwrap();
        assert_eq!(object["status"]["phase"], "Active");
        world.get(&format!("serviceaccounts/{namespace}/default")).await.unwrap();
        let path = format!("configmaps/{namespace}/kube-root-ca.crt");
        assert_eq!(world.get(&path).await.unwrap()["data"]["ca.crt"], "PEM");
    }
    let service = world.get("services/default/kubernetes").await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 6443);
    let slice = world.get("endpointslices/default/kubernetes").await.unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.1"]));
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "kubernetes");
    world.get("endpoints/default/kubernetes").await.unwrap();
    world.get("ipaddresses/-/10.96.0.1").await.unwrap();
}

#[tokio::test]
async fn service_kubernetes_comes_back() {
    // A20.
    let world = World::new().await;
    let uid = world.get("services/default/kubernetes").await.unwrap()["metadata"]["uid"].clone();
    world.delete("services/default/kubernetes", Value::Null).await.unwrap();
    let service = world
        .until("services/default/kubernetes", |service| service["metadata"]["uid"] != uid)
        .await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    world.until("endpoints/default/kubernetes", |_| true).await;
}

#[tokio::test]
async fn a_new_namespace_gets_its_content() {
    let world = World::new().await;
    world.create("namespaces", json!({ "metadata": { "name": "n" } })).await.unwrap();
    world.until("serviceaccounts/n/default", |_| true).await;
    world.until("configmaps/n/kube-root-ca.crt", |_| true).await;
}

#[tokio::test]
async fn a_service_cidr_gets_its_finalizer_and_condition() {
    // A17.
    let world = World::new().await;
    let cidr = world
        .until("servicecidrs/-/kubernetes", |cidr| {
            cidr["status"]["conditions"][0]["status"] == "True"
        })
        .await;
    let finalizer = "networking.k8s.io/service-cidr-finalizer";
    assert_eq!(cidr["metadata"]["finalizers"], json!([finalizer]));
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.96.0.0/16", "fd00:10:96::/112"]));
}

#[tokio::test]
async fn a_restart_keeps_everything_and_a_second_family_is_added() {
    // A19.
    let directory = tempfile::tempdir().unwrap();
    let open_with =
        async |cidrs: &[&str]| open(config(directory.path(), env(cidrs, (30000, 30010)))).await;
    let first = open_with(&["10.96.0.0/16"]).await;
    let version = first.resource_version();
    drop(first);
    until_closed(directory.path()).await;
    let registry = open_with(&["10.96.0.0/16", "fd00:10:96::/112"]).await;
    assert!(registry.resource_version() > version);
    let row = wire::kinds::find("networking.k8s.io", "v1", "servicecidrs").unwrap();
    let cidr = registry.get(row, "", "kubernetes").unwrap().value();
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.96.0.0/16", "fd00:10:96::/112"]));
}
