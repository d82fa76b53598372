//! Protobuf, as client-go speaks it by default: messages that another codec, generated from
//! Kubernetes' own `.proto` files, reads and writes.

use std::fmt::Debug;

use futures::AsyncReadExt;
use http::{Method, Request};
use k8s_pb::Metadata;
use k8s_pb::api::coordination::v1 as coordination;
use k8s_pb::api::core::v1 as core;
use k8s_pb::api::discovery::v1 as discovery;
use k8s_pb::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, ObjectMeta, PartialObjectMetadataList, Preconditions, Status, WatchEvent,
};
use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::kube_rs::client;

#[tokio::test]
async fn services_and_their_endpoints_round_trip() {
    let server = Server::start_without_controllers();
    let client = client(&server).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "spec": {
            "clusterIP": "None", "selector": { "app": "a" }, "publishNotReadyAddresses": true,
            "ports": [
                { "name": "http", "port": 80, "targetPort": "web", "appProtocol": "http" },
                { "name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP" },
            ],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } },
        },
    });
    round_trip::<core::Service, core::ServiceList>(&client, SERVICES, service, |list| list.items)
        .await;
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "subsets": [{
            "addresses": [{ "ip": "192.0.2.1", "nodeName": "n" }],
            "notReadyAddresses": [{ "ip": "192.0.2.2", "hostname": "h" }],
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
        }],
    });
    let path = "/api/v1/namespaces/default/endpoints";
    round_trip::<core::Endpoints, core::EndpointsList>(&client, path, endpoints, |list| list.items)
        .await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6",
        "endpoints": [{
            "addresses": ["2001:db8::1"], "zone": "z", "nodeName": "n",
            "conditions": { "ready": false, "serving": true, "terminating": true },
            "hints": { "forZones": [{ "name": "z" }] },
            "targetRef": { "kind": "Pod", "name": "p", "namespace": "default" },
        }],
        "ports": [{ "name": "", "port": 80, "protocol": "TCP" }],
    });
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    round_trip::<discovery::EndpointSlice, discovery::EndpointSliceList>(
        &client,
        path,
        slice,
        |list| list.items,
    )
    .await;
}

#[tokio::test]
async fn nodes_pods_and_namespaces_round_trip() {
    let server = Server::start_without_controllers();
    let client = client(&server).await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "spec": {
            "podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24", "fd00:9::/64"],
            "taints": [{ "key": "k", "effect": "NoSchedule" }],
        },
    });
    round_trip::<core::Node, core::NodeList>(&client, "/api/v1/nodes", node, |list| list.items)
        .await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "spec": {
            "nodeSelector": { "a": "b" }, "terminationGracePeriodSeconds": 0,
            "tolerations": [{ "operator": "Exists", "tolerationSeconds": 300, "effect": "NoExecute" }],
            "containers": [{
                "name": "c", "image": "i", "command": ["sleep", "1"],
                "env": [{ "name": "E", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "ports": [{ "containerPort": 8080, "name": "web" }],
                "resources": { "limits": { "cpu": "100m", "memory": "1Gi" } },
                "readinessProbe": { "httpGet": { "path": "/", "port": "web" }, "periodSeconds": 1 },
            }],
        },
    });
    let path = "/api/v1/namespaces/default/pods";
    round_trip::<core::Pod, core::PodList>(&client, path, pod, |list| list.items).await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace" });
    round_trip::<core::Namespace, core::NamespaceList>(
        &client,
        "/api/v1/namespaces",
        namespace,
        |list| list.items,
    )
    .await;
}

#[tokio::test]
async fn leases_events_config_maps_and_secrets_round_trip() {
    let server = Server::start_without_controllers();
    let client = client(&server).await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "spec": {
            "holderIdentity": "h", "leaseDurationSeconds": 15, "leaseTransitions": 2,
            "renewTime": "2026-01-02T03:04:05.678901Z", "acquireTime": "2026-01-02T03:04:05.000000Z",
        },
    });
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    round_trip::<coordination::Lease, coordination::LeaseList>(&client, path, lease, |list| {
        list.items
    })
    .await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "R", "message": "m",
        "involvedObject": { "kind": "Service", "name": "s", "namespace": "default" },
        "source": { "component": "c", "host": "h" }, "count": 3,
        "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:06Z",
    });
    let path = "/api/v1/namespaces/default/events";
    round_trip::<core::Event, core::EventList>(&client, path, event, |list| list.items).await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
        "data": { "text": "ä\n" }, "binaryData": { "bytes": "AAH/" },
    });
    let path = "/api/v1/namespaces/default/configmaps";
    round_trip::<core::ConfigMap, core::ConfigMapList>(&client, path, map, |list| list.items).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "example.com/t", "data": { "key": "AAH/" },
    });
    let path = "/api/v1/namespaces/default/secrets";
    round_trip::<core::Secret, core::SecretList>(&client, path, secret, |list| list.items).await;
}

/// What an informer and a writer of client-go send besides: a watch that begins with the list,
/// metadata only, options of a DELETE, and failures that are messages too.
#[tokio::test]
async fn informers_and_failures_speak_protobuf() {
    let server = Server::start_without_controllers();
    let client = client(&server).await;
    let map = |name: &str| json!({ "metadata": { "name": name, "labels": { "of": "us" } } });
    let path = "/api/v1/namespaces/default/configmaps";
    json_request(&client, Method::POST, path, &map("a")).await;

    let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&labelSelector=of\
                 &resourceVersionMatch=NotOlderThan";
    let request = request(Method::GET, &format!("{path}?{query}"), Vec::new());
    let mut watch = Box::pin(client.request_stream(request)).await.unwrap();
    let (kind, first): (String, core::ConfigMap) = next_event(&mut watch).await;
    assert_eq!((kind.as_str(), first.metadata().unwrap().name()), ("ADDED", "a"));
    let (kind, mark): (String, core::ConfigMap) = next_event(&mut watch).await;
    let annotations = &mark.metadata().unwrap().annotations;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");

    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let query = format!("{path}?labelSelector=of");
    let list = accepting(&client, Method::GET, &query, Vec::new(), &accept).await.1;
    let list: PartialObjectMetadataList = message(&list);
    assert_eq!(list.items[0].metadata.as_ref().unwrap().name(), "a");

    let stale = envelope(
        "v1",
        "DeleteOptions",
        &DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some("x".to_owned()),
                ..Preconditions::default()
            }),
            ..DeleteOptions::default()
        },
    );
    let one = format!("{path}/a");
    let (code, body) = accepting(&client, Method::DELETE, &one, stale, PROTOBUF).await;
    let status: Status = message(&body);
    assert_eq!((code, status.code(), status.reason()), (409, 409, "Conflict"));
    let delete = envelope("v1", "DeleteOptions", &DeleteOptions::default());
    let (code, _) = accepting(&client, Method::DELETE, &one, delete, PROTOBUF).await;
    assert_eq!(code, 200);
    let (kind, gone): (String, core::ConfigMap) = next_event(&mut watch).await;
    assert_eq!((kind.as_str(), gone.metadata().unwrap().name()), ("DELETED", "a"));
    let (code, body) = accepting(&client, Method::GET, &one, Vec::new(), PROTOBUF).await;
    let status: Status = message(&body);
    assert_eq!((code, status.reason()), (404, "NotFound"));
    assert_eq!(status.details.unwrap().name(), "a");
}

#[tokio::test]
async fn changes_and_conflicts_speak_protobuf() {
    let server = Server::start_without_controllers();
    let client = client(&server).await;
    let service = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80 }] } });
    json_request(&client, Method::POST, SERVICES, &service).await;
    let path = format!("{SERVICES}/s");
    let mut service: core::Service = message(&bytes(&client, Method::GET, &path, Vec::new()).await);
    let stale = envelope("v1", "Service", &service);
    service.spec.as_mut().unwrap().ports[0].port = Some(81);
    let changed = envelope("v1", "Service", &service);
    let (code, body) = accepting(&client, Method::PUT, &path, changed, PROTOBUF).await;
    let changed: core::Service = message(&body);
    assert_eq!((code, changed.spec.as_ref().unwrap().ports[0].port()), (200, 81));
    let (code, body) = accepting(&client, Method::PUT, &path, stale, PROTOBUF).await;
    assert_eq!((code, message::<Status>(&body).reason()), (409, "Conflict"));

    let mut wrong = changed.clone();
    wrong.spec.as_mut().unwrap().ports[0].port = Some(0);
    let wrong = envelope("v1", "Service", &wrong);
    let (code, body) = accepting(&client, Method::PUT, &path, wrong, PROTOBUF).await;
    let details = message::<Status>(&body).details.unwrap();
    assert_eq!((code, details.causes[0].field()), (422, "spec.ports[0].port"));

    let ingress =
        core::LoadBalancerIngress { ip: Some("192.0.2.7".to_owned()), ..Default::default() };
    let mut with_status = changed;
    with_status.spec.as_mut().unwrap().r#type = Some("LoadBalancer".to_owned());
    let body = envelope("v1", "Service", &with_status);
    let (_, body) = accepting(&client, Method::PUT, &path, body, PROTOBUF).await;
    let mut with_status: core::Service = message(&body);
    with_status.status = Some(core::ServiceStatus {
        load_balancer: Some(core::LoadBalancerStatus { ingress: vec![ingress] }),
        ..Default::default()
    });
    let body = envelope("v1", "Service", &with_status);
    let status = format!("{path}/status");
    let (code, body) = accepting(&client, Method::PUT, &status, body, PROTOBUF).await;
    let answered: core::Service = message(&body);
    let ingress = answered.status.unwrap().load_balancer.unwrap().ingress;
    assert_eq!((code, ingress[0].ip(), ingress[0].ip_mode()), (200, "192.0.2.7", "VIP"));
}

/// Creates an object from JSON, reads it as protobuf (alone, in a list, in a watch), writes what
/// was read under another name as protobuf, and compares both as JSON.
async fn round_trip<K, L>(client: &kube::Client, path: &str, body: Value, items: fn(L) -> Vec<K>)
where
    K: Message + Metadata<Ty = ObjectMeta> + Default + PartialEq + Debug + Clone,
    L: Message + Default,
{
    let mut first = body;
    first["metadata"] = json!({ "name": "a", "labels": { "round": "trip" } });
    let created = json_request(client, Method::POST, path, &first).await;
    let one: K = message(&bytes(client, Method::GET, &format!("{path}/a"), Vec::new()).await);

    let list = bytes(client, Method::GET, &format!("{path}?labelSelector=round"), Vec::new()).await;
    assert_eq!(items(message(&list)), std::slice::from_ref(&one), "{path}");

    let version = &created["metadata"]["resourceVersion"];
    let query = format!("{path}?watch=1&labelSelector=round&resourceVersion=");
    let mut watch = Box::pin(client.request_stream(request(
        Method::GET,
        &format!("{query}{}", text(version)),
        Vec::new(),
    )))
    .await
    .unwrap();

    let mut other = one.clone();
    let metadata = other.metadata_mut().unwrap();
    *metadata = ObjectMeta {
        name: Some("b".to_owned()),
        labels: metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    let api_version = text(&first["apiVersion"]).to_owned();
    let type_meta =
        TypeMeta { api_version: Some(api_version), kind: Some(text(&first["kind"]).to_owned()) };
    let unknown = Unknown {
        type_meta: Some(type_meta),
        raw: Some(other.encode_to_vec()),
        ..Unknown::default()
    };
    let sent = [MAGIC, &unknown.encode_to_vec()].concat();
    let answered: K = message(&bytes(client, Method::POST, path, sent).await);
    assert_eq!(answered.metadata().unwrap().name(), "b", "{path}");

    assert_eq!(next_event(&mut watch).await, ("ADDED".to_owned(), answered), "{path}");

    let read = json_request(client, Method::GET, &format!("{path}/b"), &Value::Null).await;
    assert_eq!(without_identity(read), without_identity(created), "{path}");
}

/// The type and the object of the next frame of a watch.
async fn next_event<K: Message + Default>(
    watch: &mut (impl futures::AsyncRead + Unpin),
) -> (String, K) {
    let mut length = [0; 4];
    watch.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    watch.read_exact(&mut frame).await.unwrap();
    let event = WatchEvent::decode(frame.as_slice()).unwrap();
    (event.r#type().to_owned(), message(event.object.unwrap().raw()))
}

/// A message as a body.
fn envelope(api_version: &str, kind: &str, message: &impl Message) -> Vec<u8> {
    let unknown = Unknown {
        type_meta: Some(TypeMeta {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
        }),
        raw: Some(message.encode_to_vec()),
        ..Unknown::default()
    };
    [MAGIC, &unknown.encode_to_vec()].concat()
}

/// The message in an answer.
fn message<M: Message + Default>(body: &[u8]) -> M {
    let unknown = Unknown::decode(body.strip_prefix(MAGIC).unwrap()).unwrap();
    M::decode(unknown.raw()).unwrap()
}

async fn json_request(client: &kube::Client, method: Method, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json").body(body.into_bytes());
    client.request(request.unwrap()).await.unwrap()
}

/// Status and body of an answer, whatever it is.
async fn accepting(
    client: &kube::Client,
    method: Method,
    path: &str,
    body: Vec<u8>,
    accept: &str,
) -> (u16, Vec<u8>) {
    let mut request = request(method, path, body);
    request.headers_mut().insert("accept", accept.parse().unwrap());
    let answer = client.send(request.map(kube::client::Body::from)).await.unwrap();
    let code = answer.status().as_u16();
    (code, answer.into_body().collect_bytes().await.unwrap().to_vec())
}

async fn bytes(client: &kube::Client, method: Method, path: &str, body: Vec<u8>) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut answer = Box::pin(client.request_stream(request(method, path, body))).await.unwrap();
    answer.read_to_end(&mut whole).await.unwrap();
    whole
}

fn request(method: Method, path: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("accept", PROTOBUF)
        .header("content-type", PROTOBUF)
        .body(body)
        .unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// What two copies of one object have in common.
fn without_identity(mut object: Value) -> Value {
    object["metadata"] = json!({ "labels": object["metadata"]["labels"] });
    if object["kind"] == "Namespace" {
        // It carries its name as a label.
        object["metadata"]["labels"]["kubernetes.io/metadata.name"].take();
    }
    object
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
