//! The cluster as a stream of changes.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use futures::FutureExt;
use model::{Change, Kind, Meta, Name, Resource};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::metadata::meta;
use crate::raw::{Complaint, RawEvent, RawWatch, Selectors, identity};

/// Batches that may wait in the queue before watches are slowed down. Whoever takes them may keep less
/// of each object than waits here.
const QUEUE: usize = 8;
/// Most events of one kind that are put into one batch.
const BATCH: usize = 1024;

/// What one [`source`] selects of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceOptions {
    /// Everything: for controllers and DNS.
    Everything,
    /// What a node's dataplane needs: Services of other proxies and headless ones are left out by
    /// the server (D1, D2).
    Node,
}

/// What arrived together.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// In the order in which they happened, per kind.
    pub changes: Vec<Change>,
    /// Objects that could not be understood. Their last good state stays.
    pub rejected: Vec<Rejected>,
    /// When the first of them was received.
    pub received: Instant,
}

/// An object that the API server stores and that makes no sense to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its metadata, when that at least makes sense.
    pub meta: Option<Box<Meta>>,
    /// What is wrong with it, naming the field.
    pub reason: String,
}

/// The receiving end of [`source`]. Dropping it stops the watches.
pub struct Source {
    complaints: Vec<Complaint>,
    batches: mpsc::Receiver<Batch>,
    /// One watch per kind.
    _watches: JoinSet<()>,
}

/// Lists and watches these kinds. Must be called inside a tokio runtime.
///
/// Each kind delivers [`Change::Complete`] after its first list and after each further one. While
/// the server is away nothing arrives and nothing is said to be gone.
pub fn source(client: &Client, kinds: &[Kind], options: SourceOptions) -> Source {
    let (sender, batches) = mpsc::channel(QUEUE);
    let (mut watches, mut complaints) = (JoinSet::new(), Vec::new());
    for &kind in kinds {
        let (resource, selectors) = (resource_of(kind), selectors(kind, options));
        let watch = match options {
            // There are many nodes, and everything is sent to each.
            SourceOptions::Node => client.watch_streamed(&resource, &selectors),
            SourceOptions::Everything => client.watch_raw(&resource, &selectors),
        };
        complaints.push(watch.complaint());
        watches.spawn(forward(kind, watch, sender.clone()));
    }
    Source { complaints, batches, _watches: watches }
}

impl Source {
    /// Why the server gives nothing for the time being, each reason once; empty while it does.
    pub fn troubles(&self) -> Vec<String> {
        let text = |complaint: &Complaint| {
            complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let texts: BTreeSet<String> = self.complaints.iter().map(text).collect();
        texts.into_iter().filter(|text| !text.is_empty()).collect()
    }

    /// Waits for changes and returns everything that is queued, as one batch.
    ///
    /// `None` never comes as long as a kind is watched. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Batch> {
        let mut all = self.batches.recv().await?;
        while let Ok(batch) = self.batches.try_recv() {
            all.changes.extend(batch.changes);
            all.rejected.extend(batch.rejected);
        }
        Some(all)
    }
}

/// The resource type of a kind, in the version that `wire` reads.
pub fn resource_of(kind: Kind) -> Resource {
    let (group, plural, kind, namespaced) = match kind {
        Kind::Service => ("", "services", "Service", true),
        Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
        Kind::Endpoints => ("", "endpoints", "Endpoints", true),
        Kind::Node => ("", "nodes", "Node", false),
        Kind::ServiceCidr => ("networking.k8s.io", "servicecidrs", "ServiceCIDR", false),
        Kind::Namespace => ("", "namespaces", "Namespace", false),
        Kind::Pod => ("", "pods", "Pod", true),
        Kind::Deployment => ("apps", "deployments", "Deployment", true),
        Kind::ReplicaSet => ("apps", "replicasets", "ReplicaSet", true),
    };
    Resource {
        group: group.into(),
        version: "v1".into(),
        plural: plural.into(),
        kind: kind.into(),
        namespaced,
    }
}

fn selectors(kind: Kind, options: SourceOptions) -> Selectors {
    let mut selectors = Selectors::default();
    match (options, kind) {
        // D1
        (SourceOptions::Node, Kind::Service) => {
            selectors.labels = "!service.kubernetes.io/service-proxy-name".into();
            selectors.fields = "spec.clusterIP!=None".into();
        }
        // D2
        (SourceOptions::Node, Kind::EndpointSlice) => {
            selectors.labels = "!service.kubernetes.io/headless".into();
        }
        _ => {}
    }
    selectors
}

/// Passes on what a watch delivers, as much at a time as is there.
async fn forward(kind: Kind, mut watch: RawWatch, sender: mpsc::Sender<Batch>) {
    loop {
        let first = watch.next().await;
        let mut batch =
            Batch { changes: Vec::new(), rejected: Vec::new(), received: Instant::now() };
        take(kind, first, &mut batch);
        for _ in 1..BATCH {
            let Some(event) = watch.next().now_or_never() else { break };
            take(kind, event, &mut batch);
        }
        if sender.send(batch).await.is_err() {
            return;
        }
    }
}

fn take(kind: Kind, event: RawEvent, batch: &mut Batch) {
    match event {
        RawEvent::Apply(mut value) => match wire::to_model::object_in_place(&mut value) {
            Ok(object) => batch.changes.push(Change::Apply(object)),
            Err(rejected) => batch.rejected.push(reject(kind, &value, rejected.to_string())),
        },
        RawEvent::Delete(value) => {
            let (namespace, name) = identity(&value);
            batch.changes.push(Change::Delete(kind, namespace, name));
        }
        RawEvent::Complete(present) => batch.changes.push(Change::Complete(kind, present)),
    }
}

fn reject(kind: Kind, value: &Value, reason: String) -> Rejected {
    let (namespace, name) = identity(value);
    Rejected { kind, namespace, name, meta: meta(value).ok().map(Box::new), reason }
}
