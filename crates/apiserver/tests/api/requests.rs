//! What a client meets before any object: users, methods, media types, limits, discovery.

use crate::harness::{TestServer, whole};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn nobody_is_answered_without_credentials() {
    let server = TestServer::start_with(|config| config.anonymous_auth = false).await;
    for path in ["/api", "/healthz", CONFIG_MAPS, "/metrics", "/nope"] {
        let response = server.send("GET", path, &[], "").await;
        let (code, _, body) = whole(response).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((code.as_u16(), body["reason"].as_str()), (401, Some("Unauthorized")), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_anonymous_user_sees_health_and_version_only() {
    let server = TestServer::start().await;
    for (path, expected) in
        [("/healthz", 200), ("/readyz", 200), ("/version", 200), ("/api", 403), (CONFIG_MAPS, 403)]
    {
        assert_eq!(server.send("GET", path, &[], "").await.status(), expected, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn certificates_and_tokens_name_users_and_wrong_ones_nobody() {
    let server = TestServer::start().await;
    let admin = server.pki.admin().unwrap();
    let request = http::Request::get("/api").header("host", "x").body(Default::default()).unwrap();
    let answer = server.connect(Some(&admin)).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    for (token, expected) in [("Bearer T", 200), ("bearer U", 200), ("Bearer X", 401)] {
        let answer = server.send("GET", "/api", &[("authorization", token)], "").await;
        assert_eq!(answer.status(), expected, "{token}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_nobody_s() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let stranger = portolan_apiserver::tls::Pki::open(folder.path()).unwrap();
    let stranger = stranger.admin().unwrap();
    let mut sender = server.connect(Some(&stranger)).await;
    // Not even what everybody may see; a good token beside it counts, though.
    for (token, expected) in [(None, 401), (Some("Bearer X"), 401), (Some("Bearer T"), 200)] {
        let mut request = http::Request::get("/version").header("host", "x");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = sender.send_request(request.body(Default::default()).unwrap()).await.unwrap();
        let (code, ..) = whole(answer).await;
        assert_eq!(code, expected, "{token:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_told_apart() {
    let server = TestServer::start().await;
    for (method, path, expected) in [
        ("GET", "/nope", 404),
        ("GET", "/api/v1/gadgets", 404),
        ("GET", "/apis/example.com/v1", 404),
        ("POST", "/api/v1/services", 405),
        ("POST", "/api/v1", 405),
        ("DELETE", "/version", 405),
        ("OPTIONS", CONFIG_MAPS, 405),
        ("GET", "/%zz", 400),
    ] {
        let (code, ..) = server.ask(method, path, &[], "").await;
        assert_eq!(code, expected, "{method} {path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn media_types_are_negotiated_or_refused() {
    let server = TestServer::start().await;
    let (code, _, body) = server.ask("GET", CONFIG_MAPS, &[("accept", "text/html")], "").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code.as_u16(), body["reason"].as_str()), (406, Some("NotAcceptable")));
    let text = [("content-type", "text/plain")];
    assert_eq!(server.ask("POST", CONFIG_MAPS, &text, "{}").await.0, 415);
    let json = [("content-type", "application/json")];
    assert_eq!(server.ask("PATCH", &format!("{CONFIG_MAPS}/c"), &json, "{}").await.0, 415);
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_refused() {
    let server = TestServer::start().await;
    let body = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(3 * 1024 * 1024));
    let (code, _, answer) = server.ask("POST", CONFIG_MAPS, &[], body).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(code, 413);
    assert_eq!(answer["message"], "Request entity too large: limit is 3145728");
    server.stop().await;
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let server = TestServer::start().await;
    let (code, answer) = server.json("GET", &format!("{CONFIG_MAPS}?limit=x"), &Value::Null).await;
    assert_eq!(code, 400);
    assert_eq!(answer["message"], "strconv.ParseInt: parsing \"x\": invalid syntax");
    let path = format!("{CONFIG_MAPS}?fieldValidation=Maybe");
    let (code, answer) = server.json("POST", &path, &json!({})).await;
    assert_eq!((code.as_u16(), answer["reason"].as_str()), (422, Some("Invalid")));
    server.stop().await;
}

#[tokio::test]
async fn discovery_names_what_is_served() {
    let server = TestServer::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (code, headers, body) = server.ask("GET", "/apis", &[("accept", accept)], "").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code.as_u16(), headers["content-type"].as_bytes()), (200, accept.as_bytes()));
    let groups: Vec<&str> = body["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|group| group["metadata"]["name"].as_str())
        .collect();
    assert!(groups.contains(&"discovery.k8s.io"), "{groups:?}");
    let etag = headers["etag"].to_str().unwrap();
    let known = [("accept", accept), ("if-none-match", etag)];
    assert_eq!(server.ask("GET", "/apis", &known, "").await.0, 304);
    let (_, list) = server.json("GET", "/api/v1", &Value::Null).await;
    assert_eq!(list["kind"], "APIResourceList");
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_requests() {
    let server = TestServer::start().await;
    server.ask("GET", CONFIG_MAPS, &[], "").await;
    let (_, _, page) = server.ask("GET", "/metrics", &[], "").await;
    let page = String::from_utf8_lossy(&page);
    let line = "verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\"";
    assert!(page.contains(line), "{page}");
    server.stop().await;
}

#[tokio::test]
async fn every_answer_has_the_audit_id_that_was_sent() {
    let server = TestServer::start().await;
    let (_, headers, _) = server.ask("GET", "/api", &[("audit-id", "mine")], "").await;
    assert_eq!(headers["audit-id"], "mine");
    let (_, headers, _) = server.ask("GET", "/api", &[], "").await;
    assert_eq!(headers["audit-id"].len(), 36);
    server.stop().await;
}

#[tokio::test]
async fn listeners_of_the_parent_serve_alone_or_beside_the_own_one() {
    let server = TestServer::start_with(|config| {
        config.inherited = vec![std::net::TcpListener::bind("127.0.0.1:0").unwrap()];
        config.bind_address = None;
    })
    .await;
    assert_eq!(server.ask("GET", "/api", &[], "").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let server = TestServer::start().await;
    let mut config = portolan_apiserver::tls::client_config(server.pki.ca_pem(), None).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(server.address.ip().into(), stream)
        .await
        .unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let answers = (0..100).map(|_| {
        let request = http::Request::get(format!("{}/api/v1", server.url()))
            .header("authorization", "Bearer T")
            .body(http_body_util::Full::<bytes::Bytes>::default())
            .unwrap();
        sender.clone().send_request(request)
    });
    for answer in futures::future::join_all(answers).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = portolan_apiserver::config::ApiserverConfig::new(folder.path());
    config.secure_port = server.address.port();
    let error = portolan_apiserver::run::run(config, async {}, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_tell_how_full_the_pools_are() {
    // A23.
    let server = TestServer::start().await;
    let path = "/api/v1/namespaces/default/services";
    let of = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30100 }] });
    assert_eq!(server.json("POST", path, &of("a", spec.clone())).await.0, 201);
    assert_eq!(server.json("POST", path, &of("b", spec)).await.0, 422);
    let spec = json!({ "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] });
    assert_eq!(server.json("POST", path, &of("c", spec)).await.0, 422);
    let (_, _, page) = server.ask("GET", "/metrics", &[], "").await;
    let page = String::from_utf8(page.to_vec()).unwrap();
    let cidr = "cidr=\"10.96.0.0/16\"";
    for line in [
        format!("kube_apiserver_clusterip_allocator_allocated_ips{{{cidr}}} 2"),
        format!("kube_apiserver_clusterip_allocator_available_ips{{{cidr}}} 65532"),
        format!(
            "kube_apiserver_clusterip_allocator_allocation_errors_total{{{cidr},scope=\"static\"}} 1"
        ),
        "kube_apiserver_nodeport_allocator_allocated_ports 1".to_owned(),
        "kube_apiserver_nodeport_allocator_available_ports 2767".to_owned(),
        "kube_apiserver_nodeport_allocator_allocation_total{scope=\"static\"} 1".to_owned(),
        "kube_apiserver_nodeport_allocator_allocation_errors_total{scope=\"static\"} 1".to_owned(),
        "apiserver_resource_objects{group=\"\",resource=\"services\"} 2".to_owned(),
    ] {
        assert!(page.lines().any(|known| known == line), "{line} is not in {page}");
    }
    let count =
        format!("kube_apiserver_clusterip_allocator_allocation_duration_seconds_count{{{cidr}}}");
    assert!(page.contains(&count), "{page}");
}
