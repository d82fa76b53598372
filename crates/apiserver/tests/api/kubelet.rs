//! Log, exec and port-forward, at a stand-in for a kubelet that tells what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::harness::{TestServer, whole};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portolan_apiserver::tls::{Pki, server_config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// Answers logs with the path and query it was asked for; upgrades all else and echoes. Only who
/// shows a client certificate is answered.
async fn kubelet(pki: &Pki) -> SocketAddr {
    let serving = pki.server(&["127.0.0.1".to_owned()]).unwrap();
    let config = server_config(&serving, &[pki.ca_pem()]).unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = tls.accept(stream).await.unwrap();
            let known = stream.get_ref().1.peer_certificates().is_some();
            let service = service_fn(move |request| async move {
                Ok::<_, Infallible>(if known { answer(request) } else { refuse() })
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

fn answer(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let asked = request.uri().to_string();
    if asked.starts_with("/containerLogs/") {
        if asked.contains("previous=true") {
            let text = "previous terminated container \"c\" in pod \"p\" not found";
            return Response::builder().status(400).body(Full::from(text)).unwrap();
        }
        return Response::new(Full::from(format!("{asked}\n")));
    }
    if asked == "/moved" {
        return Response::builder()
            .status(302)
            .header("location", "/a")
            .body(Full::default())
            .unwrap();
    }
    if asked == "/page" {
        let headers = request.headers();
        let known = ["host", "x-forwarded-uri", "x-forwarded-for", "authorization"]
            .map(|name| headers.get(name).map_or("", |value| value.to_str().unwrap()));
        let page = format!("<a href='/x'>{}</a>", known.join(" "));
        return Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("access-control-allow-origin", "*")
            .body(Full::from(page))
            .unwrap();
    }
    let protocol = request.headers()["sec-websocket-protocol"].clone();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        stream.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-protocol", protocol)
        .body(Full::default())
        .unwrap()
}

fn refuse() -> Response<Full<Bytes>> {
    Response::builder().status(401).body(Full::default()).unwrap()
}

/// A server with a pod of one container `c` on a node whose kubelet listens there.
async fn with_pod(on_node: bool) -> TestServer {
    let server = TestServer::start().await;
    let kubelet = kubelet(&server.pki).await;
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } });
    let (code, answer) = server.json("POST", "/api/v1/nodes", &node).await;
    assert_eq!(code, 201, "{answer}");
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": kubelet.ip().to_string() }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet.port() } },
    }});
    let (code, answer) = server.json("PATCH", "/api/v1/nodes/n/status", &status).await;
    assert_eq!(code, 200, "{answer}");
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "example.com/i:1" }] },
    });
    if on_node {
        pod["spec"]["nodeName"] = "n".into();
    }
    let (code, answer) = server.json("POST", "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{answer}");
    server
}

#[tokio::test]
async fn a_log_is_passed_on_with_its_options() {
    let server = with_pod(true).await;
    let path = format!("{POD}/log?follow=true&tailLines=5");
    let (code, headers, body) = server.ask("GET", &path, &[], "").await;
    assert_eq!((code.as_u16(), &headers["content-type"]), (200, &"text/plain".parse().unwrap()));
    assert_eq!(body, "/containerLogs/default/p/c?follow=true&tailLines=5\n");
    server.stop().await;
}

#[tokio::test]
async fn a_kubelet_s_refusal_becomes_a_status() {
    let server = with_pod(true).await;
    let (code, answer) =
        server.json("GET", &format!("{POD}/log?previous=true"), &Value::Null).await;
    assert_eq!((code.as_u16(), answer["reason"].as_str()), (400, Some("BadRequest")));
    assert!(answer["message"].as_str().unwrap().starts_with("previous terminated"));
    let (code, answer) = server.json("GET", &format!("{POD}/log?container=x"), &Value::Null).await;
    assert_eq!(code, 400);
    assert_eq!(answer["message"], "container x is not valid for pod p");
    server.stop().await;
}

#[tokio::test]
async fn bytes_pass_through_an_upgrade_in_both_directions() {
    let server = with_pod(true).await;
    for (path, kubelets) in [
        (
            "exec?command=ls&command=-l&stdout=true",
            "/exec/default/p/c?output=1&command=ls&command=-l",
        ),
        ("portforward", "/portForward/default/p"),
    ] {
        let headers = [
            ("authorization", "Bearer T"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ];
        let mut answer = server.send("GET", &format!("{POD}/{path}"), &headers, "").await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        let mut asked = vec![0; kubelets.len() + 1];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(String::from_utf8(asked).unwrap().trim(), kubelets);
        stream.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_open_stream_does_not_keep_the_server() {
    let server = with_pod(true).await;
    let headers = [
        ("authorization", "Bearer T"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    let answer = server.send("GET", &format!("{POD}/exec?command=sh"), &headers, "").await;
    assert_eq!(answer.status(), 101);
    server.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_node_has_no_log_and_no_shell() {
    let server = with_pod(false).await;
    let (code, _, body) = server.ask("GET", &format!("{POD}/log"), &[], "").await;
    assert_eq!((code.as_u16(), body.len()), (200, 0));
    let (code, answer) = server.json("GET", &format!("{POD}/exec?command=ls"), &Value::Null).await;
    assert_eq!(code, 400);
    assert_eq!(answer["message"], "pod p does not have a host assigned");
    server.stop().await;
}

#[tokio::test]
async fn without_an_upgrade_there_is_no_shell() {
    let server = with_pod(true).await;
    let token = [("authorization", "Bearer T")];
    let response = server.send("GET", &format!("{POD}/exec?command=ls"), &token, "").await;
    let (code, _, body) = whole(response).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code.as_u16(), body["message"].as_str()), (400, Some("Upgrade request required")));
    server.stop().await;
}

#[tokio::test]
async fn a_node_s_proxy_is_its_kubelet() {
    let server = with_pod(true).await;
    let path = "/api/v1/nodes/n/proxy/containerLogs/x%2Fy/z?tail=1";
    let (code, _, body) = server.ask("GET", path, &[], "").await;
    assert_eq!((code.as_u16(), body), (200, "/containerLogs/x%2Fy/z?tail=1\n".into()));
    let (code, headers, _) = server.ask("GET", "/api/v1/nodes/n/proxy", &[], "").await;
    assert_eq!(
        (code.as_u16(), headers["location"].as_bytes()),
        (301, &b"/api/v1/nodes/n/proxy/"[..])
    );
    let (_, headers, _) = server.ask("GET", "/api/v1/nodes/n/proxy?a=b", &[], "").await;
    assert_eq!(headers["location"], "/api/v1/nodes/n/proxy/?a=b");
    let (code, answer) = server.json("GET", "/api/v1/nodes/n:80/proxy/", &Value::Null).await;
    assert_eq!((code.as_u16(), answer["message"].as_str()), (400, Some("address not allowed")));
    server.stop().await;
}

#[tokio::test]
async fn pages_and_redirects_lead_back_through_the_proxy() {
    // S19.
    let server = with_pod(true).await;
    let (code, headers, body) = server.ask("GET", "/api/v1/nodes/n/proxy/page", &[], "").await;
    let host = server.address;
    let page = format!(
        "<a href=\"/api/v1/nodes/n/proxy/x\">{host} /api/v1/nodes/n/proxy/page 127.0.0.1 </a>"
    );
    assert_eq!((code.as_u16(), String::from_utf8(body.to_vec()).unwrap()), (200, page));
    assert_eq!(headers.get("access-control-allow-origin"), None);
    let (code, headers, _) = server.ask("GET", "/api/v1/nodes/n/proxy/moved", &[], "").await;
    assert_eq!(
        (code.as_u16(), headers["location"].as_bytes()),
        (302, &b"/api/v1/nodes/n/proxy/a"[..])
    );
    server.stop().await;
}
