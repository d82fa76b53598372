//! The controllers, from what people write to what nodes and clients read.

use std::path::PathBuf;

use plan::{AddressPool, ClusterCidrs};
use portolan_daemon::controller::{ControllerConfig, Selection, run};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::Api;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
    ?labelSelector=kubernetes.io/service-name%3Dweb";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn controller(api: &Api) -> JoinSet<()> {
    run_controllers(Selection::all(), api.kubeconfig.clone())
}

fn run_controllers(controllers: Selection, kubeconfig: PathBuf) -> JoinSet<()> {
    let network = "172.30.0.192/27".parse().expect("is a network");
    let pods = ["10.244.0.0/16", "fd00:10:244::/48"];
    let pods = pods.map(|cidr| cidr.parse().expect("is a network"));
    let config = ControllerConfig {
        kubeconfig: Some(kubeconfig),
        controllers,
        pool: AddressPool::from_networks(&[network]),
        cluster_cidrs: Some(ClusterCidrs::new(&pods, 24, 64).expect("are ranges")),
        seat: None,
        health_bind: None,
    };
    let mut task = JoinSet::new();
    task.spawn(async {
        run(config, std::future::pending()).await.unwrap_or_else(|error| panic!("{error:?}"));
    });
    task
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    })
}

fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "type": kind,
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn ready_endpoints(slices: &Value) -> usize {
    items(slices)
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count()
}

async fn with_nodes() -> Api {
    let api = Api::start().await;
    api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
    api.node("node2", "172.30.0.12", "10.244.1.0/24").await;
    api
}

#[tokio::test]
async fn a_deployment_and_a_service_become_endpoints_and_follow_the_scale() {
    let api = with_nodes().await;
    let (_controller, _kubelet) = (controller(&api), api.kubelet());
    api.create("/apis/apps/v1/namespaces/default/deployments", deployment(3, "portolan/web")).await;
    api.create(SERVICES, service("web", "ClusterIP")).await;
    api.until(SLICES, |slices| (ready_endpoints(slices) == 3).then_some(())).await;
    api.until("/apis/apps/v1/namespaces/default/deployments/web", |deployment| {
        (deployment["status"]["availableReplicas"] == 3).then_some(())
    })
    .await;
    api.until("/api/v1/namespaces/default/endpoints/web", |endpoints| {
        (endpoints["subsets"][0]["addresses"].as_array()?.len() == 3).then_some(())
    })
    .await;
    let scale = json!({"spec": {"replicas": 1}});
    api.merge("/apis/apps/v1/namespaces/default/deployments/web", scale).await;
    api.until(SLICES, |slices| (ready_endpoints(slices) == 1).then_some(())).await;
    api.until(PODS, |pods| (items(pods).len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_load_balancer_gets_an_address_and_gives_it_back() {
    let api = with_nodes().await;
    let _controller = controller(&api);
    api.create(SERVICES, service("first", "LoadBalancer")).await;
    let address = |service: &Value| {
        service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
    };
    let first = api.until(&format!("{SERVICES}/first"), address).await;
    assert!(first.starts_with("172.30.0."), "{first}");
    api.delete(&format!("{SERVICES}/first")).await;
    api.until(SERVICES, |list| {
        items(list).iter().all(|service| service["metadata"]["name"] != "first").then_some(())
    })
    .await;
    api.create(SERVICES, service("second", "LoadBalancer")).await;
    assert_eq!(api.until(&format!("{SERVICES}/second"), address).await, first);
}

#[tokio::test]
async fn nodes_that_bring_no_pod_addresses_get_them() {
    let api = with_nodes().await;
    let _controller = controller(&api);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare"}});
    api.create("/api/v1/nodes", node).await;
    let spec = api
        .until("/api/v1/nodes/bare", |node| {
            node["spec"]["podCIDR"].is_string().then(|| node["spec"].clone())
        })
        .await;
    assert_eq!(spec["podCIDR"], "10.244.2.0/24", "the others have the first two");
    assert_eq!(spec["podCIDRs"], json!(["10.244.2.0/24", "fd00:10:244::/64"]));
}

#[tokio::test]
async fn what_a_deployment_made_goes_with_it() {
    let api = with_nodes().await;
    let (_controller, _kubelet) = (controller(&api), api.kubelet());
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.create(deployments, deployment(2, "portolan/web")).await;
    api.until(PODS, |pods| (items(pods).len() == 2).then_some(())).await;
    api.delete(&format!("{deployments}/web")).await;
    api.until("/apis/apps/v1/namespaces/default/replicasets", |sets| {
        items(sets).is_empty().then_some(())
    })
    .await;
    api.until(PODS, |pods| items(pods).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let api = with_nodes().await;
    let (_controller, _kubelet) = (controller(&api), api.kubelet());
    api.create("/api/v1/namespaces", json!({"metadata": {"name": "old"}})).await;
    api.create("/apis/apps/v1/namespaces/old/deployments", deployment(2, "portolan/web")).await;
    api.create("/api/v1/namespaces/old/services", service("web", "ClusterIP")).await;
    let config = json!({"metadata": {"name": "config"}, "data": {"a": "b"}});
    api.create("/api/v1/namespaces/old/configmaps", config).await;
    api.until("/api/v1/namespaces/old/pods", |pods| (items(pods).len() == 2).then_some(())).await;
    api.delete("/api/v1/namespaces/old").await;
    api.until("/api/v1/namespaces", |list| {
        items(list).iter().all(|namespace| namespace["metadata"]["name"] != "old").then_some(())
    })
    .await;
    let left = api.client.get("/api/v1/configmaps").await.expect("can list");
    assert!(items(&left).iter().all(|object| object["metadata"]["namespace"] != "old"));
}

#[tokio::test]
async fn the_controllers_go_on_after_the_api_server_was_away() {
    let api = with_nodes().await;
    let (_controller, _kubelet) = (controller(&api), api.kubelet());
    api.create("/apis/apps/v1/namespaces/default/deployments", deployment(1, "portolan/web")).await;
    api.create(SERVICES, service("web", "ClusterIP")).await;
    api.until(SLICES, |slices| (ready_endpoints(slices) == 1).then_some(())).await;
    let (folder, port) = api.stop().await;
    let api = Api::start_in(folder, port).await;
    let scale = json!({"spec": {"replicas": 3}});
    api.merge("/apis/apps/v1/namespaces/default/deployments/web", scale).await;
    api.until(SLICES, |slices| (ready_endpoints(slices) == 3).then_some(())).await;
}

/// Beside kube-controller-manager: as the ServiceAccount of deploy/rbac/service-lb-controller.yaml,
/// whose rights are in our own server from the start.
#[tokio::test]
async fn addresses_are_given_with_the_rights_for_them_alone() {
    if crate::other_cluster::is_wanted() {
        let why = "another cluster has the roles only once they are applied";
        testkit::skip("addresses_are_given_with_the_rights_for_them_alone", why);
        return;
    }
    let api = Api::start().await;
    let text = std::fs::read_to_string(&api.kubeconfig).expect("can be read");
    let account = "system:serviceaccount:kube-system:portolan-service-lb-controller";
    let config = text.replace("token: T", &format!("token: T, as: '{account}'"));
    assert_ne!(config, text);
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, config).expect("can write");
    let addresses = Selection::of(&["service-lb-controller"], &[]).expect("is valid");
    let _controller = run_controllers(addresses, kubeconfig);
    api.create(SERVICES, service("web", "LoadBalancer")).await;
    let web = format!("{SERVICES}/web");
    let ingress = api
        .until(&web, |service| {
            service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
        })
        .await;
    assert!(ingress.starts_with("172.30.0."), "{ingress}");
    api.delete(&web).await;
    api.until(SERVICES, |services| {
        let gone = items(services).iter().all(|service| service["metadata"]["name"] != "web");
        gone.then_some(())
    })
    .await;
}
