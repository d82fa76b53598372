//! Watches against servers that expire, vanish and lie.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Scripted, Step, event, failure, list, pod};
use model::{Kind, Name};
use portolan_cluster::{RawEvent, RawWatch, Selectors};

fn pods(names: &[&str]) -> BTreeSet<(Name, Name)> {
    names.iter().map(|&name| ("default".into(), name.into())).collect()
}

async fn watch(server: &Scripted) -> RawWatch {
    let client = server.client().await;
    client.watch_raw(&portolan_cluster::resource_of(Kind::Pod), &Selectors::default())
}

async fn next(watch: &mut RawWatch) -> RawEvent {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("an event comes")
}

/// The name in an event, with what happened to it.
fn short(event: &RawEvent) -> String {
    match event {
        RawEvent::Apply(object) => {
            format!("+{}", object["metadata"]["name"].as_str().unwrap_or(""))
        }
        RawEvent::Delete(object) => {
            format!("-{}", object["metadata"]["name"].as_str().unwrap_or(""))
        }
        RawEvent::Complete(present) => {
            let names: Vec<&str> = present.iter().map(|(_, name)| name.as_str()).collect();
            format!("={}", names.join(","))
        }
    }
}

async fn take(watch: &mut RawWatch, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(short(&next(watch).await));
    }
    events
}

#[tokio::test]
async fn a_list_in_pages_is_complete_once_and_changes_follow() {
    let server = Scripted::start([
        list(&[pod("a", "1")], "2", "more"),
        list(&[pod("b", "2")], "2", ""),
        Step::Watch(vec![event("ADDED", pod("c", "3")), event("DELETED", pod("a", "4"))]),
    ])
    .await;
    let mut watch = watch(&server).await;
    assert_eq!(take(&mut watch, 5).await, ["+a", "+b", "=a,b", "+c", "-a"]);
    let requests = server.requests();
    assert!(requests[1].contains("continue=more"), "{requests:?}");
    assert!(requests[2].contains("resourceVersion=2"), "{requests:?}");
}

async fn streamed(server: &Scripted) -> RawWatch {
    let client = server.client().await;
    client.watch_streamed(&portolan_cluster::resource_of(Kind::Pod), &Selectors::default())
}

/// What ends a streamed list.
fn end_of_list(resource_version: &str) -> serde_json::Value {
    let metadata = serde_json::json!({
        "resourceVersion": resource_version,
        "annotations": {"k8s.io/initial-events-end": "true"},
    });
    let pod = serde_json::json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata});
    event("BOOKMARK", pod)
}

#[tokio::test]
async fn a_streamed_list_is_complete_at_its_bookmark_and_the_watch_goes_on() {
    let server = Scripted::start([Step::Watch(vec![
        event("ADDED", pod("a", "1")),
        event("ADDED", pod("b", "2")),
        end_of_list("2"),
        event("DELETED", pod("a", "3")),
    ])])
    .await;
    let mut watch = streamed(&server).await;
    assert_eq!(take(&mut watch, 4).await, ["+a", "+b", "=a,b", "-a"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains("sendInitialEvents=true"), "{requests:?}");
}

#[tokio::test]
async fn a_streamed_list_that_breaks_off_begins_anew() {
    let server = Scripted::start([
        Step::WatchAndEnd(vec![event("ADDED", pod("a", "1"))]),
        Step::Watch(vec![event("ADDED", pod("b", "2")), end_of_list("2")]),
    ])
    .await;
    let mut watch = streamed(&server).await;
    assert_eq!(take(&mut watch, 3).await, ["+a", "+b", "=b"], "what came before does not count");
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_asked_for_pages() {
    for code in [400, 422] {
        let server = Scripted::start([
            failure(code, "Invalid"),
            list(&[pod("a", "1")], "2", "more"),
            list(&[pod("b", "2")], "2", ""),
            Step::Watch(vec![event("ADDED", pod("c", "3"))]),
        ])
        .await;
        let mut watch = streamed(&server).await;
        assert_eq!(take(&mut watch, 4).await, ["+a", "+b", "=a,b", "+c"]);
    }
}

#[tokio::test]
async fn a_missing_resource_counts_as_empty_when_it_is_streamed_too() {
    let server = Scripted::start([failure(404, "NotFound")]).await;
    let mut watch = streamed(&server).await;
    assert_eq!(take(&mut watch, 1).await, ["="]);
}

#[tokio::test]
async fn items_of_a_list_know_their_kind() {
    let server = Scripted::start([list(&[pod("a", "1")], "1", "")]).await;
    let mut watch = watch(&server).await;
    let RawEvent::Apply(object) = next(&mut watch).await else { panic!("an object comes first") };
    assert_eq!(object["kind"], "Pod");
    assert_eq!(object["apiVersion"], "v1");
}

#[tokio::test]
async fn an_expired_watch_is_listed_again_and_tells_what_is_gone() {
    let gone = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version",
    });
    let server = Scripted::start([
        list(&[pod("a", "1"), pod("b", "1")], "1", ""),
        Step::WatchAndEnd(vec![event("ERROR", gone)]),
        list(&[pod("b", "1")], "9", ""),
    ])
    .await;
    let mut watch = watch(&server).await;
    assert_eq!(take(&mut watch, 3).await, ["+a", "+b", "=a,b"]);
    assert_eq!(take(&mut watch, 2).await, ["+b", "=b"]);
    assert_eq!(pods(&["b"]).len(), 1);
}

#[tokio::test]
async fn a_server_that_vanishes_takes_nothing_with_it() {
    let server = Scripted::start([
        list(&[pod("a", "1")], "1", ""),
        Step::Watch(vec![event("ADDED", pod("b", "2"))]),
    ])
    .await;
    let address = server.address;
    let mut watch = watch(&server).await;
    assert_eq!(take(&mut watch, 3).await, ["+a", "=a", "+b"]);
    drop(server);
    let silence = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert_eq!(silence.ok(), None, "nothing is said while the server is away");
    let server =
        Scripted::start_at(address, [Step::Watch(vec![event("ADDED", pod("c", "3"))])]).await;
    assert_eq!(take(&mut watch, 1).await, ["+c"]);
    let requests = server.requests();
    assert!(requests[0].contains("resourceVersion=2"), "it goes on where it was: {requests:?}");
}

#[tokio::test]
async fn a_resource_that_the_server_does_not_have_counts_as_empty() {
    let server = Scripted::start([failure(404, "NotFound")]).await;
    let mut watch = watch(&server).await;
    assert_eq!(take(&mut watch, 1).await, ["="]);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again() {
    let server = Scripted::start([
        failure(500, "InternalError"),
        failure(403, "Forbidden"),
        list(&[pod("a", "1")], "1", ""),
    ])
    .await;
    let mut watch = watch(&server).await;
    assert_eq!(take(&mut watch, 2).await, ["+a", "=a"]);
}
