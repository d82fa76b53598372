//! A pod: its network and files, its containers in their order, its status, and its end.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Node;
use super::container::Runner;
use super::env::{Objects, Source};
use super::events::Severity::{self, Warning};
use super::run;
use super::spec::{Container, PodSpec, RestartPolicy};
use super::status::{ContainerStatus, Facts, State, now};
use super::volumes::{self, Making};
use crate::error::chain;
use crate::launch::Root;
use crate::net::{Namespace, PodLink};
use crate::process::Children;
use crate::view::{Key, Kind, key};

/// The pause before a failed set-up or a request without an answer is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A pod of this node.
pub(crate) struct Pod {
    node: Rc<Node>,
    key: Key,
    uid: String,
    spec: PodSpec,
    object: RefCell<Rc<Value>>,
    folder: PathBuf,
    start_time: String,
    network: RefCell<Option<Network>>,
    init: Vec<Rc<Runner>>,
    containers: Vec<Rc<Runner>>,
    /// The wish to end containers, with the grace period; sidecars end after the others.
    stop: watch::Sender<Option<Duration>>,
    stop_sidecars: watch::Sender<Option<Duration>>,
    /// Changes whenever the status may have changed.
    changed: watch::Sender<u64>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// The pod's place in the network.
struct Network {
    addresses: Vec<IpAddr>,
    namespace: Namespace,
    link: Option<(PodLink, u8)>,
}

impl Pod {
    /// Reads a pod; nothing happens yet.
    ///
    /// # Errors
    /// A field that cannot be read.
    pub(super) fn new(node: Rc<Node>, object: Rc<Value>) -> Result<Self, serde_json::Error> {
        let spec = PodSpec::of(&object)?;
        let key = key(&object);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let logs = node.config.logs.join(format!("{}_{}_{uid}", key.0, key.1));
        let first =
            if spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let runners = |containers: &[Container]| -> Vec<Rc<Runner>> {
            containers
                .iter()
                .map(|spec| Rc::new(Runner::new(spec.clone(), logs.join(&spec.name), first)))
                .collect()
        };
        let pod = Self {
            init: runners(&spec.init_containers),
            containers: runners(&spec.containers),
            folder: node.config.run.join(&uid),
            start_time: object["status"]["startTime"].as_str().map_or_else(now, str::to_owned),
            network: RefCell::default(),
            stop: watch::Sender::new(None),
            stop_sidecars: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            tasks: RefCell::default(),
            object: RefCell::new(object),
            node,
            key,
            uid,
            spec,
        };
        pod.remember_restarts();
        Ok(pod)
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// `web-1_default(uid)`, as the kubelet's messages call a pod.
    pub(super) fn title(&self) -> String {
        format!("{}_{}({})", self.key.1, self.key.0, self.uid)
    }

    /// Takes the object's new state: the wish to delete it, above all.
    pub(super) fn changed(&self, object: Rc<Value>) {
        let metadata = &object["metadata"];
        if !metadata["deletionTimestamp"].is_null() {
            let grace = metadata["deletionGracePeriodSeconds"].as_u64();
            self.stop(grace.map_or_else(|| self.grace(), Duration::from_secs));
        }
        self.object.replace(object);
        self.touch();
    }

    /// Ends the pod within a grace period; a shorter one replaces a longer one.
    pub(super) fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|stop| {
            let shorter = stop.is_none_or(|before| grace < before);
            if shorter {
                *stop = Some(grace);
            }
            shorter
        });
    }

    /// Kills everything at once, and tells nobody.
    pub(super) async fn kill(&self) {
        let tasks = self.tasks.take();
        for task in tasks {
            task.abort();
        }
        for runner in self.init.iter().chain(&self.containers) {
            runner.kill().await;
        }
        self.leave_network();
    }

    /// The whole life of the pod, up to its removal from the API.
    pub(super) async fn run(self: Rc<Self>) {
        // A pod may be seen for the first time when its deletion has begun.
        let object = self.object.borrow().clone();
        self.changed(object);
        let writer = tokio::task::spawn_local(self.clone().write_status());
        self.tasks.borrow_mut().push(writer);
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = self.live() => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
        let grace = self.stop_containers().await;
        self.leave_network();
        self.touch();
        if grace.is_none() {
            // It has come to its end by itself and stays, with its logs, until it is deleted.
            let _ = stop.wait_for(Option::is_some).await;
        }
        self.remove().await;
        let tasks = self.tasks.take();
        for task in tasks {
            task.abort();
        }
        // Below run/, in memory: nothing is lost if it stays.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Sets up, then runs containers until all have ended for good.
    async fn live(self: &Rc<Self>) {
        while let Err(error) = self.set_up().await {
            self.event(None, Warning, "FailedCreatePodSandBox", error);
            tokio::time::sleep(RETRY).await;
        }
        self.touch();
        let once = match self.spec.restart_policy {
            RestartPolicy::Always => RestartPolicy::OnFailure,
            policy => policy,
        };
        for runner in &self.init {
            if runner.spec.is_sidecar() {
                drop(self.start(runner, RestartPolicy::Always, &self.stop_sidecars));
                runner.wait_until(|status| status.started).await;
                continue;
            }
            let ended = self.start(runner, once, &self.stop);
            // A task of ours ends in no other way than by returning.
            let _ = ended.await;
            if !runner.status.borrow().succeeded() {
                return;
            }
        }
        let ended: Vec<_> = self
            .containers
            .iter()
            .map(|runner| self.start(runner, self.spec.restart_policy, &self.stop))
            .collect();
        futures::future::join_all(ended).await;
    }

    /// Files and network. Repeated when it fails: what is there already is kept.
    async fn set_up(&self) -> Result<(), String> {
        if self.network.borrow().is_none() {
            let network = self.join_network()?;
            self.network.replace(Some(network));
        }
        let object = self.described();
        let tokens = self.making(&object).volumes().await?;
        for token in tokens {
            let keeper = tokio::task::spawn_local(token.keep(self.node.config.client.clone()));
            self.tasks.borrow_mut().push(keeper);
        }
        Ok(())
    }

    fn join_network(&self) -> Result<Network, String> {
        let node = &self.node;
        if self.spec.host_network {
            return Ok(Network {
                addresses: node.addresses().to_vec(),
                namespace: node.config.namespace.clone(),
                link: None,
            });
        }
        let Some((host, addresses)) = node.take_address() else {
            return Err(format!("no pod address of {} is free", node.config.name));
        };
        match PodLink::new(
            &node.config.namespace,
            &format!("pod{host}"),
            addresses,
            node.addresses(),
        ) {
            Ok(link) => Ok(Network {
                addresses: addresses.to_vec(),
                namespace: link.namespace.clone(),
                link: Some((link, host)),
            }),
            Err(error) => {
                node.release_address(host);
                Err(chain(&error))
            }
        }
    }

    fn leave_network(&self) {
        if let Some(Network { link: Some((link, host)), .. }) = self.network.take() {
            drop(link);
            self.node.release_address(host);
        }
    }

    /// Starts a runner; the answer comes when it has ended for good.
    fn start(
        self: &Rc<Self>,
        runner: &Rc<Runner>,
        policy: RestartPolicy,
        stop: &watch::Sender<Option<Duration>>,
    ) -> tokio::sync::oneshot::Receiver<()> {
        let (tell, ended) = tokio::sync::oneshot::channel();
        let life = run::run(self.clone(), runner.clone(), policy, stop.subscribe());
        let (pod, mut changes) = (self.clone(), runner.changed.subscribe());
        let task = tokio::task::spawn_local(async move {
            tokio::pin!(life);
            loop {
                tokio::select! {
                    () = &mut life => break,
                    _ = changes.changed() => pod.touch(),
                }
            }
            pod.touch();
            // Nobody may be waiting for it any more.
            let _ = tell.send(());
        });
        self.tasks.borrow_mut().push(task);
        ended
    }

    /// Ends what still runs, sidecars last. Returns the grace period when that was asked for.
    async fn stop_containers(&self) -> Option<Duration> {
        let grace = *self.stop.borrow();
        let all_ended = |runners: Vec<Rc<Runner>>| async move {
            for runner in runners {
                runner.wait_until(|status| !status.is_running()).await;
            }
        };
        let (sidecars, others): (Vec<_>, Vec<_>) =
            self.init.iter().cloned().partition(|runner| runner.spec.is_sidecar());
        all_ended(others.into_iter().chain(self.containers.iter().cloned()).collect()).await;
        self.stop_sidecars.send_replace(Some(grace.unwrap_or_else(|| self.grace())));
        all_ended(sidecars.into_iter().rev().collect()).await;
        grace
    }

    /// Says the last word about the pod and takes it out of the API.
    async fn remove(&self) {
        let (namespace, name) = &self.key;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": self.uid},
        });
        let client = &self.node.config.client;
        loop {
            let status = self.status();
            let last = async {
                self.patch_status(&status).await?;
                client.exchange(Method::DELETE, &path, "application/json", Some(&options)).await
            };
            match last.await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(
                        pod = self.title(),
                        error = chain(&error),
                        "could not remove the pod"
                    );
                    tokio::time::sleep(RETRY).await;
                }
                // Gone already, or another pod of this name: both end ours.
                _ => return,
            }
        }
    }

    /// Keeps the status in the API as it is here.
    async fn write_status(self: Rc<Self>) {
        let mut changes = self.changed.subscribe();
        let mut written = Value::Null;
        loop {
            changes.borrow_and_update();
            let status = self.status();
            if status != written {
                match self.patch_status(&status).await {
                    Ok(()) => written = status,
                    Err(error) if error.is_gone() || error.is_conflict() => {}
                    Err(error) => {
                        tracing::warn!(
                            pod = self.title(),
                            error = chain(&error),
                            "could not write the pod's status"
                        );
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn patch_status(&self, status: &Value) -> Result<(), cluster::RequestError> {
        let (namespace, name) = &self.key;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let mut patch = json!({"metadata": {"uid": self.uid}, "status": status});
        // These lists merge by address: without the directive, the addresses of an earlier life
        // of the pod would stay beside those of now.
        for field in ["podIPs", "hostIPs"] {
            if let Some(addresses) = patch["status"][field].as_array_mut() {
                addresses.push(json!({"$patch": "replace"}));
            }
        }
        let client = &self.node.config.client;
        client
            .exchange(Method::PATCH, &path, "application/strategic-merge-patch+json", Some(&patch))
            .await
            .map(drop)
    }

    fn status(&self) -> Value {
        let object = self.object.borrow();
        let copy = |runners: &[Rc<Runner>]| -> Vec<ContainerStatus> {
            runners.iter().map(|runner| runner.status.borrow().clone()).collect()
        };
        let (init, containers) = (copy(&self.init), copy(&self.containers));
        let addresses = self
            .network
            .borrow()
            .as_ref()
            .map(|network| network.addresses.clone())
            .unwrap_or_default();
        let facts = Facts {
            pod: &object,
            spec: &self.spec,
            init: &init,
            containers: &containers,
            addresses: &addresses,
            host_addresses: &self.node.addresses(),
            start_time: &self.start_time,
        };
        facts.status()
    }

    /// A pod that was run before, by a kubelet that is gone, goes on counting.
    fn remember_restarts(&self) {
        let object = self.object.borrow();
        for (runners, list) in
            [(&self.init, "initContainerStatuses"), (&self.containers, "containerStatuses")]
        {
            for runner in runners {
                let before = object["status"][list]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|status| status["name"] == runner.spec.name.as_str());
                if let Some(before) = before.filter(|before| before["containerID"].is_string()) {
                    let count = before["restartCount"]
                        .as_u64()
                        .and_then(|count| u32::try_from(count).ok())
                        .unwrap_or_default();
                    runner.status.borrow_mut().restarts = count + 1;
                }
            }
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}

/// What containers need of their pod.
impl Pod {
    /// A container by name, or the first one.
    pub(super) fn runner(&self, name: Option<&str>) -> Option<Rc<Runner>> {
        let mut all = self.containers.iter().chain(&self.init);
        match name {
            Some(name) => all.find(|runner| runner.spec.name == name).cloned(),
            None => all.next().cloned(),
        }
    }

    pub(super) fn children(&self) -> &Children {
        &self.node.config.children
    }

    /// The object with the addresses that its status is about to show.
    pub(super) fn described(&self) -> Value {
        let mut object = Value::clone(&self.object.borrow());
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), self.status());
        }
        object
    }

    /// The Services that the pod knows by variables: those of its namespace, unless it wants
    /// none, and always `default/kubernetes`.
    pub(super) fn services(&self) -> Vec<Rc<Value>> {
        let links = self.spec.enable_service_links != Some(false);
        let mut services = self.node.config.view.all(Kind::Service);
        services.retain(|service| {
            let (namespace, name) = key(service);
            (namespace == "default" && name == "kubernetes") || (links && namespace == self.key.0)
        });
        services
    }

    /// ConfigMaps and Secrets of the pod's namespace.
    pub(super) async fn fetch(&self, wanted: Vec<(Source, String)>) -> Result<Objects, String> {
        let mut objects = Objects::new();
        for (kind, name) in wanted {
            let object = volumes::fetch(&self.node.config.client, kind, &self.key.0, &name).await?;
            objects.insert((kind, name), object);
        }
        Ok(objects)
    }

    pub(super) fn hostname(&self) -> String {
        if self.spec.host_network {
            return self.node.config.name.clone();
        }
        self.spec.hostname.clone().unwrap_or_else(|| self.key.1.chars().take(63).collect())
    }

    /// What the lab's own images want to know: they need no downward API.
    pub(super) fn identity(&self) -> [(String, String); 3] {
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        [
            text("PORTOLAN_POD", &self.key.1),
            text("PORTOLAN_NAMESPACE", &self.key.0),
            text("PORTOLAN_NODE", &self.node.config.name),
        ]
    }

    /// The file system of a container.
    pub(super) fn root(&self, container: &Container) -> Result<Root, String> {
        let addresses = self
            .network
            .borrow()
            .as_ref()
            .map(|network| network.addresses.clone())
            .unwrap_or_default();
        self.making(&self.object.borrow()).root(container, &self.hostname(), &addresses)
    }

    /// The pod's network namespace, to enter.
    pub(super) fn network(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::other("the pod has left the network");
        self.namespace().ok_or_else(gone)?.as_fd().try_clone_to_owned()
    }

    pub(super) fn namespace(&self) -> Option<Namespace> {
        self.network.borrow().as_ref().map(|network| network.namespace.clone())
    }

    pub(super) fn node_network(&self) -> &Namespace {
        &self.node.config.namespace
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.network.borrow().as_ref()?.addresses.first().copied()
    }

    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(self.spec.termination_grace_period_seconds.unwrap_or(30))
    }

    pub(super) fn event(
        &self,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.node.events.pod(&self.object.borrow(), container, severity, reason, message);
    }

    fn making<'a>(&'a self, object: &'a Value) -> Making<'a> {
        Making {
            client: &self.node.config.client,
            pod: object,
            spec: &self.spec,
            folder: &self.folder,
        }
    }
}

impl ContainerStatus {
    /// Ended with exit code 0.
    pub(super) fn succeeded(&self) -> bool {
        matches!(&self.state, State::Terminated(ended) if ended.code == 0)
    }
}
