use futures::StreamExt;
use portolan_apiserver::api::{Options, Verb, WatchEvent};
use serde_json::{Value, json};

use crate::support::{World, request};

async fn config_maps(world: &World, names: &[&str]) {
    world.create("namespaces", json!({ "metadata": { "name": "n" } })).await.unwrap();
    for name in names {
        let body = json!({ "metadata": { "name": name, "labels": { "l": name } } });
        world.create("configmaps/n", body).await.unwrap();
    }
    world.until("configmaps/n/kube-root-ca.crt", |_| true).await;
}

#[tokio::test]
async fn pages_show_one_state() {
    let world = World::new().await;
    config_maps(&world, &["a", "b", "c"]).await;
    let options = Options { limit: Some(2), ..Options::default() };
    let first = world.list("configmaps/n", options.clone()).await.unwrap();
    assert_eq!(first["names"], json!(["a", "b"]));
    assert_eq!(first["remaining"], 2);
    world.delete("configmaps/n/c", Value::Null).await.unwrap();
    let continue_token = first["continue"].as_str().unwrap().to_owned();
    let second = world.list("configmaps/n", Options { continue_token, ..options }).await.unwrap();
    assert_eq!(second["names"], json!(["c", "kube-root-ca.crt"]));
    assert_eq!(second["resourceVersion"], first["resourceVersion"]);
    assert_eq!(second["continue"], Value::Null);
}

#[tokio::test]
async fn selectors_select() {
    let world = World::new().await;
    config_maps(&world, &["a", "b"]).await;
    let list = async |label: &str, field: &str| {
        let options = Options {
            label_selector: label.to_owned(),
            field_selector: field.to_owned(),
            ..Options::default()
        };
        world.list("configmaps", options).await
    };
    assert_eq!(list("l in (a,x)", "").await.unwrap()["names"], json!(["a"]));
    assert_eq!(list("l", "metadata.name!=a").await.unwrap()["names"], json!(["b"]));
    let failure = list("", "spec.type=x").await.unwrap_err();
    let text = "\"spec.type\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!((failure.code, failure.message.as_str()), (400, text));
}

#[tokio::test]
async fn bad_options_are_refused_as_upstream_does() {
    let world = World::new().await;
    let list = async |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        world.list("configmaps/default", options).await.unwrap_err()
    };
    assert_eq!(list(|o| o.resource_version = "x".into()).await.code, 400);
    assert_eq!(list(|o| o.resource_version = "999999".into()).await.code, 504);
    assert_eq!(list(|o| o.resource_version_match = "Exact".into()).await.code, 422);
    let failure = list(|o| o.continue_token = "garbage".into()).await;
    assert!(failure.message.starts_with("invalid continue token"), "{}", failure.message);
}

#[tokio::test]
async fn every_bad_option_of_a_list_is_named() {
    let world = World::new().await;
    let options = Options {
        resource_version_match: "Foo".to_owned(),
        continue_token: "garbage".to_owned(),
        send_initial_events: Some(false),
        ..Options::default()
    };
    let failure = world.list("configmaps/default", options).await.unwrap_err();
    let causes = failure.details["causes"].as_array().unwrap();
    let causes: Vec<_> = causes.iter().map(|cause| (&cause["field"], &cause["reason"])).collect();
    let (matching, initial) = (json!("resourceVersionMatch"), json!("sendInitialEvents"));
    let [forbidden, unknown] = ["FieldValueForbidden", "FieldValueNotSupported"].map(|r| json!(r));
    assert_eq!(
        causes,
        [
            (&matching, &forbidden),
            (&matching, &forbidden),
            (&matching, &unknown),
            (&initial, &forbidden),
        ]
    );
}

#[tokio::test]
async fn a_deletion_of_many_has_the_options_of_a_list() {
    let world = World::new().await;
    config_maps(&world, &["a"]).await;
    let mut request = request(Verb::DeleteCollection, "configmaps/n");
    request.options.resource_version_match = "Exact".to_owned();
    assert_eq!(world.call(request).await.unwrap_err().code, 422);
    assert!(world.get("configmaps/n/a").await.is_ok());
}

#[tokio::test]
async fn a_list_can_go_on_with_what_is_there_now() {
    use base64::Engine;
    let world = World::new().await;
    config_maps(&world, &["a", "b"]).await;
    let after_a = |version: i64| {
        let token = json!({ "v": "meta.k8s.io/v1", "rv": version, "start": "n/a" });
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
    };
    let go_on = async |continue_token: String| {
        world.list("configmaps/n", Options { continue_token, ..Options::default() }).await
    };
    let rest = go_on(after_a(-1)).await.unwrap();
    assert_eq!(rest["names"], json!(["b", "kube-root-ca.crt"]));
    let failure = go_on(after_a(0)).await.unwrap_err();
    assert!(failure.message.ends_with("(version meta.k8s.io/v1)"), "{}", failure.message);
}

#[tokio::test]
async fn a_watch_list_ends_its_start_with_a_bookmark() {
    let world = World::new().await;
    config_maps(&world, &["a"]).await;
    let options = Options {
        send_initial_events: Some(true),
        resource_version_match: "NotOlderThan".to_owned(),
        allow_bookmarks: true,
        label_selector: "l".to_owned(),
        ..Options::default()
    };
    let mut stream = world.watch("configmaps/n", options).await;
    assert!(matches!(stream.next().await, Some(WatchEvent::Added(_))));
    let Some(WatchEvent::Bookmark { initial_events_end: true, .. }) = stream.next().await else {
        panic!("no bookmark")
    };
    world.merge("configmaps/n/a", json!({ "data": { "k": "v" } })).await.unwrap();
    let Some(WatchEvent::Modified(changed)) = stream.next().await else { panic!("no MODIFIED") };
    assert_eq!(changed.value()["data"]["k"], "v");
}

#[tokio::test]
async fn stored_text_begins_with_its_type() {
    let world = World::new().await;
    config_maps(&world, &["a"]).await;
    let row = wire::kinds::find("", "v1", "configmaps").unwrap();
    let stored = world.registry.get(row, "n", "a").unwrap();
    assert!(stored.json.starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"#));
    assert!(stored.item_tail(&row.into()).starts_with(br#""metadata":{"#));
}
