//! Bodies that are small and want to become large, deep or slow (L4).

use portolan_wire::apply;
use portolan_wire::decode::{self, ContentType, FieldValidation};
use portolan_wire::patch::{self, PatchKind};
use portolan_wire::schema::Gvk;
use portolan_wire::status::Failure;
use serde_json::{Value, json};
use testkit::fuzz::{Attempt, most_memory, nested};

const CONFIG_MAP: Gvk<'_> = Gvk { group: "", version: "v1", kind: "ConfigMap" };
/// MiB.
const MOST_MEMORY: u64 = 400;

fn object(body: &[u8], content: ContentType) -> Result<Value, Failure> {
    let name = &body[..body.len().min(40)];
    let _attempt = Attempt::on(&name);
    let decoded = decode::object(body, content, CONFIG_MAP, FieldValidation::Strict);
    assert!(most_memory() < MOST_MEMORY);
    decoded.map(|decoded| decoded.value)
}

fn patched(live: &Value, operations: &Value) -> Result<Value, Failure> {
    let _attempt = Attempt::on(&"a JSON patch");
    let patch = patch::parse(PatchKind::Json, operations.to_string().as_bytes())?;
    let patched = patch::patch(PatchKind::Json, live, &patch, CONFIG_MAP, FieldValidation::Ignore);
    assert!(most_memory() < MOST_MEMORY);
    patched.map(|patched| patched.value)
}

fn config_map() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": {} })
}

#[test]
fn deep_nesting_is_refused_in_every_encoding() {
    let deep = |open: &str, close: &str| {
        format!("{{\"data\":{}{}}}", open.repeat(100_000), close.repeat(100_000))
    };
    for text in [deep("[", "]"), deep("{\"a\":", "}"), deep("[", ""), deep("{\"a\":", "")] {
        for content in [ContentType::Json, ContentType::Yaml] {
            assert_eq!(object(text.as_bytes(), content).unwrap_err().code, 400);
        }
        assert!(apply::parse(text.as_bytes(), FieldValidation::Warn).is_err());
        for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
            assert_eq!(patch::parse(kind, text.as_bytes()).unwrap_err().code, 400);
        }
    }
    let blocks = (0..20_000).fold(String::new(), |text, _| text + "- ");
    assert_eq!(object(blocks.as_bytes(), ContentType::Yaml).unwrap_err().code, 400);
}

#[test]
fn lengths_that_lie_are_refused() {
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0xff; 12], &[0x80; 40]] {
        let mut body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12".to_vec();
        body.extend_from_slice(length);
        body.push(1);
        assert_eq!(object(&body, ContentType::Protobuf).unwrap_err().code, 400);
    }
}

#[test]
fn anchors_do_not_multiply() {
    let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (outer, inner) in ('b'..='i').zip('a'..) {
        let references = vec![format!("*{inner}"); 10].join(",");
        text.push_str(&format!("{outer}: &{outer} [{references}]\n"));
    }
    text.push_str("data: {x: *i}\n");
    assert_eq!(object(text.as_bytes(), ContentType::Yaml).unwrap_err().code, 400);
    assert!(apply::parse(text.as_bytes(), FieldValidation::Warn).is_err());
}

#[test]
fn long_texts_behind_many_aliases_do_not_multiply() {
    let aliases = vec!["*a"; 100_000].join(",");
    let text = format!("a: &a {}\nb: [{aliases}]\n", "x".repeat(100_000));
    assert_eq!(object(text.as_bytes(), ContentType::Yaml).unwrap_err().code, 400);
}

#[test]
fn numbers_without_end_are_read_or_refused() {
    let digits = "9".repeat(1_000_000);
    for number in [digits.clone(), format!("-{digits}.{digits}"), format!("1e{digits}")] {
        let text = format!("{{\"immutable\":{number}}}");
        for content in [ContentType::Json, ContentType::Yaml] {
            assert_eq!(object(text.as_bytes(), content).unwrap_err().code, 400);
        }
    }
}

#[test]
fn copies_of_copies_are_refused() {
    let mut operations = vec![json!({ "op": "add", "path": "/data/a", "value": "x".repeat(1000) })];
    for number in 0..40 {
        let path = format!("/data/b{number}");
        operations.push(json!({ "op": "copy", "from": "/data", "path": path }));
    }
    assert_eq!(patched(&config_map(), &operations.into()).unwrap_err().code, 422);
}

#[test]
fn what_copies_a_little_is_patched() {
    let operations = json!([
        { "op": "add", "path": "/data/a", "value": "x".repeat(1000) },
        { "op": "copy", "from": "/data/a", "path": "/data/b" },
        { "op": "move", "from": "/data/a", "path": "/data/c" },
    ]);
    let patched = patched(&config_map(), &operations).unwrap();
    assert_eq!(patched["data"]["b"], patched["data"]["c"]);
    assert!(patched["data"]["a"].is_null());
}

#[test]
fn a_patch_cannot_dig_without_end() {
    let mut dig = Vec::new();
    let chain = nested(200);
    // Each move takes the whole tree and hangs it to the end of another one.
    for round in 0..1000 {
        let (tree, other) = (format!("/metadata/t{round}"), format!("/metadata/t{}", round + 1));
        dig.push(json!({ "op": "add", "path": other, "value": chain }));
        if round > 0 {
            let end = format!("{other}{}", "/a".repeat(200));
            dig.push(json!({ "op": "move", "from": tree, "path": format!("{end}/b") }));
        }
    }
    assert_eq!(patched(&config_map(), &dig.into()).unwrap_err().code, 422);
}

#[test]
fn more_values_than_any_object_has_are_refused() {
    for body in [
        format!("[{}0]", "0,".repeat(300_000)),
        format!("{{\"data\":[{}{{}}]}}", "{},".repeat(300_000)),
    ] {
        assert_eq!(object(body.as_bytes(), ContentType::Json).unwrap_err().code, 400);
        let failure = patch::parse(PatchKind::Merge, body.as_bytes()).unwrap_err();
        assert_eq!(failure.code, 400);
        assert!(failure.message.contains("exceeded 250000 values"), "{}", failure.message);
    }
}

#[test]
fn long_lists_are_merged_by_key_soon() {
    const SERVICE: Gvk<'_> = Gvk { group: "", version: "v1", kind: "Service" };
    let merged = |live: &Value, operations: &Value| {
        let _attempt = Attempt::on(&"a strategic merge patch");
        let patch = patch::parse(PatchKind::Strategic, operations.to_string().as_bytes()).unwrap();
        let ignore = FieldValidation::Ignore;
        let patched = patch::patch(PatchKind::Strategic, live, &patch, SERVICE, ignore);
        patched.unwrap().value
    };
    let range = |from: usize, to: usize| from..to;
    let ports = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|port| json!({ "port": port, "name": format!("p{port}") })).collect()
    };
    let live = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {
            "name": "s", "finalizers": range(0, 20_000).map(|n| format!("a/{n}")).collect::<Vec<_>>(),
        },
        "spec": { "ports": ports(range(1, 30_000)) },
    });
    // Half of them change, as many are new, some go, and all are put in another order.
    let mut changes = ports(range(15_000, 45_000));
    let order: Vec<Value> = changes.iter().map(|port| json!({ "port": port["port"] })).collect();
    changes.extend(range(1, 10_000).map(|port| json!({ "port": port, "$patch": "delete" })));
    let gone: Vec<String> = range(0, 10_000).map(|n| format!("a/{n}")).collect();
    let patched = merged(
        &live,
        &json!({
            "metadata": { "$deleteFromPrimitiveList/finalizers": gone },
            "spec": { "ports": changes, "$setElementOrder/ports": order },
        }),
    );
    assert_eq!(patched["spec"]["ports"].as_array().unwrap().len(), 35_000);
    assert_eq!(patched["metadata"]["finalizers"].as_array().unwrap().len(), 10_000);
}

#[test]
fn ten_thousand_operations_are_the_most() {
    let add = json!({ "op": "add", "path": "/data/a", "value": "x" });
    assert!(patched(&config_map(), &vec![add.clone(); 10_000].into()).is_ok());
    assert_eq!(patched(&config_map(), &vec![add; 10_001].into()).unwrap_err().code, 413);
}

#[test]
fn many_keys_are_read_soon() {
    let members: Vec<String> = (0..150_000).map(|n| format!("\"k{n}\":\"\"")).collect();
    let text = format!("{{\"data\":{{{}}}}}", members.join(","));
    let value = object(text.as_bytes(), ContentType::Json).unwrap();
    assert_eq!(value["data"].as_object().unwrap().len(), 150_000);
    let lines: String = (0..50_000).map(|n| format!("  k{n}: \"\"\n")).collect();
    assert!(object(format!("data:\n{lines}").as_bytes(), ContentType::Yaml).is_ok());
    let unknown: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":\"\"")).collect();
    let text = format!("{{{}}}", unknown.join(","));
    assert_eq!(object(text.as_bytes(), ContentType::Json).unwrap_err().code, 400);
}
