//! A running API server, its kubeconfig, and a kubelet that only pretends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apiserver::config::ApiserverConfig;
use apiserver::tls::Pki;
use cluster::{Client, RawEvent, Selectors};
use http::Method;
use model::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::other_cluster::OtherCluster;

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server on a port of loopback.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) address: SocketAddr,
    server: Server,
}

/// What answers there.
enum Server {
    /// Our own.
    Embedded { folder: TempDir, stop: oneshot::Sender<()>, serving: JoinHandle<()> },
    /// The one that `PORTOLAN_TEST_KUBECONFIG` names.
    Other(OtherCluster),
}

impl Api {
    pub(crate) async fn start() -> Self {
        if let Some(other) = OtherCluster::reach() {
            let client = Client::from_kubeconfig(&other.kubeconfig).await.expect("a kubeconfig");
            let (kubeconfig, address) = (other.kubeconfig.clone(), other.address);
            return Self { client, kubeconfig, address, server: Server::Other(other) };
        }
        Self::start_in(tempfile::tempdir().expect("a folder"), 0).await
    }

    /// Ends the server. Its state stays in the folder. Only with the embedded one: tests that need
    /// it ask [`crate::other_cluster::is_wanted`] first.
    pub(crate) async fn stop(self) -> (TempDir, u16) {
        let Server::Embedded { folder, stop, serving } = self.server else {
            panic!("another cluster's API server is not ours to end");
        };
        stop.send(()).expect("it runs");
        serving.await.expect("it did not panic");
        (folder, self.address.port())
    }

    /// Starts with the state of an earlier one.
    pub(crate) async fn start_in(folder: TempDir, port: u16) -> Self {
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, "T,admin,1,\"system:masters\"\n").expect("can write");
        let mut config = ApiserverConfig::new(folder.path().join("state"));
        config.secure_port = port;
        config.token_auth_file = Some(tokens);
        let pki = Pki::open(config.state_dir.join("pki")).expect("keys");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            let ready =
                move |addresses: &[SocketAddr]| ready.send(addresses[0]).expect("is awaited");
            apiserver::run::run(config, shutdown, ready).await.expect("the server runs");
        });
        let address = is_ready.await.expect("the server starts");
        let kubeconfig = write_kubeconfig(folder.path(), address, pki.ca_pem());
        let client = Client::from_kubeconfig(&kubeconfig).await.expect("is a good kubeconfig");
        let server = Server::Embedded { folder, stop, serving };
        Self { client, kubeconfig, address, server }
    }

    pub(crate) async fn create(&self, collection: &str, object: Value) -> Value {
        let json = "application/json";
        let created = self.client.exchange(Method::POST, collection, json, Some(&object)).await;
        let created = created.unwrap_or_else(|error| panic!("{error:?}"));
        if let Server::Other(other) = &self.server {
            let name = created["metadata"]["name"].as_str().expect("has a name");
            other.note(format!("{collection}/{name}"));
        }
        created
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Value {
        let merge = "application/merge-patch+json";
        self.client
            .exchange(Method::PATCH, path, merge, Some(&patch))
            .await
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) async fn delete(&self, path: &str) {
        let deleted = self.client.exchange(Method::DELETE, path, "application/json", None).await;
        deleted.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Makes a ready node.
    pub(crate) async fn node(&self, name: &str, address: &str, pod_cidr: &str) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        });
        self.create("/api/v1/nodes", node).await;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }});
        self.merge(&format!("/api/v1/nodes/{name}/status"), status).await;
    }

    /// Waits until a list has what the test wants of it.
    pub(crate) async fn until<T>(
        &self,
        path: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let list = self.client.get(path).await.unwrap_or_else(|error| panic!("{error:?}"));
            if let Some(found) = wanted(&list) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} never became right: {list:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts a kubelet that gives every pod of every node an address and calls it ready.
    pub(crate) fn kubelet(&self) -> JoinSet<()> {
        let client = self.client.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let pods = cluster::resource_of(Kind::Pod);
            let mut watch = client.watch_raw(&pods, &Selectors::default());
            let mut last = 1;
            loop {
                if let RawEvent::Apply(pod) = watch.next().await {
                    last += 1;
                    run_pod(&client, &pod, last).await;
                }
            }
        });
        task
    }
}

async fn run_pod(client: &Client, pod: &Value, last: u8) {
    let text =
        |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let path = format!("{path}?gracePeriodSeconds=0");
        drop(client.exchange(Method::DELETE, &path, "application/json", None).await);
    } else if pod["spec"]["nodeName"].is_string() && !pod["status"]["podIP"].is_string() {
        let address = format!("10.244.0.{last}");
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        let merge = "application/merge-patch+json";
        // The pod may be gone meanwhile.
        drop(client.exchange(Method::PATCH, &format!("{path}/status"), merge, Some(&status)).await);
    }
}

fn write_kubeconfig(folder: &Path, address: SocketAddr, ca: &str) -> PathBuf {
    let authority = folder.join("ca.crt");
    std::fs::write(&authority, ca).expect("can write");
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: 'https://{address}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: test, user: {{token: T}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
        authority.display()
    );
    std::fs::write(&path, text).expect("can write");
    path
}
