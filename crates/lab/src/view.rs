//! What the API server holds, as far as the lab wants to know: one watch each for Nodes, Pods,
//! Services and EndpointSlices, shared by all kubelets, the table and the loopback URLs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cluster::{Client, RawEvent, Selectors};
use model::Resource;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

/// Namespace and name.
pub(crate) type Key = (String, String);
type Objects = BTreeMap<Key, Rc<Value>>;

/// The kinds that are watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Node,
    Pod,
    Service,
    EndpointSlice,
}

/// What happened to a pod of a node.
#[derive(Debug)]
pub(crate) enum PodEvent {
    /// It exists and looks like this.
    Changed(Rc<Value>),
    /// It is gone from the API.
    Gone(Key),
}

/// The watched objects. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct View {
    objects: Rc<RefCell<BTreeMap<Kind, Objects>>>,
    followers: Rc<RefCell<BTreeMap<String, mpsc::UnboundedSender<PodEvent>>>>,
    changed: watch::Sender<u64>,
    complete: watch::Sender<usize>,
}

impl View {
    /// Starts the watches.
    pub(crate) fn start(client: &Client) -> Self {
        let view = Self {
            objects: Rc::default(),
            followers: Rc::default(),
            changed: watch::Sender::new(0),
            complete: watch::Sender::new(0),
        };
        for kind in KINDS {
            let (view, mut watch) =
                (view.clone(), client.watch_raw(&resource(kind), &Selectors::default()));
            tokio::task::spawn_local(async move {
                let mut listed = false;
                loop {
                    let event = watch.next().await;
                    if !listed && matches!(event, RawEvent::Complete(_)) {
                        listed = true;
                        view.complete.send_modify(|count| *count += 1);
                    }
                    view.take(kind, event);
                }
            });
        }
        view
    }

    /// Waits until every kind has been listed once.
    pub(crate) async fn listed(&self) {
        // The sender lives in self: it cannot fail.
        let _ = self.complete.subscribe().wait_for(|count| *count == KINDS.len()).await;
    }

    /// Tells of every later change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells those who wait for [`View::changes`] of something that the API server does not hold: a
    /// node, a pod's process or a loopback URL.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// All objects of a kind, by namespace and name.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Rc<Value>> {
        self.objects
            .borrow()
            .get(&kind)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Rc<Value>> {
        self.objects.borrow().get(&kind)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The pods of a node: those that are there, then every change. A later call for the same
    /// node ends the earlier one.
    pub(crate) fn follow_pods(&self, node: &str) -> mpsc::UnboundedReceiver<PodEvent> {
        let (tell, events) = mpsc::unbounded_channel();
        for pod in self.all(Kind::Pod).into_iter().filter(|pod| pod["spec"]["nodeName"] == node) {
            // The receiver is in our hand.
            let _ = tell.send(PodEvent::Changed(pod));
        }
        self.followers.borrow_mut().insert(node.to_owned(), tell);
        events
    }

    fn take(&self, kind: Kind, event: RawEvent) {
        match event {
            RawEvent::Apply(object) => {
                let object = Rc::new(object);
                self.objects
                    .borrow_mut()
                    .entry(kind)
                    .or_default()
                    .insert(key(&object), object.clone());
                if kind == Kind::Pod {
                    self.tell(&object.clone(), PodEvent::Changed(object));
                }
            }
            RawEvent::Delete(object) => self.remove(kind, &key(&object)),
            RawEvent::Complete(there) => {
                let gone: Vec<Key> =
                    self.objects.borrow().get(&kind).map_or_else(Vec::new, |objects| {
                        let is_gone = |key: &&Key| {
                            !there.contains(&(key.0.as_str().into(), key.1.as_str().into()))
                        };
                        objects.keys().filter(is_gone).cloned().collect()
                    });
                gone.iter().for_each(|key| self.remove(kind, key));
            }
        }
        self.changed.send_modify(|version| *version += 1);
    }

    fn remove(&self, kind: Kind, key: &Key) {
        let removed =
            self.objects.borrow_mut().get_mut(&kind).and_then(|objects| objects.remove(key));
        if let Some(pod) = removed.filter(|_| kind == Kind::Pod) {
            self.tell(&pod, PodEvent::Gone(key.clone()));
        }
    }

    fn tell(&self, pod: &Value, event: PodEvent) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if let Some(follower) = self.followers.borrow().get(node) {
            // A stopped node does not listen.
            let _ = follower.send(event);
        }
    }
}

/// Namespace and name of an object.
pub(crate) fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

const KINDS: [Kind; 4] = [Kind::Node, Kind::Pod, Kind::Service, Kind::EndpointSlice];

fn resource(kind: Kind) -> Resource {
    let (group, plural, name, namespaced) = match kind {
        Kind::Node => ("", "nodes", "Node", false),
        Kind::Pod => ("", "pods", "Pod", true),
        Kind::Service => ("", "services", "Service", true),
        Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    };
    Resource {
        group: group.into(),
        version: "v1".into(),
        plural: plural.into(),
        kind: name.into(),
        namespaced,
    }
}
