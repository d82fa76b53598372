//! Bounds on what clients may use, each from both sides (L2, L3).

use std::time::Duration;

use http::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::{Lines, TestServer, whole};
use portolan_apiserver::config::{ApiserverConfig, AuthorizationMode};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SHORT: Duration = Duration::from_millis(300);
/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn everybody_may(config: &mut ApiserverConfig) {
    config.authorization_mode = vec![AuthorizationMode::AlwaysAllow];
}

fn named(name: &str) -> String {
    json!({ "metadata": { "name": name } }).to_string()
}

/// A POST as user `somebody` of which only a part has been sent.
async fn begun(server: &TestServer, body: &str, query: &str) -> TlsStream<TcpStream> {
    let mut stream = server.raw(b"http/1.1").await;
    let (length, part) = (body.len(), &body[..5]);
    let head = format!(
        "POST {CONFIG_MAPS}{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer U\r\n\
         Content-Length: {length}\r\n\r\n{part}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// What the server sends until it closes the connection.
async fn rest(mut stream: TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    // A connection that is cut off is as good as one that is closed.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut text)).await.expect("it is closed");
    String::from_utf8_lossy(&text).into_owned()
}

/// The head of an answer and what came with it.
async fn first_part(stream: &mut TlsStream<TcpStream>) -> String {
    let mut buffer = vec![0; 65536];
    let count = tokio::time::timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

async fn as_user(
    server: &TestServer,
    method: &str,
    path: &str,
    body: String,
) -> (StatusCode, http::HeaderMap, String) {
    let headers = [("authorization", "Bearer U"), ("content-type", "application/json")];
    let (code, headers, body) = whole(server.send(method, path, &headers, body).await).await;
    (code, headers, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn one_write_too_many_is_refused_and_reads_go_on() {
    let server = TestServer::start_with(|config| {
        everybody_may(config);
        config.limits.mutating_inflight = 1;
    })
    .await;
    let body = named("slow");
    let mut slow = begun(&server, &body, "").await;
    // The slow one is being answered once another is refused.
    let refused = async {
        loop {
            let answer = as_user(&server, "POST", CONFIG_MAPS, "{".to_owned()).await;
            if answer.0 != 400 {
                return answer;
            }
        }
    };
    let (code, headers, text) = tokio::time::timeout(LONG, refused).await.unwrap();
    assert_eq!((code.as_u16(), headers["retry-after"].as_bytes()), (429, &b"1"[..]));
    assert_eq!(text, "Too many requests, please try again later.\n");
    assert_eq!(as_user(&server, "GET", CONFIG_MAPS, String::new()).await.0, 200);
    // An administrator waits for the slow one.
    let admin = server.ask("POST", CONFIG_MAPS, &[], named("admin"));
    let finish = async {
        slow.write_all(&body.as_bytes()[5..]).await.unwrap();
        first_part(&mut slow).await
    };
    let ((code, ..), answer) = tokio::join!(admin, finish);
    assert_eq!(code, 201);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    drop(slow);
    server.stop().await;
}

#[tokio::test]
async fn one_read_too_many_is_refused_and_watches_do_not_count() {
    let server = TestServer::start_with(|config| {
        everybody_may(config);
        config.limits.requests_inflight = 1;
    })
    .await;
    let watch = format!("{CONFIG_MAPS}?watch=1");
    let headers = [("authorization", "Bearer U")];
    let watches = [
        server.send("GET", &watch, &headers, "").await,
        server.send("GET", &watch, &headers, "").await,
    ];
    for watch in &watches {
        assert_eq!(watch.status(), 200);
    }
    assert_eq!(as_user(&server, "GET", CONFIG_MAPS, String::new()).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_times_out() {
    let server = TestServer::start_with(|config| {
        everybody_may(config);
        config.limits.request_timeout = SHORT;
    })
    .await;
    let mut slow = begun(&server, &named("slow"), "").await;
    let answer = first_part(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let message = "Timeout: request did not complete within the allotted timeout";
    assert!(answer.contains(message) && answer.contains("\"reason\":\"Timeout\""), "{answer}");
    // A watch outlives it.
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=600");
    let response = server.send("GET", &path, &[("authorization", "Bearer U")], "").await;
    let mut lines = Lines::of(response);
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(as_user(&server, "POST", CONFIG_MAPS, named("late")).await.0, 201);
    assert_eq!(lines.next().await.unwrap()["object"]["metadata"]["name"], "late");
    server.stop().await;
}

#[tokio::test]
async fn a_client_may_ask_for_less_time() {
    let server = TestServer::start_with(everybody_may).await;
    let mut slow = begun(&server, &named("slow"), "?timeout=100ms").await;
    let answer = first_part(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let path = format!("{CONFIG_MAPS}?timeout=soon");
    let (code, answer) = server.json("GET", &path, &Value::Null).await;
    let message = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
    assert_eq!((code.as_u16(), answer["message"].as_str()), (400, Some(message)));
    server.stop().await;
}

#[tokio::test]
async fn one_watch_too_many_is_refused() {
    let server = TestServer::start_with(|config| config.limits.watches = 2).await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let admin = [("authorization", "Bearer T")];
    let first = server.send("GET", &path, &admin, "").await;
    let second = server.send("GET", &path, &admin, "").await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let (code, headers, body) = whole(server.send("GET", &path, &admin, "").await).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code.as_u16(), headers["retry-after"].as_bytes()), (429, &b"1"[..]));
    assert_eq!(body["reason"], "TooManyRequests");
    drop(first);
    let again = async { while server.send("GET", &path, &admin, "").await.status() != 200 {} };
    tokio::time::timeout(LONG, again).await.expect("an ended watch makes room");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_and_holds_no_memory() {
    let server = TestServer::start_with(|config| config.limits.unacknowledged = SHORT).await;
    let path = format!("{CONFIG_MAPS}?watch=1");
    let unread = server.send("GET", &path, &[("authorization", "Bearer T")], "").await;
    assert_eq!(unread.status(), 200);
    let watches = async || {
        let (_, _, page) = server.ask("GET", "/metrics", &[], "").await;
        String::from_utf8_lossy(&page).contains("apiserver_watches 1\n")
    };
    assert!(watches().await);
    let large = "x".repeat(500_000);
    let write = async {
        let mut number = 0;
        while watches().await {
            number += 1;
            let object = json!({ "metadata": { "name": "c" }, "data": { "a": large } });
            let path = format!("{CONFIG_MAPS}/c?fieldManager=m{}&force=true", number % 2);
            let headers = [("content-type", "application/apply-patch+yaml")];
            let mut object = object;
            object["apiVersion"] = "v1".into();
            object["kind"] = "ConfigMap".into();
            object["data"]["n"] = number.to_string().into();
            let (code, _, body) = server.ask("PATCH", &path, &headers, object.to_string()).await;
            assert!(code.is_success(), "{}", String::from_utf8_lossy(&body));
        }
    };
    tokio::time::timeout(2 * LONG, write).await.expect("the watch is ended");
    drop(unread);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_begin_tls_is_closed() {
    let server = TestServer::start_with(|config| config.limits.handshake = SHORT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[22, 3, 1]).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    read.expect("it is closed").ok();
    assert_eq!(server.ask("GET", "/version", &[], "").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let server = TestServer::start_with(|config| config.limits.head = SHORT).await;
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let silent = server.raw(protocol).await;
        assert!(!rest(silent).await.contains("HTTP/1.1 2"));
        let mut half = server.raw(protocol).await;
        half.write_all(b"GET / HT").await.unwrap();
        assert!(!rest(half).await.contains("HTTP/1.1 2"));
    }
    let mut idle = server.raw(b"http/1.1").await;
    idle.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(rest(idle).await.starts_with("HTTP/1.1 200 "));
    server.stop().await;
}

#[tokio::test]
async fn large_heads_are_refused() {
    let server = TestServer::start().await;
    let long = "x".repeat(200_000);
    let many: String = (0..500).map(|n| format!("X-{n}: y\r\n")).collect();
    for (head, expected) in [
        (format!("GET /version HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /version HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431"),
        (format!("GET /version?{} HTTP/1.1\r\nHost: x\r\n\r\n", &long[..70_000]), "414"),
    ] {
        let mut stream = server.raw(b"http/1.1").await;
        // The server may close before all has been sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = first_part(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{expected}: {answer}");
    }
    let selector = format!("?labelSelector=a+in+({})", vec!["value"; 9000].join(","));
    let path = format!("{CONFIG_MAPS}{selector}");
    assert_eq!(server.ask("GET", &path, &[], "").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_their_connection() {
    let server = TestServer::start().await;
    let stream = server.raw(b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let flood = async {
        while sender.ready().await.is_ok() {
            let request = Request::get(format!("{}/api/v1", server.url()))
                .header("authorization", "Bearer T")
                .body(http_body_util::Full::<bytes::Bytes>::default())
                .unwrap();
            // Dropped before there is an answer: the stream is reset.
            drop(tokio::time::timeout(Duration::ZERO, sender.send_request(request)).await);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(2 * LONG, flood).await.expect("the server has had enough");
    drop(connection);
    assert_eq!(server.ask("GET", "/version", &[], "").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_write_that_is_hung_up_on_keeps_its_node_port() {
    let server = TestServer::start_with(|config| {
        config.service_node_port_range = (30000, 30019);
    })
    .await;
    let services = "/api/v1/namespaces/default/services";
    for number in 0..60 {
        let body = json!({
            "metadata": { "name": format!("s-{number}") },
            "spec": { "type": "NodePort", "ports": [{ "port": 80 }] },
        });
        let body = body.to_string();
        let mut stream = server.raw(b"http/1.1").await;
        let head = format!(
            "POST {services} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer T\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // Sooner and later, so that some are hung up on while the store is writing.
        tokio::time::sleep(Duration::from_millis(number % 20)).await;
        drop(stream);
    }
    // What is under way is stored before this.
    assert_eq!(server.ask("POST", CONFIG_MAPS, &[], named("last")).await.0, 201);
    let (_, list) = server.json("GET", services, &Value::Null).await;
    let mut ports: Vec<u64> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|service| service["spec"]["ports"][0]["nodePort"].as_u64())
        .collect();
    assert!(!ports.is_empty());
    ports.sort_unstable();
    assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}");
    server.stop().await;
}
