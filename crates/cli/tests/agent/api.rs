//! The shipped API server as a process, and what tests write to it.

use std::path::{Path, PathBuf};

use apiserver::tls::Pki;
use cluster::Client;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, portolan};

const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const JSON: &str = "application/json";

/// An API server without controllers.
pub(crate) struct Api {
    pub(crate) folder: TempDir,
    /// Such as `127.0.0.1:40123`.
    pub(crate) address: String,
    /// Who may do everything.
    pub(crate) admin: Client,
    arguments: Vec<String>,
    process: Process,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `{}` in an argument is its folder.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let arguments: Vec<String> =
            arguments.iter().map(|text| text.replace("{}", &path)).collect();
        std::fs::write(folder.path().join("tokens"), "T,admin,1,\"system:masters\"\n")
            .expect("written");
        let (process, address) = serve(folder.path(), "0", &arguments).await;
        let admin = write_kubeconfig(folder.path(), "admin", &address, &json!({"token": "T"}));
        let admin = Client::from_kubeconfig(&admin).await.expect("a kubeconfig");
        Self { folder, address, admin, arguments, process }
    }

    /// Ends it as a power failure would. [`Self::resume`] brings it back.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) async fn resume(&mut self) {
        let (_, port) = self.address.rsplit_once(':').expect("has a port");
        (self.process, self.address) = serve(self.folder.path(), port, &self.arguments).await;
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.resume().await;
    }

    /// A kubeconfig for a user, with their credentials as a kubeconfig has them.
    pub(crate) fn kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        write_kubeconfig(self.folder.path(), name, &self.address, user)
    }

    /// A client certificate's user entry.
    pub(crate) fn certificate(&self, name: &str, group: &str) -> Value {
        let pki = Pki::open(self.folder.path().join("state/pki")).expect("keys");
        let client = pki.client(name, &[group]).expect("a certificate");
        let file = |kind: &str, text: &str| {
            let path = self.folder.path().join(format!("client.{kind}"));
            std::fs::write(&path, text).expect("can be written");
            path
        };
        json!({
            "client-certificate": file("crt", &client.cert_pem),
            "client-key": file("key", &client.key_pem),
        })
    }

    pub(crate) async fn create(&self, collection: &str, object: Value) -> Value {
        let created = self.admin.exchange(Method::POST, collection, JSON, Some(&object)).await;
        created.unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) {
        let merge = "application/merge-patch+json";
        let merged = self.admin.exchange(Method::PATCH, path, merge, Some(&patch)).await;
        merged.unwrap_or_else(|error| panic!("{error:?}"));
    }

    pub(crate) async fn delete(&self, path: &str) {
        let deleted = self.admin.exchange(Method::DELETE, path, JSON, None).await;
        deleted.unwrap_or_else(|error| panic!("{error:?}"));
    }

    pub(crate) async fn node(&self, pod_cidr: &str) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"},
            "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        });
        self.create("/api/v1/nodes", node).await;
        let addresses = json!([{"type": "InternalIP", "address": "172.30.0.11"}]);
        let status = json!({"status": {"addresses": addresses}});
        self.merge("/api/v1/nodes/node1/status", status).await;
    }

    /// A Service with one endpoint; its cluster IP.
    pub(crate) async fn service(&self, name: &str, endpoint: &str) -> String {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}]},
        });
        let created = self.create(SERVICES, service).await;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [endpoint]}],
        });
        self.create(SLICES, slice).await;
        created["spec"]["clusterIP"].as_str().expect("has an address").to_owned()
    }

    pub(crate) async fn move_endpoint(&self, service: &str, endpoint: &str) {
        let endpoints = json!({"endpoints": [{"addresses": [endpoint]}]});
        self.merge(&format!("{SLICES}/{service}"), endpoints).await;
    }

    pub(crate) async fn delete_service(&self, name: &str) {
        self.delete(&format!("{SLICES}/{name}")).await;
        self.delete(&format!("{SERVICES}/{name}")).await;
    }

    /// A token of a ServiceAccount that is good for as long as a Secret is there.
    pub(crate) async fn token(&self, account: &str, secret: &str) -> String {
        let secrets = "/api/v1/namespaces/kube-system/secrets";
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}});
        let secret = self.create(secrets, object).await["metadata"].take();
        let bound = json!({
            "apiVersion": "v1", "kind": "Secret", "name": secret["name"], "uid": secret["uid"],
        });
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound},
        });
        let path = format!("/api/v1/namespaces/kube-system/serviceaccounts/{account}/token");
        let answer = self.create(&path, request).await;
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("state/pki/ca.crt")
    }
}

/// Starts a server and waits until it serves; its process and its address.
async fn serve(folder: &Path, port: &str, arguments: &[String]) -> (Process, String) {
    let mut command = portolan(&["apiserver", "--controllers=none", "--secure-port", port]);
    command.arg("--state").arg(folder.join("state"));
    command.arg("--token-auth-file").arg(folder.join("tokens")).args(arguments);
    let process = Process::start(command);
    let line = process.says("https://").await;
    let url = line.split_whitespace().find_map(|word| word.strip_prefix("https://"));
    (process, url.expect("names its address").to_owned())
}

fn write_kubeconfig(folder: &Path, name: &str, address: &str, user: &Value) -> PathBuf {
    let cluster = json!({
        "server": format!("https://{address}"),
        "certificate-authority": folder.join("state/pki/ca.crt"),
    });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = folder.join(name);
    std::fs::write(&path, kubeconfig.to_string()).expect("can be written");
    path
}
