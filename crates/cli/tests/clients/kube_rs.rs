//! kube-rs: its controller runtime, its lists that are watches, and leader election.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Service};
use kube::api::{
    DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::Discovery;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{self, EventType, Recorder};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use kube_lease_manager::LeaseManagerBuilder;
use serde_json::json;
use tokio::sync::Notify;

use crate::harness::Server;

#[tokio::test]
async fn a_controller_keeps_children_and_cleans_up() {
    let server = Server::start();
    let client = client(&server).await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let children: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let selected = watcher::Config::default().labels("controlled=yes");
    let controller = Controller::new(services.clone(), selected)
        .owns(children.clone(), watcher::Config::default())
        .with_config(Config::default().concurrency(2))
        .graceful_shutdown_on(async move { stopped.notified().await })
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), Arc::new(client));
    let running = tokio::spawn(controller.for_each(|_| std::future::ready(())));

    services.create(&PostParams::default(), &service("web", "yes")).await.unwrap();
    services.create(&PostParams::default(), &service("other", "no")).await.unwrap();
    let child = eventually(&children, "web", |child| child.is_some()).await.unwrap();
    assert_eq!(child.owner_references()[0].name, "web");

    children.delete("web", &DeleteParams::default()).await.unwrap();
    let again = |found: Option<&ConfigMap>| found.is_some_and(|found| found.uid() != child.uid());
    eventually(&children, "web", again).await;

    let change = json!({ "metadata": { "annotations": { "greeting": "hello" } } });
    services.patch("web", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    let greets = |found: Option<&ConfigMap>| {
        found.and_then(|found| found.data.as_ref()).is_some_and(|data| data["greeting"] == "hello")
    };
    eventually(&children, "web", greets).await;

    // The finalizer holds the Service until the controller has removed the child.
    services.delete("web", &DeleteParams::default()).await.unwrap();
    eventually(&services, "web", |found| found.is_none()).await;
    assert!(children.get_opt("web").await.unwrap().is_none());
    assert!(children.get_opt("other").await.unwrap().is_none());
    stop.notify_one();
    running.await.unwrap();
}

#[tokio::test]
async fn a_reflector_starts_with_a_list_that_is_a_watch() {
    let server = Server::start();
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &labelled("a")).await.unwrap();
    let config = watcher::Config::default().streaming_lists().labels("of=us");
    let (reader, writer) = store();
    let stream = reflector(writer, watcher(maps.clone(), config)).applied_objects();
    let mut applied = std::pin::pin!(stream.map_ok(|map| map.name_any()));
    assert_eq!(applied.try_next().await.unwrap().as_deref(), Some("a"));
    maps.create(&PostParams::default(), &labelled("b")).await.unwrap();
    assert_eq!(applied.try_next().await.unwrap().as_deref(), Some("b"));
    let mut names: Vec<String> = reader.state().iter().map(|map| map.name_any()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);

    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=us"))
        .await
        .unwrap();
    let list = maps.list_metadata(&ListParams::default().labels("of=us")).await.unwrap();
    assert!(list.items.is_empty());
}

#[tokio::test]
async fn a_watcher_goes_on_after_the_server_was_killed() {
    let mut server = Server::start();
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let config = watcher::Config::default().labels("of=us");
    let events = watcher(maps.clone(), config).default_backoff().applied_objects();
    // While the server is away, there is nothing but errors.
    let names = events.filter_map(|map| std::future::ready(map.ok().map(|map| map.name_any())));
    let mut names = std::pin::pin!(names);
    maps.create(&PostParams::default(), &labelled("a")).await.unwrap();
    assert_eq!(names.next().await.as_deref(), Some("a"));

    server.kill_and_restart();
    let created = maps.create(&PostParams::default(), &labelled("b")).await.unwrap();
    let first = maps.get("a").await.unwrap();
    let number = |map: &ConfigMap| map.resource_version().unwrap().parse::<u64>().unwrap();
    assert!(number(&created) > number(&first));
    let seen = async { while names.next().await.as_deref() != Some("b") {} };
    tokio::time::timeout(PATIENCE, seen).await.expect("the watcher sees b in time");
}

#[tokio::test]
async fn one_of_two_holds_the_lease_and_passes_it_on() {
    let server = Server::start();
    let client = client(&server).await;
    let candidate = |identity: &str| {
        LeaseManagerBuilder::new(client.clone(), "seat")
            .with_identity(identity)
            .with_duration(3)
            .with_grace(1)
            .build()
    };
    let first = candidate("first").await.unwrap();
    let second = candidate("second").await.unwrap();
    assert!(first.changed().await.unwrap());
    let waiting = tokio::spawn(async move { second.changed().await.unwrap() });
    first.release().await.unwrap();
    assert!(waiting.await.unwrap(), "the seat is passed on");
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::default_namespaced(client);
    let held = leases.get("seat").await.unwrap().spec.unwrap();
    assert_eq!(held.holder_identity.as_deref(), Some("second"));
}

#[tokio::test]
async fn events_are_recorded_once_and_counted() {
    let server = Server::start();
    let client = client(&server).await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = services.create(&PostParams::default(), &service("web", "no")).await.unwrap();
    let recorder = Recorder::new(client.clone(), "test.example/recorder".into());
    let told = events::Event {
        type_: EventType::Normal,
        reason: "Tried".to_owned(),
        note: Some("by a test".to_owned()),
        action: "Trying".to_owned(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&told, &service.object_ref(&())).await.unwrap();
    }
    let of_us = ListParams::default().fields("reason=Tried,involvedObject.name=web");
    let list = Api::<CoreEvent>::default_namespaced(client).list(&of_us).await.unwrap();
    let [event] = list.items.as_slice() else { panic!("one event: {list:?}") };
    assert_eq!(event.series.as_ref().and_then(|series| series.count), Some(3));
    assert_eq!(event.reporting_component.as_deref(), Some("test.example/recorder"));
    assert_eq!(event.message.as_deref(), Some("by a test"));
}

#[tokio::test]
async fn discovery_and_dynamic_objects_lead_to_a_scale() {
    let server = Server::start();
    let client = client(&server).await;
    let plain = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, capabilities) = plain.resolve_gvk(&kind).unwrap();
    let (same, _) = aggregated.resolve_gvk(&kind).unwrap();
    assert_eq!((&resource, resource.plural.as_str()), (&same, "deployments"));
    assert!(capabilities.subresources.iter().any(|(known, _)| known.plural == "scale"));

    let deployments: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    let deployment = DynamicObject::new("web", &resource).data(json!({ "spec": spec }));
    let entry = deployments.entry("web").await.unwrap().or_insert(|| deployment);
    let mut entry = entry.and_modify(|web| web.labels_mut().extend([("a".into(), "b".into())]));
    entry.commit(&PostParams::default()).await.unwrap();
    assert_eq!(deployments.get_scale("web").await.unwrap().spec.unwrap().replicas, Some(1));
    let two = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &two).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(2));
    let scaled = deployments.get("web").await.unwrap();
    assert_eq!((&scaled.data["spec"]["replicas"], &scaled.labels()["a"]), (&json!(2), &"b".into()));
}

/// Every selected Service has a ConfigMap of its name.
async fn reconcile(service: Arc<Service>, client: Arc<Client>) -> Result<Action, Error> {
    let client = Client::clone(&client);
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let children: Api<ConfigMap> = Api::default_namespaced(client);
    let done = finalizer(&services, "test.example/child", service, |event| async {
        match event {
            Event::Apply(service) => apply_child(&children, &service).await,
            Event::Cleanup(service) => {
                children.delete(&service.name_any(), &DeleteParams::default()).await?;
                Ok(Action::await_change())
            }
        }
    });
    done.await
}

async fn apply_child(children: &Api<ConfigMap>, service: &Service) -> Result<Action, kube::Error> {
    let name = service.name_any();
    let greeting = service.annotations().get("greeting").cloned().unwrap_or_default();
    let child = ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some(name.clone()),
            owner_references: service.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("greeting".to_owned(), greeting)])),
        ..Default::default()
    };
    let force = PatchParams::apply("test-controller").force();
    children.patch(&name, &force, &Patch::Apply(&child)).await?;
    Ok(Action::await_change())
}

type Error = kube::runtime::finalizer::Error<kube::Error>;

/// Waits until an object is as wanted, watching it.
async fn eventually<K>(
    api: &Api<K>,
    name: &str,
    wanted: impl Fn(Option<&K>) -> bool + Send,
) -> Option<K>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let is_as_wanted =
        kube::runtime::wait::await_condition(api.clone(), name, |found: Option<&K>| wanted(found));
    let waited = tokio::time::timeout(PATIENCE, is_as_wanted).await;
    waited.expect("it happens in time").unwrap()
}

fn service(name: &str, controlled: &str) -> Service {
    let object = json!({
        "metadata": { "name": name, "labels": { "controlled": controlled } },
        "spec": { "ports": [{ "port": 80 }] },
    });
    serde_json::from_value(object).unwrap()
}

fn labelled(name: &str) -> ConfigMap {
    let object = json!({ "metadata": { "name": name, "labels": { "of": "us" } } });
    serde_json::from_value(object).unwrap()
}

/// A client of the administrator.
pub(crate) async fn client(server: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(20);
