//! Rows as kubectl shows them.

use serde_json::{Value, json};

use crate::kinds::{find, kinds};

fn row(group: &str, plural: &str, object: &Value) -> Vec<Value> {
    let kind = find(group, "v1", plural).expect("a served kind");
    (kind.cells)(object, 60_000_000)
}

fn meta(name: &str) -> Value {
    json!({ "name": name, "namespace": "default", "creationTimestamp": "1970-01-01T00:00:10Z" })
}

#[test]
fn every_kind_gives_a_cell_for_each_column() {
    for row in kinds() {
        let cells = (row.cells)(&json!({}), 0).len();
        let expected = if row.plural == "ipaddresses" { 3 } else { row.columns.len() };
        assert_eq!(cells, expected, "{row:?}");
    }
}

#[test]
fn services_show_addresses_and_ports() {
    // S20.
    let service = |spec: Value, status: Value| {
        let object = json!({ "metadata": meta("s"), "spec": spec, "status": status });
        let row = row("", "services", &object);
        (row[2].clone(), row[3].clone(), row[4].clone())
    };
    let ports = json!([{ "port": 80, "nodePort": 30080, "protocol": "TCP" }]);
    let spec = json!({ "type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "ports": ports });
    let pending = service(spec.clone(), json!({}));
    assert_eq!(pending, (json!("10.96.0.9"), json!("<pending>"), json!("80:30080/TCP")));
    let ingress = json!({ "loadBalancer": { "ingress": [
        { "hostname": "lb.example.com" }, { "ip": "192.0.2.1" },
    ]}});
    assert_eq!(service(spec, ingress).1, "192.0.2.1,lb.example.com");
    let alias = json!({ "type": "ExternalName", "externalName": "db.example.com" });
    let none = json!("<none>");
    assert_eq!(service(alias, json!({})), (none.clone(), json!("db.example.com"), none));
}

#[test]
fn pods_show_their_state_in_a_word() {
    let pod = |spec: Value, status: Value| {
        let object = json!({ "metadata": meta("p"), "spec": spec, "status": status });
        let row = row("", "pods", &object);
        format!("{} {} {}", row[1], row[2], row[3]).replace('"', "")
    };
    let two = json!({ "containers": [{ "name": "a" }, { "name": "b" }] });
    assert_eq!(pod(two.clone(), json!({ "phase": "Pending" })), "0/2 Pending 0");
    let running = json!({ "phase": "Running", "containerStatuses": [
        { "name": "a", "ready": true, "state": { "running": {} } },
        {
            "name": "b", "restartCount": 3, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "finishedAt": "1970-01-01T00:00:30Z" } },
        },
    ]});
    assert_eq!(pod(two, running), "1/2 CrashLoopBackOff 3 (30s ago)");
}

#[test]
fn lists_show_three_items() {
    let addresses: Vec<Value> = (1..=5).map(|i| json!({ "ip": format!("10.0.0.{i}") })).collect();
    let object = json!({
        "metadata": meta("e"), "subsets": [{ "addresses": addresses, "ports": [{ "port": 80 }] }],
    });
    let shown = "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...";
    assert_eq!(row("", "endpoints", &object)[1..], [json!(shown), json!("50s")]);
}

#[test]
fn events_of_both_shapes_look_alike() {
    let core = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": meta("x.1"), "reason": "Tested",
        "involvedObject": { "kind": "Service", "name": "s" }, "message": "hello\n",
        "type": "Normal", "lastTimestamp": "1970-01-01T00:00:58Z",
    });
    let mut new = core.clone();
    crate::rules::event::from_core(&mut new);
    let cells = row("", "events", &core);
    assert_eq!(cells[..4], [json!("2s"), json!("Normal"), json!("Tested"), json!("service/s")]);
    assert_eq!(cells[6], "hello");
    assert_eq!(row("events.k8s.io", "events", &new), cells);
}
