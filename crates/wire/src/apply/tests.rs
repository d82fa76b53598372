//! Recorded applies of a real server, without what the server fills in.

use serde_json::json;

use super::*;

const SERVICE: Gvk<'static> = Gvk { group: "", version: "v1", kind: "Service" };

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, subresource: "", now: "2026-01-01T00:00:00Z" }
}

fn config(spec: &Value, labels: &Value) -> Value {
    let mut config = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec
    });
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        config["metadata"]["labels"] = labels.clone();
    }
    config
}

fn http() -> Value {
    json!({"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
}

fn put(live: Option<&Value>, config: &Value, manager: &str) -> Result<Value, Failure> {
    apply(live, config, SERVICE, &writer(manager), false)
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("has managers");
    let entry = entries.iter().find(|e| e["manager"] == manager);
    entry.map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn a_created_object_belongs_to_the_applier() {
    let new = put(None, &config(&http(), &json!({"a": "1"})), "m1").expect("applies");
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{
            "manager": "m1", "operation": "Apply", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}
                }}}
            }
        }])
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let wanted = config(&http(), &json!({"a": "1"}));
    let first = put(None, &wanted, "m1").expect("applies");
    let later = Writer { now: "2026-01-02T00:00:00Z", ..writer("m1") };
    assert_eq!(apply(Some(&first), &wanted, SERVICE, &later, false), Ok(first));
}

#[test]
fn a_second_manager_conflicts_and_may_force() {
    let live = put(None, &config(&http(), &json!({"a": "1"})), "m1").expect("applies");
    let wanted = config(&json!({}), &json!({"a": "2"}));
    let failure = put(Some(&live), &wanted, "m2").expect_err("conflicts");
    assert_eq!(failure.code, 409);
    let message = "Apply failed with 1 conflict: conflict with \"m1\": .metadata.labels.a";
    assert_eq!(failure.message, message);
    let forced = apply(Some(&live), &wanted, SERVICE, &writer("m2"), true).expect("is forced");
    assert_eq!(forced["metadata"]["labels"]["a"], "2");
    assert_eq!(fields(&forced, "m1").get("f:metadata"), None);
}

#[test]
fn many_conflicts_are_listed_by_manager() {
    let spec = json!({
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        "selector": {"app": "web"}, "sessionAffinity": "None"
    });
    let live = put(None, &config(&spec, &json!({})), "m1").expect("applies");
    let spec = json!({
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 9090}],
        "selector": {"app": "x"}, "sessionAffinity": "ClientIP"
    });
    let failure = put(Some(&live), &config(&spec, &json!({})), "m2").expect_err("conflicts");
    assert_eq!(
        failure.message,
        "Apply failed with 3 conflicts: conflicts with \"m1\":\n- .spec.selector\n\
         - .spec.sessionAffinity\n- .spec.ports[port=80,protocol=\"TCP\"].targetPort"
    );
}

#[test]
fn a_port_left_out_is_removed_and_another_managers_stays() {
    let both = json!({"ports": [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "https", "port": 443, "protocol": "TCP"}
    ]});
    let live = put(None, &config(&both, &json!({})), "m1").expect("applies");
    let other = json!({"ports": [{"name": "m", "port": 9, "protocol": "TCP"}]});
    let live = put(Some(&live), &config(&other, &json!({})), "m2").expect("applies");
    let new = put(Some(&live), &config(&http(), &json!({})), "m1").expect("applies");
    let ports: Vec<_> = new["spec"]["ports"]
        .as_array()
        .expect("is a list")
        .iter()
        .map(|p| p["port"].as_i64())
        .collect();
    assert_eq!(ports, [Some(80), Some(9)]);
    let gone = put(Some(&new), &config(&json!({"ports": []}), &json!({})), "m2").expect("applies");
    assert_eq!(gone["spec"]["ports"].as_array().map(Vec::len), Some(1));
    assert_eq!(fields(&gone, "m2"), Value::Null);
}

#[test]
fn a_shared_value_stays_until_its_last_owner_leaves_it() {
    let live = put(None, &config(&http(), &json!({"a": "1"})), "m1").expect("applies");
    let live = put(Some(&live), &config(&json!({}), &json!({"a": "1"})), "m2").expect("shares");
    let live = put(Some(&live), &config(&http(), &json!({})), "m1").expect("leaves");
    assert_eq!(live["metadata"]["labels"], json!({"a": "1"}));
    let live = put(Some(&live), &config(&json!({}), &json!({})), "m2").expect("leaves");
    assert_eq!(live["metadata"].get("labels"), None);
}

#[test]
fn a_value_defaulted_below_a_pruned_entry_goes_with_it() {
    let mut live = put(None, &config(&http(), &json!({})), "m1").expect("applies");
    live["spec"]["ports"][0]["targetPort"] = 80.into();
    let new = put(Some(&live), &config(&json!({}), &json!({})), "m1").expect("applies");
    assert_eq!(new["spec"].get("ports"), None);
}

#[test]
fn wrong_configurations_are_refused_with_their_path() {
    let unknown = config(&json!({"nonsense": 1}), &json!({}));
    assert_eq!(
        put(None, &unknown, "m1").expect_err("is unknown").message,
        "failed to create typed patch object (/s; /v1, Kind=Service): .spec.nonsense: field not \
         declared in schema"
    );
    let twice = config(
        &json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
        &json!({}),
    );
    assert_eq!(
        put(None, &twice, "m1").expect_err("is there twice").message,
        "failed to create typed patch object (/s; /v1, Kind=Service): .spec.ports: duplicate \
         entries for key [port=80,protocol=\"TCP\"]"
    );
}

#[test]
fn an_update_owns_what_it_changes() {
    let mut new = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"a": "1"}},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "web"}},
        "status": {"loadBalancer": {}}
    });
    track_update(None, &mut new, SERVICE, &writer("vectors"));
    assert_eq!(
        fields(&new, "vectors"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:port": {}, "f:protocol": {}
                }},
                "f:selector": {}
            }
        })
    );
    let live = new.clone();
    new["metadata"]["labels"] = json!({"a": "2", "b": "1"});
    track_update(Some(&live), &mut new, SERVICE, &writer("p1"));
    assert_eq!(fields(&new, "p1"), json!({"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}}));
    assert_eq!(fields(&new, "vectors")["f:metadata"]["f:labels"], json!({}));
}

#[test]
fn an_update_that_changes_nothing_keeps_times() {
    let live = put(None, &config(&http(), &json!({"a": "1"})), "m1").expect("applies");
    let mut new = live.clone();
    let later = Writer { now: "2026-01-02T00:00:00Z", ..writer("m2") };
    track_update(Some(&live), &mut new, SERVICE, &later);
    assert_eq!(new, live);
}

#[test]
fn an_empty_list_of_managers_clears_them() {
    let live = put(None, &config(&http(), &json!({})), "m1").expect("applies");
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([]);
    track_update(Some(&live), &mut new, SERVICE, &writer("m2"));
    assert_eq!(new["metadata"].get("managedFields"), None);
}

#[test]
fn status_is_owned_through_its_subresource_only() {
    let live = put(None, &config(&http(), &json!({})), "m1").expect("applies");
    let wanted = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}]}}
    });
    let status = Writer { subresource: "status", ..writer("lb") };
    let new = apply(Some(&live), &wanted, SERVICE, &status, false).expect("applies");
    let expected = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
    assert_eq!(fields(&new, "lb"), expected);
    let direct = put(Some(&live), &wanted, "m2").expect("applies");
    assert_eq!(fields(&direct, "m2"), Value::Null);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut live = config(&http(), &json!({"a": "1"}));
    let last = config(&http(), &json!({"a": "1"})).to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    track_update(None, &mut live, SERVICE, &writer("kubectl-client-side-apply"));
    let wanted = config(&http(), &json!({"a": "2"}));
    assert!(put(Some(&live), &wanted, "other").is_err());
    let new = put(Some(&live), &wanted, "kubectl").expect("takes over");
    assert_eq!(new["metadata"]["labels"]["a"], "2");
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let mut live = config(&http(), &json!({"a": "1"}));
    live["status"] = json!({"loadBalancer": {}});
    let failure = put(Some(&live), &config(&http(), &json!({"a": "2"})), "m1");
    assert_eq!(
        failure.expect_err("conflicts").message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: \
         .metadata.labels.a"
    );
}

#[test]
fn an_upgraded_list_of_managers_replaces_the_old_one() {
    let live = put(None, &config(&http(), &json!({"a": "1"})), "m1").expect("applies");
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = "m2".into();
    track_update(Some(&live), &mut new, SERVICE, &writer("upgrader"));
    assert_eq!(fields(&new, "m1"), Value::Null);
    assert_eq!(fields(&new, "m2"), fields(&live, "m1"));
}

#[test]
fn the_oldest_updaters_are_summed_up() {
    let mut object = config(&http(), &json!({}));
    track_update(None, &mut object, SERVICE, &writer("m0"));
    for n in 1..15 {
        let live = object.clone();
        object["metadata"]["labels"][format!("l{n:02}")] = "x".into();
        let (manager, now) = (format!("m{n:02}"), format!("2026-01-{:02}T00:00:00Z", n + 1));
        let writer = Writer { manager: &manager, subresource: "", now: &now };
        track_update(Some(&live), &mut object, SERVICE, &writer);
    }
    let entries = object["metadata"]["managedFields"].as_array().expect("has managers");
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
}

#[test]
fn a_configuration_of_another_kind_or_version_is_refused() {
    for (key, value, shown) in [
        ("kind", json!("Pod"), "/v1, Kind=Pod"),
        ("kind", Value::Null, "/v1, Kind="),
        ("apiVersion", json!("v2"), "/v2, Kind=Service"),
        ("apiVersion", json!("apps/v1"), "apps/v1, Kind=Service"),
    ] {
        let mut config = config(&json!({"type": "NodePort"}), &json!({}));
        config[key] = value;
        let failure = put(None, &config, "m1").expect_err("is refused");
        assert_eq!(failure.code, 400);
        assert_eq!(failure.message, format!("invalid object type: {shown}"));
    }
}
