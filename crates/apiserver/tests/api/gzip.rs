//! Compressed answers (L1).

use std::io::Read;

use serde_json::{Value, json};

use crate::harness::{Lines, TestServer};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ASKED: [(&str, &str); 1] = [("accept-encoding", "gzip")];

async fn server_with(size: usize) -> TestServer {
    let server = TestServer::start().await;
    let body = json!({ "metadata": { "name": "c" }, "data": { "a": "x".repeat(size) } });
    assert_eq!(server.json("POST", CONFIG_MAPS, &body).await.0, 201);
    server
}

#[tokio::test]
async fn what_is_large_is_compressed_for_those_who_ask() {
    let server = server_with(150_000).await;
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}/c")] {
        for accept in
            ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        {
            let plain = [("accept", accept)];
            let (_, headers, expected) = server.ask("GET", &path, &plain, "").await;
            assert!(!headers.contains_key("content-encoding"));
            let asked = [("accept", accept), ASKED[0]];
            let (_, headers, body) = server.ask("GET", &path, &asked, "").await;
            assert_eq!(headers["content-encoding"], "gzip", "{path} {accept}");
            assert_eq!(headers["vary"], "Accept-Encoding");
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut text).unwrap();
            // Lists tell the server's resourceVersion, which goes on by itself.
            let is_same = if path == CONFIG_MAPS { text.len() > 150_000 } else { text == expected };
            assert!(body.len() < 10_000 && is_same, "{path} {accept}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_small_is_not_compressed() {
    let server = server_with(100_000).await;
    let (_, headers, body) = server.ask("GET", CONFIG_MAPS, &ASKED, "").await;
    assert!(!headers.contains_key("content-encoding") && body.len() > 100_000);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_is_never_compressed() {
    let server = server_with(200_000).await;
    let path = format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name=c");
    let headers = [("authorization", "Bearer T"), ASKED[0]];
    let response = server.send("GET", &path, &headers, "").await;
    assert!(!response.headers().contains_key("content-encoding"));
    let event: Value = Lines::of(response).next().await.unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "c");
    server.stop().await;
}
