//! The cluster as a stream of changes.

use std::time::Duration;

use hyper::StatusCode;
use model::{Change, Cluster, Kind, ServiceName};
use portolan_cluster::{Batch, Source, SourceOptions};
use serde_json::{Value, json};

use crate::support::{Scripted, Step, event};

fn service(name: &str, port: Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": port,
        },
    })
}

fn good(name: &str) -> Value {
    service(name, json!([{"port": 80, "protocol": "TCP"}]))
}

fn list(items: &[Value]) -> Step {
    let metadata = json!({"resourceVersion": "5"});
    let body = json!({
        "kind": "ServiceList", "apiVersion": "v1", "metadata": metadata, "items": items,
    });
    Step::Answer(StatusCode::OK, body)
}

async fn next(source: &mut Source) -> Batch {
    let batch = tokio::time::timeout(Duration::from_secs(10), source.next()).await;
    batch.expect("something comes").expect("a source never ends")
}

#[tokio::test]
async fn what_arrives_together_is_one_batch_and_says_that_it_is_complete() {
    // D44.
    let server = Scripted::start([list(&[good("a"), good("b")])]).await;
    let client = server.client().await;
    let mut source = portolan_cluster::source(&client, &[Kind::Service], SourceOptions::Everything);
    let batch = next(&mut source).await;
    assert_eq!(batch.changes.len(), 3);
    let mut cluster = Cluster::default();
    batch.changes.into_iter().for_each(|change| cluster.apply(change));
    assert!(cluster.is_complete(&[Kind::Service]));
    assert!(cluster.services.contains_key(&ServiceName::new("default", "b")));
}

#[tokio::test]
async fn a_bad_object_harms_itself_only_and_keeps_its_last_good_state() {
    let mut bad = good("a");
    bad["spec"] = json!("nonsense");
    bad["metadata"]["resourceVersion"] = "6".into();
    let server = Scripted::start([
        list(&[good("a"), good("b")]),
        Step::Watch(vec![event("MODIFIED", bad), event("ADDED", good("c"))]),
    ])
    .await;
    let client = server.client().await;
    let mut source = portolan_cluster::source(&client, &[Kind::Service], SourceOptions::Everything);
    let (mut cluster, mut rejected) = (Cluster::default(), Vec::new());
    while cluster.services.len() < 3 {
        let batch = next(&mut source).await;
        batch.changes.into_iter().for_each(|change| cluster.apply(change));
        rejected.extend(batch.rejected);
    }
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].name, "a".into());
    assert!(rejected[0].meta.is_some());
    assert!(cluster.services.contains_key(&ServiceName::new("default", "a")));
}

#[tokio::test]
async fn a_node_asks_only_for_what_its_dataplane_needs() {
    let server = Scripted::start([]).await;
    let client = server.client().await;
    let kinds = [Kind::Service, Kind::EndpointSlice];
    let mut source = portolan_cluster::source(&client, &kinds, SourceOptions::Node);
    let silence = tokio::time::timeout(Duration::from_millis(300), source.next()).await;
    assert!(silence.is_err());
    let requests = server.requests().join("\n");
    assert!(requests.contains("%21service.kubernetes.io%2Fservice-proxy-name"), "{requests}");
    assert!(requests.contains("fieldSelector=spec.clusterIP%21%3DNone"), "{requests}");
    assert!(requests.contains("%21service.kubernetes.io%2Fheadless"), "{requests}");
}

#[tokio::test]
async fn a_deleted_object_is_named() {
    let server =
        Scripted::start([list(&[good("a")]), Step::Watch(vec![event("DELETED", good("a"))])]).await;
    let client = server.client().await;
    let mut source = portolan_cluster::source(&client, &[Kind::Service], SourceOptions::Everything);
    let mut last = None;
    while !matches!(last, Some(Change::Delete(..))) {
        last = next(&mut source).await.changes.pop();
    }
    assert_eq!(last, Some(Change::Delete(Kind::Service, "default".into(), "a".into())));
}
