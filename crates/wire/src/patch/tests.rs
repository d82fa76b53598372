//! Recorded patches of a real server.

use serde_json::json;

use super::*;
use crate::schema::Gvk;

const SERVICE: Gvk<'static> = Gvk { group: "", version: "v1", kind: "Service" };

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "labels": {"a": "1", "b": "2"}},
        "spec": {
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080},
                {"name": "https", "protocol": "TCP", "port": 443, "targetPort": 8443}
            ],
            "selector": {"app": "web"}, "type": "ClusterIP"
        },
        "status": {"loadBalancer": {}}
    })
}

fn strategic(body: &Value) -> Result<Value, Failure> {
    let decoded = patch(
        PatchKind::Strategic,
        &service(),
        &body.clone().into(),
        SERVICE,
        FieldValidation::Warn,
    )?;
    Ok(decoded.value)
}

fn port_names(object: &Value) -> Vec<&str> {
    let ports = object["spec"]["ports"].as_array().expect("ports is a list");
    ports.iter().map(|p| p["name"].as_str().unwrap_or("-")).collect()
}

#[test]
fn a_new_port_is_prepended_unless_the_order_is_given() {
    let added = strategic(&json!({"spec": {"ports": [{"name": "m", "port": 9090}]}}));
    assert_eq!(port_names(&added.expect("merges")), ["m", "http", "https"]);
    let ordered = strategic(&json!({"spec": {
        "$setElementOrder/ports": [{"port": 80}, {"port": 81}, {"port": 443}],
        "ports": [{"port": 81, "name": "mid"}]
    }}));
    assert_eq!(port_names(&ordered.expect("merges")), ["http", "mid", "https"]);
}

#[test]
fn the_patch_of_a_client_side_apply() {
    let patched = strategic(&json!({
        "metadata": {"annotations": {"x": "y"}},
        "spec": {
            "$setElementOrder/ports": [{"port": 443}],
            "ports": [{"port": 80, "$patch": "delete"}, {"port": 443, "targetPort": 9443}],
            "selector": {"app": null, "tier": "x"}
        }
    }))
    .expect("merges");
    assert_eq!(port_names(&patched), ["https"]);
    assert_eq!(patched["spec"]["ports"][0]["targetPort"], 9443);
    assert_eq!(patched["spec"]["selector"], json!({"tier": "x"}));
    assert_eq!(patched["metadata"]["annotations"], json!({"x": "y"}));
}

#[test]
fn directives_replace_delete_and_retain() {
    let replaced = strategic(&json!({"spec": {"selector": {"$patch": "replace", "c": "3"}}}));
    assert_eq!(replaced.expect("merges")["spec"]["selector"], json!({"c": "3"}));
    let emptied = strategic(&json!({"spec": {"ports": [{"$patch": "replace"}]}}));
    assert_eq!(emptied.expect("merges")["spec"].get("ports"), None);
    let retained = strategic(&json!({"spec": {"$retainKeys": ["ports"]}}));
    let spec = &retained.expect("merges")["spec"];
    assert_eq!(spec.as_object().map(|s| s.len()), Some(1));
}

#[test]
fn finalizers_merge_and_are_deleted_as_scalars() {
    let with = json!({"metadata": {"finalizers": ["example.com/b", "example.com/a"]}});
    let first = strategic(&with).expect("merges");
    let body = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/b"]}});
    let second = patch(PatchKind::Strategic, &first, &body.into(), SERVICE, FieldValidation::Warn);
    assert_eq!(second.expect("merges").value["metadata"]["finalizers"], json!(["example.com/a"]));
}

#[test]
fn wrong_directives_are_errors_without_a_type() {
    let unknown = strategic(&json!({"spec": {"$patch": "explode"}})).expect_err("is unknown");
    assert_eq!(unknown.code, 500);
    assert_eq!(unknown.message, "unknown patch type: explode in map: map[$patch:explode]");
    let order = strategic(&json!({"spec": {
        "$setElementOrder/ports": [{"port": 80}], "ports": [{"port": 443, "name": "x"}]
    }}));
    assert_eq!(
        order.expect_err("the order lacks a port").message,
        "The order in patch list:\n[map[name:x port:443]]\n doesn't match $setElementOrder \
         list:\n[map[port:80]]\n"
    );
}

#[test]
fn entries_of_a_list_are_maps_with_the_merge_key() {
    let refused = |ports: Value| {
        let body = json!({ "spec": { "ports": ports } });
        let result =
            patch(PatchKind::Strategic, &service(), &body.into(), SERVICE, FieldValidation::Warn);
        result.expect_err("is no entry")
    };
    for (entry, shown) in [
        (json!({ "name": "x" }), "map[name:x]"),
        (json!({ "$patch": "delete" }), "map[$patch:delete]"),
    ] {
        let failure = refused(json!([entry]));
        let text = format!("map: {shown} does not contain declared merge key: port");
        assert_eq!((failure.code, failure.message), (500, text));
    }
    assert_eq!(refused(json!([5])).code, 500);
    assert_eq!(refused(json!([[]])), status::unprocessable_patch());
}

#[test]
fn a_null_need_not_be_retained() {
    let body = json!({ "spec": { "$retainKeys": ["ports"], "selector": null } });
    let patched =
        patch(PatchKind::Strategic, &service(), &body.into(), SERVICE, FieldValidation::Warn);
    assert_eq!(patched.expect("merges").value["spec"].as_object().map(|spec| spec.len()), Some(1));
}

#[test]
fn a_json_patch_that_does_not_apply_is_422_without_a_cause() {
    for body in [
        json!([{"op": "test", "path": "/spec/type", "value": "NodePort"}]),
        json!([{"op": "replace", "path": "/metadata/labels/none", "value": "b"}]),
    ] {
        let result =
            patch(PatchKind::Json, &service(), &body.into(), SERVICE, FieldValidation::Warn);
        assert_eq!(result.expect_err("does not apply"), status::unprocessable_patch());
    }
}

#[test]
fn bodies_of_the_wrong_form_are_400() {
    let failure = parse(PatchKind::Json, br#"{"spec":{}}"#).expect_err("is an object");
    assert_eq!(
        failure.message,
        "error decoding patch: json: cannot unmarshal object into Go value of type \
         []handlers.jsonPatchOp"
    );
    let failure = parse(PatchKind::Json, b"not json").expect_err("is no JSON");
    assert_eq!(
        failure.message,
        "error decoding patch: invalid character 'o' in literal null (expecting 'u')"
    );
    assert!(parse(PatchKind::Merge, b"[]").is_err());
    assert!(parse(PatchKind::Merge, b"null").is_err());
    assert!(parse(PatchKind::Strategic, b"{}").is_ok());
    for kind in [PatchKind::Json, PatchKind::Strategic] {
        let nothing = parse(kind, b"null").expect("is an empty patch");
        let patched = patch(kind, &service(), &nothing, SERVICE, FieldValidation::Strict);
        assert_eq!(patched.expect("changes nothing").value["spec"], service()["spec"]);
    }
}

#[test]
fn a_merge_patch_of_a_wrong_type_has_neither_kind_nor_name() {
    let body = json!({"spec": {"ports": "x"}});
    let result = patch(PatchKind::Merge, &service(), &body.into(), SERVICE, FieldValidation::Warn);
    let failure = result.expect_err("ports is a list");
    assert_eq!((failure.code, failure.reason.as_str()), (422, "Invalid"));
    assert!(failure.message.starts_with(" \"\" is invalid: patch: Invalid value: \"{"));
    assert!(failure.message.ends_with(
        "}\": json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type \
         []v1.ServicePort"
    ));
    assert_eq!(failure.details["causes"][0]["field"], "patch");
    assert_eq!(failure.details.get("kind"), None);
}

#[test]
fn a_merge_patch_drops_nulls_and_warns_of_unknown_fields() {
    let body = json!({"metadata": {"labels": null}, "spec": {"nonsense": 1, "other": null}});
    let decoded = patch(PatchKind::Merge, &service(), &body.into(), SERVICE, FieldValidation::Warn);
    let decoded = decoded.expect("merges");
    assert_eq!(decoded.value["metadata"], json!({"name": "s"}));
    assert_eq!(decoded.warnings, ["unknown field \"spec.nonsense\""]);
}

#[test]
fn a_missing_field_passes_a_test_for_null() {
    let add_first = |parent: &str| {
        let body = json!([
            {"op": "test", "path": format!("{parent}/finalizers"), "value": null},
            {"op": "add", "path": format!("{parent}/finalizers"), "value": ["test.example/f"]}
        ]);
        patch(PatchKind::Json, &service(), &body.into(), SERVICE, FieldValidation::Warn)
    };
    let added = add_first("/metadata").expect("there are no finalizers");
    assert_eq!(added.value["metadata"]["finalizers"], json!(["test.example/f"]));
    assert_eq!(add_first("/spec/nothing").unwrap_err().code, 422);
    let body = json!([{"op": "test", "path": "/metadata/name", "value": null}]);
    let refused = patch(PatchKind::Json, &service(), &body.into(), SERVICE, FieldValidation::Warn);
    assert_eq!(refused.unwrap_err().code, 422);
}

#[test]
fn what_is_unusual_about_the_patch_itself_is_judged_too() {
    let twice = br#"{"spec":{"type":"ClusterIP","type":"ClusterIP","x":1}}"#;
    let odd = br#"[{"op":"add","op":"add","from_":"x","path":"/metadata/labels/a","value":"b"}]"#;
    let rows = [
        (PatchKind::Merge, &twice[..], vec!["duplicate field \"spec.type\"", UNKNOWN]),
        (PatchKind::Strategic, &twice[..], vec!["duplicate field \"spec.type\"", UNKNOWN]),
        (
            PatchKind::Json,
            &odd[..],
            vec!["json patch duplicate field \"[0].op\"", "json patch unknown field \"[0].from_\""],
        ),
    ];
    for (kind, body, expected) in rows {
        let parsed = parse(kind, body).expect("parses");
        let result = |validation| patch(kind, &service(), &parsed, SERVICE, validation);
        assert_eq!(result(FieldValidation::Warn).expect("is done").warnings, expected);
        assert!(result(FieldValidation::Ignore).expect("is done").warnings.is_empty());
        let refused = result(FieldValidation::Strict).expect_err("is refused");
        assert_eq!((refused.code, &refused.details["causes"][0]["field"]), (422, &json!("patch")));
        let why = format!("strict decoding error: {}", expected.join(", "));
        assert!(refused.message.ends_with(&why), "{}", refused.message);
    }
}

const UNKNOWN: &str = "unknown field \"spec.x\"";
