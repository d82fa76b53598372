use serde_json::{Value, json};

use crate::support::{World, env, service};

const SERVICES: &str = "services/default";

fn ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    ports.map(|port| port["nodePort"].as_u64().unwrap_or(0)).collect()
}

#[tokio::test]
async fn a_service_and_its_addresses_are_one() {
    // A4.
    let world = World::new().await;
    let spec = json!({ "ipFamilyPolicy": "RequireDualStack" });
    let created = world.create(SERVICES, service("web", spec)).await.unwrap();
    let addresses = created["spec"]["clusterIPs"].as_array().unwrap().clone();
    assert_eq!(addresses.len(), 2);
    assert_eq!(created["spec"]["clusterIP"], addresses[0]);
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    for address in &addresses {
        let path = format!("ipaddresses/-/{}", address.as_str().unwrap());
        let object = world.get(&path).await.unwrap();
        let parent = json!({ "resource": "services", "namespace": "default", "name": "web" });
        assert_eq!(object["spec"]["parentRef"], parent);
    }
    world.delete("services/default/web", Value::Null).await.unwrap();
    for address in &addresses {
        let path = format!("ipaddresses/-/{}", address.as_str().unwrap());
        assert_eq!(world.get(&path).await.unwrap_err().code, 404);
    }
}

#[tokio::test]
async fn a_taken_or_foreign_address_is_refused() {
    // A5.
    let world = World::new().await;
    for (address, why) in [
        ("10.96.0.1", "provided IP is already allocated"),
        ("10.96.0.0", "the provided network does not match the current range"),
        ("10.97.0.9", "the provided network does not match the current range"),
    ] {
        let spec = json!({ "clusterIP": address });
        let failure = world.create(SERVICES, service("web", spec)).await.unwrap_err();
        assert_eq!(failure.code, 422);
        let text = format!(
            "Service \"web\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: {why}"
        );
        assert_eq!(failure.message, text);
    }
}

#[tokio::test]
async fn a_create_that_fails_later_gives_everything_back() {
    // A6.
    let world = World::new().await;
    let spec = json!({ "type": "NodePort", "clusterIP": "10.96.0.76",
        "ports": [{ "name": "A", "port": 80, "nodePort": 30073 }] });
    assert_eq!(world.create(SERVICES, service("s", spec)).await.unwrap_err().code, 422);
    let spec = json!({ "type": "NodePort", "clusterIP": "10.96.0.76",
        "ports": [{ "port": 80, "nodePort": 30073 }] });
    world.create(SERVICES, service("t", spec)).await.unwrap();
}

#[tokio::test]
async fn ports_with_equal_numbers_share_a_node_port_on_create() {
    // A8.
    let world = World::new().await;
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "t", "port": 80, "protocol": "TCP" },
        { "name": "u", "port": 80, "protocol": "UDP" },
        { "name": "x", "port": 81 },
    ]});
    let created = world.create(SERVICES, service("web", spec)).await.unwrap();
    let ports = ports(&created);
    assert_eq!(ports[0], ports[1]);
    assert_ne!(ports[0], ports[2]);
    assert!(ports.iter().all(|port| (30086..=32767).contains(port)), "{ports:?}");
}

#[tokio::test]
async fn two_services_never_share_a_node_port() {
    // A9.
    let world = World::new().await;
    let spec = |protocol: &str| {
        json!({ "type": "NodePort", "ports": [
            { "port": 80, "protocol": protocol, "nodePort": 30022 },
        ]})
    };
    world.create(SERVICES, service("a", spec("TCP"))).await.unwrap();
    let failure = world.create(SERVICES, service("b", spec("UDP"))).await.unwrap_err();
    assert_eq!(
        failure.details["causes"][0]["message"],
        "Invalid value: 30022: provided port is already allocated"
    );
    let failure = world.dry_create(SERVICES, service("b", spec("UDP"))).await.unwrap_err();
    assert_eq!(failure.code, 422);
}

#[tokio::test]
async fn a_full_pool_refuses_and_a_freed_port_is_drawn_again() {
    // A10.
    let world = World::with(env(&["10.96.0.0/28"], (30000, 30001))).await;
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "a", "port": 80 }, { "name": "b", "port": 81 },
    ]});
    world.create(SERVICES, service("a", spec)).await.unwrap();
    let spec = json!({ "type": "NodePort" });
    let failure = world.create(SERVICES, service("b", spec.clone())).await.unwrap_err();
    let text = "Internal error occurred: failed to allocate a nodePort: range is full";
    assert_eq!((failure.code, failure.message.as_str()), (500, text));
    let smaller = json!({ "spec": { "ports": [{ "name": "a", "port": 80 }] } });
    world.merge("services/default/a", smaller).await.unwrap();
    world.create(SERVICES, service("b", spec)).await.unwrap();
}

#[tokio::test]
async fn a_full_range_refuses_and_headless_services_do_not_care() {
    // A10.
    let world = World::with(env(&["10.96.0.0/28"], (30000, 30007))).await;
    for number in 0..13 {
        world.create(SERVICES, service(&format!("s{number}"), json!({}))).await.unwrap();
    }
    let failure = world.create(SERVICES, service("x", json!({}))).await.unwrap_err();
    let text =
        "Internal error occurred: failed to allocate a serviceIP for Service \"x\": range is full";
    assert_eq!(failure.message, text);
    let headless = service("h", json!({ "clusterIP": "None" }));
    world.create(SERVICES, headless).await.unwrap();
    world.dry_create(SERVICES, service("x", json!({}))).await.unwrap();
    world.delete("services/default/s0", Value::Null).await.unwrap();
    world.create(SERVICES, service("x", json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_reserves_nothing() {
    // A11.
    let world = World::new().await;
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "a", "port": 80 }, { "name": "b", "port": 81, "nodePort": 30069 },
    ]});
    let dry = world.dry_create(SERVICES, service("s", spec)).await.unwrap();
    assert_eq!(dry["spec"]["clusterIP"], "10.96.0.0");
    assert!(dry["metadata"]["resourceVersion"].is_null());
    assert_eq!(world.get("services/default/s").await.unwrap_err().code, 404);
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30069 }] });
    world.create(SERVICES, service("t", spec)).await.unwrap();
}

#[tokio::test]
async fn types_and_families_change_and_give_back() {
    // A12.
    let world = World::new().await;
    let path = "services/default/s";
    let spec = json!({ "type": "ExternalName", "externalName": "a.example.com" });
    world.create(SERVICES, service("s", spec)).await.unwrap();
    let patch = json!({ "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
    let changed = world.merge(path, patch).await.unwrap();
    let first = changed["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let port = ports(&changed)[0];
    assert_ne!(port, 0);

    let patch = json!({ "spec": { "ipFamilyPolicy": "PreferDualStack" } });
    let dual = world.merge(path, patch).await.unwrap();
    assert_eq!(dual["spec"]["clusterIPs"][0], first.as_str());
    let second = dual["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    world.get(&format!("ipaddresses/-/{second}")).await.unwrap();

    let patch = json!({ "spec": { "ipFamilyPolicy": "SingleStack" } });
    let single = world.merge(path, patch).await.unwrap();
    assert_eq!(single["spec"]["clusterIPs"], json!([first]));
    assert_eq!(world.get(&format!("ipaddresses/-/{second}")).await.unwrap_err().code, 404);

    let patch = json!({ "spec": { "type": "ExternalName" } });
    world.merge(path, patch).await.unwrap();
    assert_eq!(world.get(&format!("ipaddresses/-/{first}")).await.unwrap_err().code, 404);
    let spec = json!({ "type": "NodePort", "clusterIP": first,
        "ports": [{ "port": 80, "nodePort": port }] });
    world.create(SERVICES, service("t", spec)).await.unwrap();
}

#[tokio::test]
async fn a_health_check_port_comes_from_the_same_pool() {
    // A7.
    let world = World::new().await;
    let spec = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30071, "ports": [{ "port": 80, "nodePort": 30071 }] });
    let failure = world.create(SERVICES, service("s", spec)).await.unwrap_err();
    let text = "Internal error occurred: failed to allocate requested HealthCheck NodePort 30071: provided port is already allocated";
    assert_eq!(failure.message, text);
    let spec = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    let created = world.create(SERVICES, service("s", spec)).await.unwrap();
    assert!(created["spec"]["healthCheckNodePort"].as_u64().unwrap() >= 30086);
}

#[tokio::test]
async fn a_missing_ip_address_is_repaired() {
    // A13.
    let world = World::new().await;
    let created = world.create(SERVICES, service("web", json!({}))).await.unwrap();
    let path = format!("ipaddresses/-/{}", created["spec"]["clusterIP"].as_str().unwrap());
    let uid = world.get(&path).await.unwrap()["metadata"]["uid"].clone();
    world.delete(&path, Value::Null).await.unwrap();
    world.until(&path, |object| object["metadata"]["uid"] != uid).await;
}

#[tokio::test]
async fn many_at_once_never_share() {
    // A21.
    let world = World::with(env(&["10.96.0.0/24"], (30000, 30099))).await;
    let spec = json!({ "type": "NodePort" });
    let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
    let creates = names.iter().map(|name| world.create(SERVICES, service(name, spec.clone())));
    let mut addresses = std::collections::BTreeSet::new();
    let mut taken = std::collections::BTreeSet::new();
    for created in futures::future::join_all(creates).await {
        let created = created.unwrap();
        assert!(addresses.insert(created["spec"]["clusterIP"].as_str().unwrap().to_owned()));
        assert!(taken.insert(ports(&created)[0]));
    }
    assert_eq!(taken.len(), 100, "the pool is used up to the last port");
}

#[tokio::test]
async fn of_many_that_want_one_address_one_gets_it() {
    // A21.
    let world = World::new().await;
    let spec = json!({ "clusterIP": "10.96.0.50" });
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let creates = names.iter().map(|name| world.create(SERVICES, service(name, spec.clone())));
    let results = futures::future::join_all(creates).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn errors_of_allocation_are_reported_alone() {
    // S11.
    let world = World::new().await;
    let bad_port = json!([{ "port": 80, "name": "BAD" }]);
    let rows = [
        (json!({ "ipFamilyPolicy": "Dual" }), "spec.ipFamilyPolicy"),
        (json!({ "clusterIP": "10.96.0.1" }), "spec.clusterIPs"),
        (json!({ "type": "NodePort" }), "spec.ports[0].nodePort"),
        (json!({}), "spec.ports[0].name"),
    ];
    for (mut spec, field) in rows {
        spec["ports"] = bad_port.clone();
        if spec["type"] == "NodePort" {
            spec["ports"][0]["nodePort"] = 1.into();
        }
        let failure = world.create(SERVICES, service("s", spec)).await.unwrap_err();
        let causes = failure.details["causes"].as_array().unwrap();
        let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
        assert_eq!(fields, [field]);
    }
}

#[tokio::test]
async fn new_external_addresses_are_refused_where_they_are_denied() {
    // S25.
    let world = World::new().await;
    let spec = json!({ "externalIPs": ["192.0.2.1", "192.0.2.2"] });
    world.create(SERVICES, service("old", spec)).await.unwrap();
    let world = world.reopened(|config| config.deny_external_ips = true).await;
    let spec = json!({ "externalIPs": ["192.0.2.1"] });
    let failure = world.create(SERVICES, service("new", spec)).await.unwrap_err();
    assert_eq!((failure.code, failure.reason.as_str()), (403, "Forbidden"));
    let change = |addresses: Value| json!({ "spec": { "externalIPs": addresses } });
    let path = "services/default/old";
    world.merge(path, json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    let failure = world.merge(path, change(json!(["192.0.2.1", "192.0.2.3"]))).await.unwrap_err();
    assert_eq!(failure.code, 403);
    world.merge(path, change(json!(["192.0.2.2"]))).await.unwrap();
    world.merge(path, change(Value::Null)).await.unwrap();
}
