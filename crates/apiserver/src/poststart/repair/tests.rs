//! Repair of states that requests cannot bring about: they are written past the rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{addresses, cidrs, ports};
use crate::api::{Answer, Options, Request, User, Verb};
use crate::authz::AuthorizationMode;
use crate::meta;
use crate::poststart::pass::{Look, Pass};
use crate::registry::own::Kind;
use crate::registry::{Config, Registry};
use crate::store::Transaction;

const SERVICES: Kind = ("", "services");
const ADDRESSES: Kind = ("networking.k8s.io", "ipaddresses");
const CIDRS: Kind = ("networking.k8s.io", "servicecidrs");
const EVENTS: Kind = ("", "events");

async fn registry(state: &std::path::Path) -> Arc<Registry> {
    let env = wire::kinds::Env {
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        node_ports: (30000, 32767),
        advertise: ("172.30.0.1".parse().unwrap(), 6443),
    };
    let config = Config {
        state: state.to_owned(),
        env,
        authorization: vec![AuthorizationMode::AlwaysAllow],
        ca_certificate: None,
        deny_external_ips: false,
        service_account_admission: false,
    };
    let registry = Registry::open(config).unwrap();
    crate::poststart::start(&registry).await.unwrap();
    registry
}

/// Stores an object as it is; what is stored.
async fn write(
    registry: &Registry,
    kind: Kind,
    namespace: &str,
    name: &str,
    mut object: Value,
) -> Value {
    object["metadata"]["name"] = name.into();
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let row = registry.resources.find(kind.0, kind.1).unwrap();
    crate::resources::set_type(&row, &mut object);
    meta::start(&mut object);
    let mut transaction = Transaction::default();
    transaction.create(registry.resources.key(&row, namespace, name), object);
    registry.store.commit(transaction).await.unwrap();
    registry.own(kind, namespace, name).and_then(|own| own.get()).unwrap()
}

async fn service(registry: &Registry, name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["type"] = "NodePort".into();
    write(registry, SERVICES, "default", name, json!({ "spec": spec })).await
}

fn exists(registry: &Registry, kind: Kind, namespace: &str, name: &str) -> bool {
    registry.own(kind, namespace, name).is_some_and(|own| own.get().is_some())
}

/// Reasons and objects of all events.
fn events(registry: &Registry) -> BTreeSet<(String, String)> {
    let told = registry.all(EVENTS).into_iter().map(|record| {
        let event = record.value();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["reason"]), text(&event["involvedObject"]["name"]))
    });
    told.collect()
}

/// Waits for an event: the server's own loops may be the ones that tell it.
async fn told(registry: &Registry, reason: &str, name: &str) {
    let wanted = (reason.to_owned(), name.to_owned());
    let waited = async {
        while !events(registry).contains(&wanted) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), waited).await;
    assert!(in_time.is_ok(), "{reason} {name}: {:?}", events(registry));
}

#[tokio::test]
async fn an_address_that_no_service_uses_goes_after_a_minute_if_it_is_the_allocator_s() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let parent = json!({ "resource": "services", "namespace": "default", "name": "gone" });
    let own = json!({
        "metadata": { "labels": { "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" } },
        "spec": { "parentRef": parent },
    });
    let own = write(&registry, ADDRESSES, "", "10.96.1.1", own).await;
    let foreign = json!({ "spec": { "parentRef": parent } });
    let foreign = write(&registry, ADDRESSES, "", "10.96.1.2", foreign).await;
    let after = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
    // A14.
    addresses::free_leaked(&registry, &own, after(30)).await;
    assert!(exists(&registry, ADDRESSES, "", "10.96.1.1"), "it is too young");
    addresses::free_leaked(&registry, &own, after(61)).await;
    assert!(!exists(&registry, ADDRESSES, "", "10.96.1.1"));
    told(&registry, "IPAddressNotAllocated", "10.96.1.1").await;
    // A15.
    addresses::free_leaked(&registry, &foreign, after(3600)).await;
    assert!(exists(&registry, ADDRESSES, "", "10.96.1.2"));
}

#[tokio::test]
async fn a_range_stays_while_an_address_lies_in_no_other() {
    // A18.
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let finalizer = "networking.k8s.io/service-cidr-finalizer";
    let range = json!({
        "metadata": { "finalizers": [finalizer] }, "spec": { "cidrs": ["10.200.0.0/28"] },
    });
    write(&registry, CIDRS, "", "extra", range).await;
    let parent = json!({ "resource": "services", "namespace": "default", "name": "s" });
    let address = json!({ "spec": { "parentRef": parent } });
    write(&registry, ADDRESSES, "", "10.200.0.5", address).await;
    let own = registry.own(CIDRS, "", "extra").unwrap();
    let deleted = registry.call(Request {
        verb: Verb::Delete,
        kind: own.row.clone(),
        namespace: None,
        name: Some("extra".to_owned()),
        subresource: None,
        options: Options::default(),
        body: None,
        strict: Vec::new(),
        user: User::default(),
        user_agent_manager: String::new(),
    });
    assert!(matches!(deleted.await, Answer::Object { code: 200, .. }));
    let look = async || {
        let all: Vec<Value> = registry.all(CIDRS).iter().map(|record| record.value()).collect();
        let later = Timestamp::now() + SignedDuration::from_secs(11);
        cidrs::terminate(&registry, &own, &own.get().unwrap(), &all, later).await
    };
    look().await;
    let held = own.get().unwrap();
    let condition = &held["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("Terminating"))
    );
    let wider = json!({ "spec": { "cidrs": ["10.200.0.0/24"] } });
    write(&registry, CIDRS, "", "wider", wider).await;
    look().await;
    assert!(own.get().is_none());
}

#[tokio::test]
async fn what_only_people_can_decide_becomes_an_event() {
    // A22.
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let with = |address: &str, port: u16| {
        json!({
            "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ports": [{ "port": 80, "nodePort": port }],
        })
    };
    service(&registry, "first", with("10.96.2.1", 30100)).await;
    addresses::Repair::default().run(&registry, Look::All).await;
    told(&registry, "ClusterIPNotAllocated", "first").await;
    service(&registry, "second", with("10.96.2.1", 30100)).await;
    service(&registry, "outside", with("172.16.0.1", 29999)).await;
    service(&registry, "nonsense", with("nonsense", 30101)).await;
    addresses::Repair::default().run(&registry, Look::All).await;
    ports::Repair::default().run(&registry, Look::All).await;
    for (reason, name) in [
        ("ClusterIPAlreadyAllocated", "second"),
        ("ClusterIPOutOfRange", "outside"),
        ("ClusterIPNotValid", "nonsense"),
        ("PortAlreadyAllocated", "second"),
        ("PortOutOfRange", "outside"),
        ("PortNotAllocated", "nonsense"),
    ] {
        told(&registry, reason, name).await;
    }
    assert!(registry.allocator.taken_ports().contains(&30101));
}

#[tokio::test]
async fn what_an_older_server_stored_is_completed_when_it_is_loaded() {
    // S24.
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let spec = |spec: Value| {
        let row = registry.resources.find("", "services").unwrap();
        let mut object = json!({ "spec": spec });
        let specs = registry.resources.specs();
        (specs[registry.resources.number(&row)].on_load)(&mut object);
        object["spec"].clone()
    };
    let plain = spec(json!({ "type": "ClusterIP", "clusterIP": "10.96.0.9" }));
    assert_eq!(plain["clusterIPs"], json!(["10.96.0.9"]));
    assert_eq!(
        (&plain["ipFamilies"], &plain["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let headless =
        spec(json!({ "type": "ClusterIP", "clusterIP": "None", "selector": { "a": "b" } }));
    assert_eq!(headless["ipFamilyPolicy"], "SingleStack");
    let free = spec(json!({ "type": "ClusterIP", "clusterIP": "None" }));
    assert_eq!(free["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(free["ipFamilyPolicy"], "RequireDualStack");
    let alias = spec(json!({ "type": "ExternalName", "internalTrafficPolicy": "Cluster" }));
    assert!(alias.get("internalTrafficPolicy").is_none());
}
