//! Rows B1 to B136 of semantics 1.11, as far as they need no allocation.

use serde_json::{Value, json};

use super::*;
use crate::rules::fields::{remove, set};
use crate::rules::tests::env;
use crate::status::{CauseReason, FieldError};

/// A field to change in the base Service, and its new value; `Null` removes it.
type Change<'a> = (&'a str, Value);
/// Row, changes, expected (path, reason) pairs.
type Row<'a> = (&'a str, Vec<Change<'a>>, Vec<(&'a str, CauseReason)>);
/// Row, changes that make the stored Service, an ingress, expected path below it and reason.
type StatusRow<'a> = (&'a str, &'a [Change<'a>], Value, &'a str, CauseReason);
/// Row, changes that make the stored Service, changes to it, expected (path, reason) pairs.
type UpdateRow<'a> = (&'a str, &'a [Change<'a>], Vec<Change<'a>>, Vec<(&'a str, CauseReason)>);

fn base() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "s", "namespace": "default", "resourceVersion": "1" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "protocol": "TCP" }] },
    })
}

fn changed(mut service: Value, changes: &[Change<'_>]) -> Value {
    for (pointer, value) in changes {
        match value {
            Value::Null => drop(remove(&mut service, pointer)),
            value if service.pointer(pointer).is_some() => {
                *service.pointer_mut(pointer).expect("just found") = value.clone();
            }
            value => set(&mut service, pointer, value.clone()),
        }
    }
    service
}

/// What the API server does around allocation, with made-up allocations.
fn create(service: &Value) -> Result<Value, Vec<FieldError>> {
    let mut service = service.clone();
    default(&mut service, &env());
    normalize_cluster_ips(&mut service, None);
    init_families(&mut service, None, &env())?;
    allocate(&mut service);
    prepare_create(&mut service, &env());
    let errors = validate_create(&service, &env());
    if errors.is_empty() { Ok(service) } else { Err(errors) }
}

fn update(service: &Value, old: &Value) -> Result<Value, Vec<FieldError>> {
    let mut service = service.clone();
    default(&mut service, &env());
    patch_allocated_values(&mut service, old);
    normalize_cluster_ips(&mut service, Some(old));
    init_families(&mut service, Some(old), &env())?;
    allocate(&mut service);
    prepare_update(&mut service, old, &env());
    let errors = validate_update(&service, old, &env());
    if errors.is_empty() { Ok(service) } else { Err(errors) }
}

fn allocate(service: &mut Value) {
    if needs_cluster_ip(service) && !is_headless(service) {
        let mut addresses: Vec<String> =
            service.texts("/spec/clusterIPs").into_iter().map(str::to_owned).collect();
        for family in service.texts("/spec/ipFamilies").into_iter().skip(addresses.len()) {
            let free = if family == "IPv4" { "10.96.0.7" } else { "fd00:10:96::7" };
            addresses.push(free.to_owned());
        }
        set(service, "/spec/clusterIP", addresses[0].as_str());
        set(service, "/spec/clusterIPs", addresses);
    }
    if needs_health_check(service) && service.int("/spec/healthCheckNodePort") == 0 {
        set(service, "/spec/healthCheckNodePort", 30_999);
    }
}

fn pairs(errors: &[FieldError]) -> Vec<(&str, CauseReason)> {
    errors.iter().map(|error| (error.field.as_str(), error.reason)).collect()
}

fn check_creates(rows: Vec<Row<'_>>) {
    for (row, changes, expected) in rows {
        let errors = create(&changed(base(), &changes)).err().unwrap_or_default();
        assert_eq!(pairs(&errors), expected, "{row}: {changes:?}");
    }
}

fn port(field: &str, value: Value) -> Vec<Change<'static>> {
    let mut port = json!({ "port": 80 });
    port[field] = value;
    vec![("/spec/ports", json!([port]))]
}

const PORT: &str = "spec.ports[0].port";
const TARGET: &str = "spec.ports[0].targetPort";
const NAME: &str = "spec.ports[0].name";

#[test]
fn names_and_ports() {
    // S2.
    use CauseReason::{Duplicate, Forbidden, Invalid, NotSupported, Required};
    let name = |name: &str| vec![("/metadata/name", json!(name))];
    let two = |one: Value, two: Value| vec![("/spec/ports", json!([one, two]))];
    let (unnamed, a) = (json!({ "port": 81 }), json!({ "name": "a", "port": 80 }));
    let bad_name = vec![("metadata.name", Invalid)];
    let bad_port = vec![(PORT, Invalid), (TARGET, Invalid)];
    let node_port = vec![("/spec/ports", json!([{ "port": 80, "nodePort": 30_080 }]))];
    check_creates(vec![
        ("B1", name("My-Svc"), bad_name.clone()),
        ("B2", name(&"a".repeat(64)), bad_name.clone()),
        ("B3", name("a.b"), bad_name.clone()),
        ("B4", name("-a"), bad_name),
        ("B4 digit", name("1a"), vec![]),
        ("B5", vec![("/metadata/name", Value::Null)], vec![("metadata.name", Required)]),
        (
            "B11",
            vec![("/metadata/labels", json!({ "a": "b c" }))],
            vec![("metadata.labels", Invalid)],
        ),
        ("B14", vec![("/spec/ports", Value::Null)], vec![("spec.ports", Required)]),
        ("B15", two(a.clone(), unnamed), vec![("spec.ports[1].name", Required)]),
        ("B16", port("name", json!("HTTP")), vec![(NAME, Invalid)]),
        ("B17", port("name", json!("a_b")), vec![(NAME, Invalid)]),
        ("B18", port("name", json!("a".repeat(64))), vec![(NAME, Invalid)]),
        (
            "B19",
            two(a.clone(), json!({ "name": "a", "port": 81 })),
            vec![("spec.ports[1].name", Duplicate)],
        ),
        ("B20", port("port", json!(0)), bad_port.clone()),
        ("B21", port("port", json!(-1)), bad_port.clone()),
        ("B22", port("port", json!(65_536)), bad_port),
        ("B23", port("protocol", json!("tcp")), vec![("spec.ports[0].protocol", NotSupported)]),
        ("B25", port("targetPort", json!(65_536)), vec![(TARGET, Invalid)]),
        ("B26", port("targetPort", json!("abcdefghij123456")), vec![(TARGET, Invalid)]),
        ("B27", port("targetPort", json!("-http")), vec![(TARGET, Invalid)]),
        ("B28", port("targetPort", json!("8080")), vec![(TARGET, Invalid)]),
        ("B29", port("targetPort", json!("a--b")), vec![(TARGET, Invalid)]),
        ("B30", port("targetPort", json!("Http")), vec![(TARGET, Invalid)]),
        (
            "B31",
            port("appProtocol", json!("bad proto")),
            vec![("spec.ports[0].appProtocol", Invalid)],
        ),
        (
            "B33",
            two(a.clone(), json!({ "name": "b", "port": 80 })),
            vec![("spec.ports[1]", Duplicate)],
        ),
        ("B34", two(a, json!({ "name": "b", "port": 80, "protocol": "UDP" })), vec![]),
        ("B36", node_port, vec![("spec.ports[0].nodePort", Forbidden)]),
    ]);
}

#[test]
fn cluster_ips_and_families() {
    // S3.
    use CauseReason::{Duplicate, Invalid, NotSupported};
    let single = |address: &str| vec![("/spec/clusterIP", json!(address))];
    let list = |first: &str, all: Value| {
        vec![("/spec/clusterIP", json!(first)), ("/spec/clusterIPs", all)]
    };
    let families = |families: Value| vec![("/spec/ipFamilies", families)];
    let first = || vec![("spec.clusterIPs[0]", Invalid)];
    let all = || vec![("spec.clusterIPs", Invalid)];
    let policy = || vec![("spec.ipFamilyPolicy", Invalid)];
    let both = json!(["10.96.0.5", "fd00:10:96::5"]);
    let with = |mut changes: Vec<Change<'static>>, more: Vec<Change<'static>>| {
        changes.extend(more);
        changes
    };
    let of_family = |family: &str| vec![("/spec/ipFamilies", json!([family]))];
    check_creates(vec![
        ("B53", single("foo"), first()),
        ("B54", single("10.096.0.5"), first()),
        ("B55", single("::ffff:10.96.0.5"), first()),
        ("B60", vec![("/spec/clusterIPs", json!(["10.96.0.5"]))], all()),
        ("B61", list("10.96.0.5", json!(["10.96.0.6"])), all()),
        ("B62", list("None", json!(["None", "10.96.0.5"])), all()),
        (
            "B63",
            list("10.96.0.5", json!(["10.96.0.5", "None"])),
            vec![("spec.clusterIPs[1]", Invalid)],
        ),
        ("B64", list("10.96.0.5", json!(["10.96.0.5", "fd00::5", "10.96.0.6"])), all()),
        ("B65", list("10.96.0.5", json!(["10.96.0.5", "10.96.0.6"])), all()),
        ("B66", with(single("fd00:10:96::5"), of_family("IPv4")), first()),
        ("B67", with(single("10.96.0.5"), of_family("IPv6")), first()),
        ("B68", families(json!(["IPv5"])), vec![("spec.ipFamilies[0]", NotSupported)]),
        ("B69", families(json!(["IPv4", "IPv4"])), vec![("spec.ipFamilies[1]", Duplicate)]),
        (
            "B72",
            vec![("/spec/ipFamilyPolicy", json!("Dual"))],
            vec![("spec.ipFamilyPolicy", NotSupported)],
        ),
        ("B74", families(json!(["IPv4", "IPv6"])), policy()),
        ("B75", list("10.96.0.5", both), policy()),
        ("B76", with(single("None"), vec![("/spec/type", json!("NodePort"))]), first()),
        ("B77", with(single("None"), vec![("/spec/type", json!("LoadBalancer"))]), first()),
    ]);
}

#[test]
fn single_stack_clusters() {
    // S3.
    let mut single = env();
    single.service_cidrs.truncate(1);
    let errors = |changes: &[Change<'_>]| {
        let mut service = changed(base(), changes);
        default(&mut service, &single);
        normalize_cluster_ips(&mut service, None);
        let errors = init_families(&mut service, None, &single).err().unwrap_or_default();
        errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
    };
    assert_eq!(errors(&[("/spec/ipFamilies", json!(["IPv6"]))]), ["spec.ipFamilies[0]"]);
    assert_eq!(errors(&[("/spec/clusterIP", json!("fd00:10:96::5"))]), ["spec.clusterIPs[0]"]);
    let require = ("/spec/ipFamilyPolicy", json!("RequireDualStack"));
    assert_eq!(errors(std::slice::from_ref(&require)), ["spec.ipFamilyPolicy"]);
    let headless = ("/spec/clusterIP", json!("None"));
    let free = [require, headless, ("/spec/selector", Value::Null)];
    assert_eq!(errors(&free), Vec::<String>::new());
}

#[test]
fn types() {
    // S4.
    use CauseReason::{Forbidden, Invalid, NotSupported, Required};
    let kind = |kind: &str| ("/spec/type", json!(kind));
    let alias = |name: &str, more: Vec<Change<'static>>| {
        let mut changes = vec![kind("ExternalName"), ("/spec/externalName", json!(name))];
        changes.extend(more);
        changes
    };
    let balanced = |field: &'static str, value: Value| vec![kind("LoadBalancer"), (field, value)];
    let ranges = "/spec/loadBalancerSourceRanges";
    let range = |value: &str| balanced(ranges, json!([value]));
    let bad_name = || vec![("spec.externalName", Invalid)];
    let bad_range = || vec![("spec.LoadBalancerSourceRanges[0]", Invalid)];
    let annotation = "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]";
    let annotated = |value: &str| ("/metadata/annotations", json!({ RANGES_ANNOTATION: value }));
    check_creates(vec![
        ("B89", vec![kind("Foo")], vec![("spec.type", NotSupported)]),
        ("B90", vec![kind("ExternalName")], vec![("spec.externalName", Required)]),
        ("B90 dot", alias(".", vec![]), vec![("spec.externalName", Required)]),
        ("B91", alias("Foo.com", vec![]), bad_name()),
        ("B93", alias("a..b", vec![]), bad_name()),
        ("B94", alias("foo.com..", vec![]), bad_name()),
        ("B94 one dot", alias("foo.com.", vec![]), vec![]),
        ("B95", alias(&"a.".repeat(127), vec![]), vec![]),
        (
            "B96",
            alias("a.b", vec![("/spec/clusterIP", json!("10.96.0.5"))]),
            vec![("spec.clusterIPs", Forbidden)],
        ),
        (
            "B98",
            alias("a.b", vec![("/spec/ipFamilies", json!(["IPv4"]))]),
            vec![("spec.ipFamilies", Forbidden)],
        ),
        (
            "B100",
            vec![(ranges, json!(["10.0.0.0/8"]))],
            vec![("spec.LoadBalancerSourceRanges", Forbidden)],
        ),
        ("B101", vec![annotated("10.0.0.0/8")], vec![(annotation, Forbidden)]),
        ("B102", range("1.2.3.4"), bad_range()),
        ("B103", range("10.0.0.1/8"), bad_range()),
        ("B104", range("010.0.0.0/8"), bad_range()),
        (
            "B106",
            vec![kind("LoadBalancer"), annotated("foo,10.0.0.0/8")],
            vec![(annotation, Invalid)],
        ),
        ("B107", range(" 10.0.0.0/8 "), vec![]),
        (
            "B108",
            vec![("/spec/allocateLoadBalancerNodePorts", json!(false))],
            vec![("spec.allocateLoadBalancerNodePorts", Forbidden)],
        ),
        (
            "B109",
            vec![kind("NodePort"), ("/spec/loadBalancerClass", json!("a/b"))],
            vec![("spec.loadBalancerClass", Forbidden)],
        ),
        (
            "B110",
            balanced("/spec/loadBalancerClass", json!("bad class")),
            vec![("spec.loadBalancerClass", Invalid)],
        ),
    ]);
}

#[test]
fn affinity_policies_and_addresses() {
    // S5.
    use CauseReason::{Invalid, NotSupported};
    let affinity = |seconds: i64| {
        let config = json!({ "clientIP": { "timeoutSeconds": seconds } });
        vec![("/spec/sessionAffinity", json!("ClientIP")), ("/spec/sessionAffinityConfig", config)]
    };
    let timeout = || vec![("spec.sessionAffinityConfig.clientIP.timeoutSeconds", Invalid)];
    let external = |address: &str| vec![("/spec/externalIPs", json!([address]))];
    let bad_address = || vec![("spec.externalIPs[0]", Invalid)];
    let nearest =
        vec![("/spec/type", json!("NodePort")), ("/spec/externalTrafficPolicy", json!("Nearest"))];
    let field = |name: &'static str, value: &str| vec![(name, json!(value))];
    let health = vec![("/spec/healthCheckNodePort", json!(30_100))];
    check_creates(vec![
        ("B47", health, vec![("spec.healthCheckNodePort", Invalid)]),
        (
            "B114",
            field("/spec/sessionAffinity", "Cookie"),
            vec![("spec.sessionAffinity", NotSupported)],
        ),
        ("B115", affinity(0), timeout()),
        ("B116", affinity(-1), timeout()),
        ("B117", affinity(86_401), timeout()),
        ("B117 limit", affinity(86_400), vec![]),
        (
            "B119",
            field("/spec/externalTrafficPolicy", "Local"),
            vec![("spec.externalTrafficPolicy", Invalid)],
        ),
        ("B121", nearest, vec![("spec.externalTrafficPolicy", NotSupported)]),
        (
            "B122",
            field("/spec/internalTrafficPolicy", "Zone"),
            vec![("spec.internalTrafficPolicy", NotSupported)],
        ),
        (
            "B123",
            field("/spec/trafficDistribution", ""),
            vec![("spec.trafficDistribution", NotSupported)],
        ),
        ("B124", external("foo"), bad_address()),
        ("B125", external("1.2.3.04"), bad_address()),
        ("B126", external("0.0.0.0"), bad_address()),
        ("B127", external("::1"), bad_address()),
        ("B128", external("fe80::1"), bad_address()),
        ("B129", external("224.0.0.1"), bad_address()),
        ("B129 other", external("239.1.1.1"), vec![]),
        ("B131", vec![("/spec/selector", json!({ "a b": "c" }))], vec![("spec.selector", Invalid)]),
    ]);
}

#[test]
fn affinity_none_erases_its_config() {
    // S1.
    let config = json!({ "clientIP": { "timeoutSeconds": 5 } });
    let service = create(&changed(base(), &[("/spec/sessionAffinityConfig", config)]));
    assert_eq!(service.expect("B118 is valid").at("/spec/sessionAffinityConfig"), &Value::Null);
}

#[test]
fn updates() {
    // S7.
    use CauseReason::{Forbidden, Invalid};
    let dual = [("/spec/ipFamilyPolicy", json!("RequireDualStack"))];
    let headless = [("/spec/clusterIP", json!("None"))];
    let balanced = [
        ("/spec/type", json!("LoadBalancer")),
        ("/spec/externalTrafficPolicy", json!("Local")),
        ("/spec/loadBalancerSourceRanges", json!(["10.0.0.0/8"])),
    ];
    let policy = vec![("spec.ipFamilyPolicy", Invalid)];
    let first = vec![("spec.clusterIPs[0]", Invalid)];
    let rows: Vec<UpdateRow<'_>> = vec![
        (
            "B51",
            &balanced,
            vec![("/spec/healthCheckNodePort", json!(31_000))],
            vec![("spec.healthCheckNodePort", Forbidden)],
        ),
        ("B78", &[], vec![("/spec/clusterIP", json!("10.96.0.9"))], first.clone()),
        ("B79", &[], vec![("/spec/clusterIP", json!("None"))], first.clone()),
        ("B80", &headless, vec![("/spec/clusterIP", json!("10.96.0.9"))], first),
        (
            "B81",
            &dual,
            vec![("/spec/clusterIPs/1", json!("fd00:10:96::9"))],
            vec![("spec.clusterIPs[1]", Invalid)],
        ),
        (
            "B82",
            &dual,
            vec![("/spec/ipFamilies", json!(["IPv6", "IPv4"]))],
            vec![("spec.clusterIPs[0]", Invalid), ("spec.clusterIPs[1]", Invalid)],
        ),
        ("B83", &dual, vec![("/spec/clusterIPs", json!(["10.96.0.7"]))], policy.clone()),
        ("B84", &dual, vec![("/spec/ipFamilies", json!(["IPv4"]))], policy.clone()),
        ("B85", &[], vec![("/spec/ipFamilies", json!(["IPv4", "IPv6"]))], policy),
        (
            "B111",
            &balanced,
            vec![("/spec/loadBalancerClass", json!("x/y"))],
            vec![("spec.loadBalancerClass", Invalid)],
        ),
        (
            "B112",
            &balanced,
            vec![("/spec/type", json!("ClusterIP"))],
            vec![("spec.LoadBalancerSourceRanges", Forbidden)],
        ),
    ];
    for (row, made, changes, expected) in rows {
        let old = create(&changed(base(), made)).expect("the stored Service is valid");
        let errors = update(&changed(old.clone(), &changes), &old).err().unwrap_or_default();
        assert_eq!(pairs(&errors), expected, "{row}");
    }
}

#[test]
fn a_new_node_port_survives_the_type_change_and_is_refused() {
    // S9.
    let ports = json!([{ "port": 80, "nodePort": 30_080 }]);
    let made = changed(base(), &[("/spec/type", json!("NodePort")), ("/spec/ports", ports)]);
    let old = create(&made).expect("the stored Service is valid");
    let new = changed(old.clone(), &[("/spec/type", json!("ClusterIP"))]);
    let kept = update(&new, &old).expect("node ports that did not change are dropped");
    assert_eq!(kept.at("/spec/ports/0/nodePort"), &Value::Null);
    let new = changed(new, &[("/spec/ports/0/nodePort", json!(30_081))]);
    let errors = update(&new, &old).expect_err("B52");
    assert_eq!(pairs(&errors), [("spec.ports[0].nodePort", CauseReason::Forbidden)]);
}

#[test]
fn a_short_body_keeps_what_was_allocated() {
    // S8.
    let made = changed(base(), &[("/spec/type", json!("NodePort"))]);
    let mut old = create(&made).expect("the stored Service is valid");
    set(
        &mut old,
        "/spec/ports",
        json!([{ "port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30_080 }]),
    );
    let new = update(&made, &old).expect("the same body is valid");
    assert_eq!(new.at("/spec"), old.at("/spec"));
}

#[test]
fn downgrade_trims_both_lists() {
    // S10.
    let dual = [("/spec/ipFamilyPolicy", json!("PreferDualStack"))];
    let old = create(&changed(base(), &dual)).expect("the stored Service is valid");
    assert_eq!(old.texts("/spec/ipFamilies"), ["IPv4", "IPv6"]);
    let single = [("/spec/ipFamilyPolicy", json!("SingleStack"))];
    let new = update(&changed(old.clone(), &single), &old).expect("a downgrade is valid");
    assert_eq!(new.texts("/spec/ipFamilies"), ["IPv4"]);
    assert_eq!(new.texts("/spec/clusterIPs"), ["10.96.0.7"]);
}

#[test]
fn leaving_for_an_alias_drops_addresses() {
    // S9.
    let old = create(&base()).expect("the stored Service is valid");
    let changes = [("/spec/type", json!("ExternalName")), ("/spec/externalName", json!("a.b"))];
    let new = update(&changed(old.clone(), &changes), &old).expect("the change is valid");
    for pointer in ["/spec/clusterIP", "/spec/clusterIPs", "/spec/ipFamilies"] {
        assert!(!new.has(pointer), "{pointer}");
    }
    let mut read = new;
    default_on_read(&mut read, &env());
    assert!(!read.has("/spec/internalTrafficPolicy"));
}

#[test]
fn status_writes() {
    // S6.
    use CauseReason::{Forbidden, Invalid, NotSupported};
    let balanced = [("/spec/type", json!("LoadBalancer"))];
    let rows: Vec<StatusRow<'_>> = vec![
        ("B132", &[], json!({ "ip": "192.0.2.1" }), "", Forbidden),
        ("B133", &balanced, json!({ "ip": "foo" }), "[0].ip", Invalid),
        ("B134", &balanced, json!({ "hostname": "a", "ipMode": "VIP" }), "[0].ipMode", Forbidden),
        (
            "B135",
            &balanced,
            json!({ "ip": "192.0.2.1", "ipMode": "Foo" }),
            "[0].ipMode",
            NotSupported,
        ),
        ("B136", &balanced, json!({ "hostname": "1.2.3.4" }), "[0].hostname", Invalid),
    ];
    for (row, made, ingress, field, reason) in rows {
        let old = create(&changed(base(), made)).expect("the stored Service is valid");
        let mut new = old.clone();
        set(&mut new, "/status/loadBalancer/ingress", json!([ingress]));
        prepare_status(&mut new, &old, &env());
        let errors = validate_status(&new, &old, &env());
        let field = format!("status.loadBalancer.ingress{field}");
        assert_eq!(pairs(&errors), [(field.as_str(), reason)], "{row}");
    }
}
