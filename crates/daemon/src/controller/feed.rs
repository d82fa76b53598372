//! What the controllers watch beside the kinds of [`model::Cluster`]: the metadata of
//! everything else, and the Leases of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::{Client, MetadataEvent, RawEvent, Selectors};
use model::{NodeName, Resource};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::key::kind_of;
use super::selection::{ControllerName, Selection};

/// How often it is asked which resource types exist. Definitions that come and go are seen at
/// once; aggregated APIs are not.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// Delay after a failed discovery.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);
/// Events that may wait before watches are slowed down.
const QUEUE: usize = 256;

/// One step of the [`feed`].
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Fed {
    /// The server has these resource types, and no others.
    Resources(BTreeSet<Resource>),
    /// Metadata of a resource type that [`model::Cluster`] does not hold.
    Metadata(Resource, MetadataEvent),
    /// A node has renewed its Lease.
    Renewed(NodeName),
    /// The Leases of nodes have been listed.
    Leases(BTreeSet<NodeName>),
}

/// Starts watching what these controllers look at. Dropping the set ends it.
pub(crate) fn feed(client: &Client, selection: &Selection) -> (mpsc::Receiver<Fed>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    if selection.sees_everything() {
        tasks.spawn(discover(client.clone(), sender.clone()));
    }
    if selection.contains(ControllerName::NodeLifecycle) {
        tasks.spawn(watch_leases(client.clone(), sender));
    }
    (receiver, tasks)
}

/// Keeps one metadata watch per resource type.
async fn discover(client: Client, sender: mpsc::Sender<Fed>) {
    let mut watches: BTreeMap<Resource, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let changed = Arc::new(Notify::new());
    tasks.spawn(watch_definitions(client.clone(), changed.clone()));
    loop {
        let delay = match client.resources().await {
            Ok(resources) => {
                let resources: BTreeSet<Resource> = resources.into_iter().collect();
                watches.retain(|resource, watch| {
                    let exists = resources.contains(resource);
                    if !exists {
                        watch.abort();
                    }
                    exists
                });
                for resource in resources.iter().filter(|resource| kind_of(resource).is_none()) {
                    watches.entry(resource.clone()).or_insert_with(|| {
                        tasks.spawn(watch(client.clone(), resource.clone(), sender.clone()))
                    });
                }
                if sender.send(Fed::Resources(resources)).await.is_err() {
                    return;
                }
                DISCOVERY_INTERVAL
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not ask the API server for its resource types");
                DISCOVERY_RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = changed.notified() => {}
        }
    }
}

/// Tells of every change of a CustomResourceDefinition: a Namespace that is being deleted may hold
/// objects of a kind that was not there a moment ago.
async fn watch_definitions(client: Client, changed: Arc<Notify>) {
    let mut watch = client.watch_metadata(&Resource {
        group: "apiextensions.k8s.io".into(),
        version: "v1".into(),
        plural: "customresourcedefinitions".into(),
        kind: "CustomResourceDefinition".into(),
        namespaced: false,
    });
    loop {
        watch.next().await;
        changed.notify_one();
    }
}

async fn watch(client: Client, resource: Resource, sender: mpsc::Sender<Fed>) {
    let mut watch = client.watch_metadata(&resource);
    loop {
        let event = watch.next().await;
        if sender.send(Fed::Metadata(resource.clone(), event)).await.is_err() {
            return;
        }
    }
}

/// Reports every Lease whose `renewTime` has changed.
///
/// Only the change counts, seen on our clock: the node's clock may be wrong.
async fn watch_leases(client: Client, sender: mpsc::Sender<Fed>) {
    let leases = Resource {
        group: "coordination.k8s.io".into(),
        version: "v1".into(),
        plural: "leases".into(),
        kind: "Lease".into(),
        namespaced: true,
    };
    let selectors =
        Selectors { namespace: Some("kube-node-lease".to_owned()), ..Selectors::default() };
    let mut watch = client.watch_raw(&leases, &selectors);
    let mut renewed: BTreeMap<NodeName, Value> = BTreeMap::new();
    loop {
        let fed = match watch.next().await {
            RawEvent::Apply(lease) => {
                let node = name(&lease);
                let time = lease["spec"]["renewTime"].clone();
                if renewed.get(&node) == Some(&time) {
                    continue;
                }
                renewed.insert(node.clone(), time);
                Fed::Renewed(node)
            }
            RawEvent::Delete(lease) => {
                renewed.remove(&name(&lease));
                Fed::Leases(renewed.keys().cloned().collect())
            }
            RawEvent::Complete(present) => {
                let nodes: BTreeSet<NodeName> = present.into_iter().map(|(_, name)| name).collect();
                renewed.retain(|node, _| nodes.contains(node));
                Fed::Leases(nodes)
            }
        };
        if sender.send(fed).await.is_err() {
            return;
        }
    }
}

fn name(lease: &Value) -> NodeName {
    lease["metadata"]["name"].as_str().unwrap_or_default().into()
}
