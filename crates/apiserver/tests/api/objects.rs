//! Objects over HTTPS: written, read in every shape, watched, and there after a restart.

use crate::harness::{Lines, TestServer};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "a": "1" },
    })
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = TestServer::start().await;
    let one = format!("{CONFIG_MAPS}/c");
    let (code, created) = server.json("POST", CONFIG_MAPS, &config_map("c")).await;
    assert_eq!((code.as_u16(), &created["kind"]), (201, &json!("ConfigMap")), "{created}");
    let (code, patched) = server.json("PATCH", &one, &json!({ "data": { "b": "2" } })).await;
    assert_eq!((code.as_u16(), &patched["data"]), (200, &json!({ "a": "1", "b": "2" })));
    let (code, read) = server.json("GET", &one, &Value::Null).await;
    assert_eq!((code.as_u16(), &read), (200, &patched));
    assert_eq!(server.json("DELETE", &one, &Value::Null).await.0, 200);
    let (code, gone) = server.json("GET", &one, &Value::Null).await;
    assert_eq!((code.as_u16(), gone["reason"].as_str()), (404, Some("NotFound")));
    server.stop().await;
}

#[tokio::test]
async fn a_list_comes_as_objects_table_metadata_yaml_and_protobuf() {
    let server = TestServer::start().await;
    server.json("POST", CONFIG_MAPS, &config_map("c")).await;
    let path = format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc");
    let (_, list) = server.json("GET", &path, &Value::Null).await;
    assert_eq!((&list["kind"], list["items"][0].get("kind")), (&json!("ConfigMapList"), None));
    let get = |accept| {
        let (server, path) = (&server, &path);
        async move { server.ask("GET", path, &[("accept", accept)], "").await }
    };
    let (_, _, table) = get(TABLE).await;
    let table: Value = serde_json::from_slice(&table).unwrap();
    assert_eq!(table["rows"][0]["cells"][0], "c");
    let (_, _, metadata) =
        get("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["items"][0]["metadata"]["name"], "c");
    let (_, headers, yaml) = get("application/yaml").await;
    assert_eq!(headers["content-type"], "application/yaml");
    assert!(String::from_utf8_lossy(&yaml).contains("kind: ConfigMapList"));
    let (code, _, protobuf) = get("application/vnd.kubernetes.protobuf").await;
    assert_eq!((code.as_u16(), protobuf.get(..4)), (200, Some(&b"k8s\0"[..])));
    server.stop().await;
}

#[tokio::test]
async fn a_watch_shows_changes_and_ends_with_the_server() {
    let server = TestServer::start().await;
    let (_, list) = server.json("GET", CONFIG_MAPS, &Value::Null).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}");
    let token = [("authorization", "Bearer T")];
    let mut plain = Lines::of(server.send("GET", &path, &token, "").await);
    let table = [("authorization", "Bearer T"), ("accept", TABLE)];
    let mut table = Lines::of(server.send("GET", &path, &table, "").await);
    server.json("POST", CONFIG_MAPS, &config_map("c")).await;
    server.json("DELETE", &format!("{CONFIG_MAPS}/c"), &Value::Null).await;
    let added = plain.next().await.unwrap();
    assert_eq!((&added["type"], &added["object"]["kind"]), (&json!("ADDED"), &json!("ConfigMap")));
    assert_eq!(plain.next().await.unwrap()["type"], "DELETED");
    let first = table.next().await.unwrap();
    assert_eq!(first["object"]["rows"][0]["cells"][0], "c");
    assert!(first["object"]["columnDefinitions"].is_array());
    assert!(table.next().await.unwrap()["object"]["columnDefinitions"].is_null());
    server.stop().await;
    assert_eq!((plain.next().await, table.next().await), (None, None));
}

#[tokio::test]
async fn many_watches_see_one_change() {
    let server = TestServer::start().await;
    let (_, list) = server.json("GET", CONFIG_MAPS, &Value::Null).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}");
    let mut watches = Vec::new();
    for _ in 0..50 {
        let response = server.send("GET", &path, &[("authorization", "Bearer T")], "").await;
        watches.push(Lines::of(response));
    }
    server.json("POST", CONFIG_MAPS, &config_map("c")).await;
    for watch in &mut watches {
        assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "c");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_of_a_service_account_dies_with_it() {
    let server = TestServer::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" },
    });
    server.json("POST", accounts, &account).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 600 },
    });
    let (code, answer) = server.json("POST", &format!("{accounts}/robot/token"), &request).await;
    assert_eq!(code, 201, "{answer}");
    let token = format!("Bearer {}", answer["status"]["token"].as_str().unwrap());
    let headers = [("authorization", token.as_str())];
    let get = || server.send("GET", "/api", &headers, "");
    assert_eq!(get().await.status(), 200);
    server.json("DELETE", &format!("{accounts}/robot"), &Value::Null).await;
    assert_eq!(get().await.status(), 401);
    server.stop().await;
}

#[tokio::test]
async fn warnings_come_as_headers() {
    let server = TestServer::start().await;
    let mut object = config_map("c");
    object["bogus"] = json!(1);
    let json = [("content-type", "application/json")];
    let (code, headers, _) = server.ask("POST", CONFIG_MAPS, &json, object.to_string()).await;
    assert_eq!(code, 201);
    assert_eq!(headers["warning"], "299 - \"unknown field \\\"bogus\\\"\"");
    server.stop().await;
}
