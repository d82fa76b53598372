//! The objects of the measurement, written through the API.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ::cluster::{Client, RequestError};
use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{NODE, answering};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// Writes under way at the same time.
const WRITERS: u32 = 16;
/// The first address of endpoints that nobody connects to.
const FIRST: u32 = 10 << 24 | 128 << 16;
/// The Service whose endpoint changes.
const CHANGED: &str = "changed";

/// The API that is written to.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
}

impl Cluster {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Stores the node, the Services and their EndpointSlices; returns the cluster IP of the
    /// Service that is going to change, which is one of them.
    pub(super) async fn fill(&self, services: u32, endpoints: u32) -> anyhow::Result<Ipv4Addr> {
        self.node().await.context("store the Node")?;
        let changed = self.post(SERVICES, service(CHANGED)).await.context("store a Service")?;
        let slice = slice(CHANGED, &[answering(0)]);
        self.post(SLICES, slice).await.context("store an EndpointSlice")?;
        let next = Arc::new(AtomicU32::new(1));
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            let (cluster, next) = (self.clone(), Arc::clone(&next));
            writers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= services {
                        return Ok::<(), RequestError>(());
                    }
                    cluster.store(number, endpoints).await?;
                }
            });
        }
        while let Some(written) = writers.join_next().await {
            written.context("a writer broke off")?.context("store Services")?;
        }
        let address = changed["spec"]["clusterIP"].as_str().unwrap_or_default();
        address.parse().with_context(|| format!("{address:?} is no cluster IP"))
    }

    /// Makes this the only endpoint of the Service that changes.
    pub(super) async fn change(&self, endpoint: Ipv4Addr) -> Result<(), RequestError> {
        let path = format!("{SLICES}/{CHANGED}-1");
        let patch = json!({"endpoints": [endpoint_of(&endpoint)]});
        self.client.exchange(Method::PATCH, &path, MERGE, Some(&patch)).await.map(drop)
    }

    async fn store(&self, number: u32, endpoints: u32) -> Result<(), RequestError> {
        let name = format!("service-{number}");
        self.post(SERVICES, service(&name)).await?;
        let first = FIRST + number * endpoints;
        let addresses: Vec<Ipv4Addr> =
            (first..first + endpoints).map(Ipv4Addr::from_bits).collect();
        self.post(SLICES, slice(&name, &addresses)).await.map(drop)
    }

    async fn node(&self) -> Result<(), RequestError> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        });
        self.post("/api/v1/nodes", node).await?;
        let addresses = json!([{"type": "InternalIP", "address": NODE}]);
        let status = json!({"status": {"addresses": addresses}});
        let path = "/api/v1/nodes/node1/status";
        self.client.exchange(Method::PATCH, path, MERGE, Some(&status)).await.map(drop)
    }

    async fn post(&self, path: &str, object: Value) -> Result<Value, RequestError> {
        self.client.exchange(Method::POST, path, JSON, Some(&object)).await
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn slice(service: &str, addresses: &[Ipv4Addr]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"),
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "portolan-bench",
            },
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": addresses.iter().map(endpoint_of).collect::<Vec<_>>(),
    })
}

/// As the controllers write it.
fn endpoint_of(address: &Ipv4Addr) -> Value {
    json!({
        "addresses": [address], "nodeName": "node2",
        "conditions": {"ready": true, "serving": true, "terminating": false},
    })
}
