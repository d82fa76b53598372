//! The lab's kubelet: it registers its node, runs the pods that are assigned to it as plain
//! processes, and tells the API how they are.
//!
//! ```text
//!  View ─ PodEvent ─▶ Kubelet ─▶ Pod ─▶ Runner (one per container) ─▶ Process
//!                                 │        └─ probes
//!                                 └─▶ status patches, events, the final delete
//!  API server ─ HTTPS :10250 ─▶ server: logs, exec, attach, port-forward
//! ```
//!
//! Nothing is polled: every change of a process, probe or object wakes who waits for it.

mod console;
mod container;
mod env;
mod events;
mod logs;
mod node;
mod pod;
mod probe;
mod run;
mod server;
mod spec;
mod status;
mod streams;
mod volumes;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use apiserver::tls::Pki;
use cluster::Client;
use serde_json::Value;
use tokio::task::AbortHandle;

use self::events::Events;
use self::pod::Pod;
pub(crate) use self::status::now;
use crate::config::AddressPlan;
use crate::error::LabError;
use crate::launch::Launch;
use crate::net::Namespace;
use crate::process::Children;
use crate::view::{Key, PodEvent, View, key};

/// What a kubelet needs.
pub(crate) struct KubeletConfig {
    /// Number of the node, from 0.
    pub(crate) index: u16,
    /// Name of the node.
    pub(crate) name: String,
    /// The node's network.
    pub(crate) namespace: Namespace,
    pub(crate) children: Children,
    pub(crate) client: Client,
    pub(crate) view: View,
    /// Pods' files, in memory.
    pub(crate) run: PathBuf,
    /// Pods' logs.
    pub(crate) logs: PathBuf,
}

/// What a node's pods share.
struct Node {
    config: KubeletConfig,
    events: Events,
    /// Last bytes of the pod addresses in use.
    taken: RefCell<BTreeSet<u8>>,
    /// The last one given out: the next search starts behind it, so that an address is not used
    /// again while others may still remember it.
    last: std::cell::Cell<u8>,
}

/// A running kubelet.
pub(crate) struct Kubelet {
    node: Rc<Node>,
    pods: RefCell<BTreeMap<Key, Rc<Pod>>>,
    tasks: RefCell<Vec<AbortHandle>>,
}

impl Kubelet {
    /// Starts to register the node, to serve port 10250 and to run pods.
    ///
    /// # Errors
    /// When certificates cannot be made or the port is taken.
    pub(crate) fn start(config: KubeletConfig, pki: &Pki) -> Result<Rc<Self>, LabError> {
        let events = Events::start(config.client.clone(), config.name.clone());
        let node = Rc::new(Node {
            events,
            taken: RefCell::default(),
            last: std::cell::Cell::new(FIRST_POD - 1),
            config,
        });
        let kubelet = Rc::new(Self {
            node: node.clone(),
            pods: RefCell::default(),
            tasks: RefCell::default(),
        });
        let server = server::start(&kubelet, pki)?;
        let follower = tokio::task::spawn_local(kubelet.clone().follow());
        let registered = tokio::task::spawn_local(node::keep(node));
        kubelet.tasks.borrow_mut().extend([
            server,
            follower.abort_handle(),
            registered.abort_handle(),
        ]);
        Ok(kubelet)
    }

    /// Kills every process of the node and stops working, without a word to the API.
    pub(crate) async fn kill(&self) {
        let tasks = self.tasks.take();
        for task in tasks {
            task.abort();
        }
        let pods = self.pods.take();
        futures::future::join_all(pods.values().map(|pod| pod.kill())).await;
    }

    /// How many pods the node runs.
    pub(crate) fn pod_count(&self) -> usize {
        self.pods.borrow().len()
    }

    /// Enters a running container of a pod: the named one, or the first. `None` when this node
    /// runs no such pod or container.
    pub(crate) fn enter(
        &self,
        namespace: &str,
        name: &str,
        container: Option<&str>,
    ) -> Option<io::Result<Launch>> {
        self.pod(namespace, name)?.runner(container)?.enter()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Rc<Pod>> {
        self.pods.borrow().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    async fn follow(self: Rc<Self>) {
        let mut events = self.node.config.view.follow_pods(&self.node.config.name);
        while let Some(event) = events.recv().await {
            match event {
                PodEvent::Changed(object) => self.changed(object),
                PodEvent::Gone(key) => {
                    if let Some(pod) = self.pods.borrow().get(&key) {
                        pod.stop(Duration::ZERO);
                    }
                }
            }
        }
    }

    fn changed(self: &Rc<Self>, object: Rc<Value>) {
        let key = key(&object);
        let same = |pod: &&Rc<Pod>| pod.uid() == object["metadata"]["uid"];
        if let Some(pod) = self.pods.borrow().get(&key).filter(same) {
            pod.changed(object);
            return;
        }
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        let done = matches!(phase, "Succeeded" | "Failed");
        if done && object["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        let pod = match Pod::new(self.node.clone(), object.clone()) {
            Ok(pod) => Rc::new(pod),
            Err(error) => {
                // The API server has checked it: what we cannot read is a field of ours.
                let message = format!("the lab's kubelet cannot read the pod: {error}");
                self.node.events.pod(
                    &object,
                    None,
                    events::Severity::Warning,
                    "FailedCreatePodSandBox",
                    message,
                );
                return;
            }
        };
        let before = self.pods.borrow_mut().insert(key.clone(), pod.clone());
        self.node.config.view.touch();
        let kubelet = self.clone();
        let task = tokio::task::spawn_local(async move {
            if let Some(before) = before {
                before.kill().await;
            }
            pod.clone().run().await;
            let mut pods = kubelet.pods.borrow_mut();
            if pods.get(&key).is_some_and(|present| Rc::ptr_eq(present, &pod)) {
                pods.remove(&key);
                kubelet.node.config.view.touch();
            }
        });
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
    }
}

impl Node {
    /// A free address of each family, or `None` when all are taken.
    fn take_address(&self) -> Option<(u8, [IpAddr; 2])> {
        let mut taken = self.taken.borrow_mut();
        let start = self.last.get();
        let host =
            (start + 1..=LAST_POD).chain(FIRST_POD..=start).find(|host| !taken.contains(host))?;
        taken.insert(host);
        self.last.set(host);
        let [v4, v6] = AddressPlan::node_pods(self.config.index);
        let at = |network: IpAddr| match network {
            IpAddr::V4(address) => {
                IpAddr::from((u32::from(address) + u32::from(host)).to_be_bytes())
            }
            IpAddr::V6(address) => {
                IpAddr::from((u128::from(address) + u128::from(host)).to_be_bytes())
            }
        };
        Some((host, [at(v4.network()), at(v6.network())]))
    }

    fn release_address(&self, host: u8) {
        self.taken.borrow_mut().remove(&host);
    }

    fn addresses(&self) -> [IpAddr; 2] {
        AddressPlan::node(self.config.index)
    }
}

/// The first and last host of a node's pod network; .1 is the node.
const FIRST_POD: u8 = 2;
const LAST_POD: u8 = 254;
