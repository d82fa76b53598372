//! Damaged requests over HTTPS: each is answered or its connection closed, soon, and the server
//! goes on.
//!
//! `PORTOLAN_FUZZ_ROUNDS=100000 cargo nextest run --release -p portolan-apiserver fuzz` for long.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::fuzz::{self, Attempt, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{TestServer, whole};

/// MiB.
const MOST_MEMORY: u64 = 768;
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn any_request_is_answered() {
    let server = TestServer::start().await;
    fill(&server).await;
    for mut random in fuzz::rounds(300) {
        let (method, path) = (*random.one_of(&METHODS), path(&mut random));
        let body = body(&mut random);
        let mut headers = vec![("authorization", "Bearer T")];
        headers.extend((0..random.below(4)).map(|_| *random.one_of(&HEADERS)));
        let input = format!("{method} {path} {headers:?} {}", String::from_utf8_lossy(&body));
        let _attempt = Attempt::on(&input);
        let Ok(uri) = path.parse::<http::Uri>() else { continue };
        let answer = async {
            let response = server.send(method, &uri.to_string(), &headers, body).await;
            if uri.to_string().contains("watch") && response.status() == 200 {
                // Goes on, maybe without end.
                let code = response.status();
                let mut body = response.into_body();
                drop(tokio::time::timeout(Duration::ZERO, body.frame()).await);
                return (code, String::new());
            }
            let (code, _, body) = whole(response).await;
            (code, String::from_utf8_lossy(&body).into_owned())
        };
        let answer = tokio::time::timeout(SOON, answer).await;
        let (code, text) = answer.unwrap_or_else(|_| panic!("no answer to {input}"));
        let is_known = UPSTREAM_500.iter().any(|known| text.contains(known));
        assert!(code != 500 || is_known, "{code} {text}\nto {input}");
    }
    assert!(server.ask("GET", "/readyz", &[], "").await.0.is_success());
    assert!(fuzz::most_memory() < MOST_MEMORY, "{}", fuzz::most_memory());
    server.stop().await;
}

#[tokio::test]
async fn any_bytes_on_a_connection_are_survived() {
    let server = TestServer::start_with(|config| {
        config.limits.head = Duration::from_millis(200);
    })
    .await;
    fill(&server).await;
    for mut random in fuzz::rounds(60) {
        let (protocol, mut bytes) = match random.below(3) {
            0 => (&b"h2"[..], HTTP2.concat()),
            _ => (&b"http/1.1"[..], http1(&mut random)),
        };
        fuzz::damage_bytes(&mut bytes, &mut random);
        let input = String::from_utf8_lossy(&bytes).into_owned();
        let _attempt = Attempt::on(&input);
        let mut stream = server.raw(protocol).await;
        // The server may close whenever it likes.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        // A watch goes on for as long as it was asked for when its client has sent more than the
        // request: that it has ended would be read behind that.
        let is_watch = input.contains("watch") && answer.starts_with(b"HTTP/1.1 200");
        assert!(read.is_ok() || is_watch, "left open: {input:?}");
    }
    assert!(server.ask("GET", "/readyz", &[], "").await.0.is_success());
    assert!(fuzz::most_memory() < MOST_MEMORY);
    server.stop().await;
}

#[tokio::test]
async fn thousands_of_parameters_and_long_selectors_are_answered() {
    let server = TestServer::start().await;
    fill(&server).await;
    let base = "/api/v1/namespaces/default/services?";
    for query in [
        "limit=1&".repeat(6000),
        format!("labelSelector={}", "a=b,".repeat(9000)),
        format!("labelSelector=a+in+({})", "v,".repeat(20_000)),
        format!("labelSelector={}", "(".repeat(50_000)),
        format!("labelSelector={}", "!".repeat(50_000)),
        format!("fieldSelector={}", "metadata.name!=x,".repeat(3000)),
        format!("fieldSelector={}", "%5C".repeat(15_000)),
        format!("continue={}", "A".repeat(60_000)),
        format!("resourceVersion={}", "9".repeat(60_000)),
        format!("timeout={}", "1ns".repeat(20_000)),
    ] {
        let input = &query[..40];
        let _attempt = Attempt::on(&input);
        let (code, ..) = server.ask("GET", &format!("{base}{query}"), &[], "").await;
        assert!(code.as_u16() < 500, "{code} to {input}");
    }
    server.stop().await;
}

/// Something for reads to find and writes to change.
async fn fill(server: &TestServer) {
    for (path, body) in [
        (
            "/api/v1/namespaces/default/services",
            json!({
                "metadata": { "name": "s", "labels": { "app": "a" } },
                "spec": { "type": "NodePort", "ports": [{ "port": 80 }] },
            }),
        ),
        (
            "/api/v1/namespaces/default/configmaps",
            json!({
                "metadata": { "name": "c" }, "data": { "a": "b" },
            }),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({
                "metadata": { "name": "e" }, "addressType": "IPv4",
                "endpoints": [{ "addresses": ["10.244.0.1"] }],
            }),
        ),
    ] {
        let (code, answer) = server.json("POST", path, &body).await;
        assert_eq!(code, 201, "{answer}");
    }
}

fn path(random: &mut Random) -> String {
    let mut path = (*random.one_of(&PATHS)).to_owned();
    if random.once_in(6) {
        let mut bytes = path.into_bytes();
        fuzz::damage_bytes(&mut bytes, random);
        path = String::from_utf8_lossy(&bytes).into_owned();
        path = path.replace(|char: char| !char.is_ascii_graphic(), "%");
    }
    let pairs: Vec<String> = (0..random.below(4))
        .map(|_| {
            let value = match random.below(3) {
                0 => encode(&fuzz::text(random)),
                _ => (*random.one_of(&VALUES)).to_owned(),
            };
            format!("{}={value}", random.one_of(&PARAMETERS))
        })
        .collect();
    // Watches end by themselves, most of the time.
    let watch = if random.once_in(5) { "&watch=1&timeoutSeconds=1" } else { "" };
    format!("{path}?{}{watch}", pairs.join("&"))
}

fn body(random: &mut Random) -> Vec<u8> {
    let objects: Vec<Value> =
        BODIES.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let mut object = random.one_of(&objects).clone();
    if !random.once_in(4) {
        fuzz::damage(&mut object, &objects, random);
    }
    let mut body = object.to_string().into_bytes();
    if random.once_in(4) {
        fuzz::damage_bytes(&mut body, random);
    }
    body
}

fn http1(random: &mut Random) -> Vec<u8> {
    let body = body(random);
    let mut head = format!("{} {} HTTP/1.1\r\nHost: x\r\n", random.one_of(&METHODS), path(random));
    for _ in 0..random.below(6) {
        let (name, value) = random.one_of(&HEADERS);
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Authorization: Bearer T\r\nConnection: close\r\n");
    let framing = match random.below(3) {
        0 => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
        1 => "Content-Length: 99999999999999999999\r\n\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n\r\n", body.len()),
    };
    [head.into_bytes(), framing.into_bytes(), body].concat()
}

fn encode(text: &str) -> String {
    text.bytes().take(2000).map(|byte| format!("%{byte:02x}")).collect()
}

const METHODS: [&str; 9] =
    ["GET", "GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const PATHS: [&str; 27] = [
    "/",
    "/api",
    "/apis",
    "/api/v1",
    "/apis/discovery.k8s.io",
    "/openapi/v3",
    "/openapi/v3/api/v1",
    "/version",
    "/readyz/ping",
    "/metrics",
    "/api/v1/services",
    "/api/v1/watch/services",
    "/api/v1/namespaces",
    "/api/v1/namespaces/default",
    "/api/v1/namespaces/default/finalize",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/services/s",
    "/api/v1/namespaces/default/services/s/status",
    "/api/v1/namespaces/default/services/s/proxy/a",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/c",
    "/api/v1/namespaces/default/pods/p/log",
    "/api/v1/namespaces/default/serviceaccounts/default/token",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "/apis/networking.k8s.io/v1/ipaddresses",
    "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
];
const PARAMETERS: [&str; 19] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "propagationPolicy",
    "pretty",
    "timeout",
    "includeObject",
    "%zz",
];
const VALUES: [&str; 16] = [
    "a",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "All",
    "Strict",
    "Exact",
    "NotOlderThan",
    "app=a",
    "app+in+(a,b)",
    "metadata.name=s",
    "spec.type!=NodePort",
    "Foreground",
    "100ms",
];
const HEADERS: [(&str, &str); 16] = [
    ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
    ("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    ("accept", "application/vnd.kubernetes.protobuf"),
    ("accept", "application/yaml"),
    ("accept", ";;;=,*/*;q=x"),
    ("accept-encoding", "gzip"),
    ("content-type", "application/json"),
    ("content-type", "application/yaml"),
    ("content-type", "application/vnd.kubernetes.protobuf"),
    ("content-type", "application/apply-patch+yaml"),
    ("content-type", "application/json-patch+json"),
    ("content-type", "application/merge-patch+json"),
    ("content-type", "application/strategic-merge-patch+json"),
    ("user-agent", "curl/8"),
    ("impersonate-user", "system:serviceaccount:default:default"),
    ("if-none-match", "\""),
];
const BODIES: [&str; 8] = [
    r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"LoadBalancer","selector":{"app":"a"},"externalTrafficPolicy":"Local","ports":[{"name":"a","port":80,"nodePort":30010},{"name":"b","port":81,"targetPort":"http"}]}}"#,
    r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"t","finalizers":["a/b"],"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{}}}}}}]},"spec":{"type":"ExternalName","externalName":"a.b"}}"#,
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","labels":{"a":"b"}},"data":{"a":"b"},"binaryData":{"c":"AA=="}}"#,
    r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"e"},"addressType":"IPv4","endpoints":[{"addresses":["10.1.2.3"],"conditions":{"ready":true},"hints":{"forZones":[{"name":"z"}]}}],"ports":[{"port":80}]}"#,
    r#"{"apiVersion":"networking.k8s.io/v1","kind":"IPAddress","metadata":{"name":"10.96.0.99"},"spec":{"parentRef":{"resource":"services","namespace":"default","name":"s"}}}"#,
    r#"{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"propagationPolicy":"Orphan","preconditions":{"uid":"x","resourceVersion":"1"}}"#,
    r#"[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"copy","from":"/spec","path":"/metadata/annotations"},{"op":"test","path":"/spec/type","value":null}]"#,
    r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"services"}}}"#,
];
/// A preface, SETTINGS, and a HEADERS frame with a compressed head.
const HTTP2: [&[u8]; 3] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01x\x44\x02/a\x86\x82",
];
/// What the real server answers with 500, too: errors that it never gave a type.
const UPSTREAM_500: [&str; 11] = [
    "resourceVersion: Invalid value",
    "resourceVersion should not be set",
    "unknown patch type",
    "doesn't match $setElementOrder",
    "merging lists cannot yet",
    "list element types are not identical",
    "does not contain declared merge key",
    "range is full",
    "failed to allocate",
    "duplicate nodePort",
    "unable to parse requirement",
];
