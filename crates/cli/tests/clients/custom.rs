//! Custom resources as operators use them: kube-rs's controller over dynamic objects, owners and
//! Namespaces that take them along, and `kubectl edit`.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;

use crate::harness::Server;
use crate::kube_rs::client;

/// A server with kind `Widget`, established as clients wait for it.
async fn with_widgets() -> (Server, Client, ApiResource) {
    let server = Server::start();
    let client = client(&server).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": {
                        "greeting": { "type": "string", "default": "hello" },
                    }},
                    "status": { "type": "object", "properties": {
                        "observed": { "type": "integer" },
                    }},
                }}},
            }],
        },
    });
    let apply = PatchParams::apply("test");
    definitions.patch("widgets.example.com", &apply, &Patch::Apply(&definition)).await.unwrap();
    let established =
        await_condition(definitions, "widgets.example.com", conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    (server, client, kind)
}

fn widget(name: &str, kind: &ApiResource) -> DynamicObject {
    DynamicObject::new(name, kind).data(json!({ "spec": {} }))
}

#[tokio::test]
async fn a_controller_of_kube_rs_reconciles_custom_resources() {
    let (_server, client, kind) = with_widgets().await;
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let children: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let context = Arc::new((client, kind.clone()));
    let controller =
        Controller::new_with(widgets.clone(), watcher::Config::default(), kind.clone())
            .owns(children.clone(), watcher::Config::default())
            .graceful_shutdown_on(async move { stopped.notified().await })
            .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), context);
    let running = tokio::spawn(controller.for_each(|_| std::future::ready(())));

    widgets.create(&PostParams::default(), &widget("w", &kind)).await.unwrap();
    let greets = |found: Option<&ConfigMap>| {
        found.and_then(|found| found.data.as_ref()).is_some_and(|data| data["greeting"] == "hello")
    };
    wait(&children, "w", greets).await;
    let observed = |generation: i64| {
        move |found: Option<&DynamicObject>| {
            found.is_some_and(|found| found.data["status"]["observed"] == generation)
        }
    };
    wait_dynamic(&widgets, "w", observed(1)).await;
    let change = json!({ "spec": { "greeting": "bye" } });
    widgets.patch("w", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    wait_dynamic(&widgets, "w", observed(2)).await;
    assert_eq!(children.get("w").await.unwrap().data.unwrap()["greeting"], "bye");

    // The owner takes its child along.
    widgets.delete("w", &DeleteParams::default()).await.unwrap();
    wait(&children, "w", |found| found.is_none()).await;
    stop.notify_one();
    running.await.unwrap();
}

#[tokio::test]
async fn owners_and_namespaces_take_custom_resources_along() {
    let (_server, client, kind) = with_widgets().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let owner = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("owner".into()), ..Default::default() },
        ..Default::default()
    };
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap();
    let mut owned = widget("owned", &kind);
    owned.metadata.owner_references = owner.owner_ref(&()).map(|owner| vec![owner]);
    widgets.create(&PostParams::default(), &owned).await.unwrap();
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    wait_dynamic(&widgets, "owned", |found| found.is_none()).await;

    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta { name: Some("n".into()), ..Default::default() },
        ..Default::default()
    };
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let inside: Api<DynamicObject> = Api::namespaced_with(client, "n", &kind);
    inside.create(&PostParams::default(), &widget("w", &kind)).await.unwrap();
    namespaces.delete("n", &DeleteParams::default()).await.unwrap();
    wait(&namespaces, "n", |found| found.is_none()).await;
    assert!(inside.get_opt("w").await.unwrap().is_none());
}

#[tokio::test]
async fn kubectl_edits_a_custom_resource() {
    let Some(kubectl) = testkit::kubectls().into_iter().next() else {
        return testkit::skip("kubectl_edits_a_custom_resource", "there is no kubectl");
    };
    let (server, client, kind) = with_widgets().await;
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    widgets.create(&PostParams::default(), &widget("w", &kind)).await.unwrap();
    let mut edit = Command::new(kubectl);
    edit.args(["edit", "widget", "w"]).env("KUBE_EDITOR", "sed -i s/hello/edited/");
    server.session(edit);
    let edited = widgets.get("w").await.unwrap();
    assert_eq!(edited.data["spec"]["greeting"], "edited");
}

/// Every Widget has a ConfigMap with its greeting, and tells which generation that was.
async fn reconcile(
    widget: Arc<DynamicObject>,
    context: Arc<(Client, ApiResource)>,
) -> Result<Action, kube::Error> {
    let (client, kind) = &*context;
    let children: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), kind);
    let name = widget.name_any();
    let child = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "ownerReferences": [widget.controller_owner_ref(kind)] },
        "data": { "greeting": widget.data["spec"]["greeting"] },
    });
    let force = PatchParams::apply("test-controller").force();
    children.patch(&name, &force, &Patch::Apply(&child)).await?;
    let status = json!({ "status": { "observed": widget.metadata.generation } });
    widgets.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(Action::await_change())
}

async fn wait<K>(api: &Api<K>, name: &str, wanted: impl Fn(Option<&K>) -> bool + Send)
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let condition = await_condition(api.clone(), name, |found: Option<&K>| wanted(found));
    tokio::time::timeout(PATIENCE, condition).await.expect("it happens in time").unwrap();
}

async fn wait_dynamic(
    api: &Api<DynamicObject>,
    name: &str,
    wanted: impl Fn(Option<&DynamicObject>) -> bool + Send,
) {
    wait(api, name, wanted).await;
}

const PATIENCE: Duration = Duration::from_secs(20);
