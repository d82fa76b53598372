//! What definitions make of kinds.

use serde_json::json;

use super::*;
use crate::kinds::{Env, Kind};
use crate::rules::definition;
use crate::rules::tests::{env, outcome};
use crate::status::CauseReason::{Forbidden, Invalid, Required};

const NOW: &str = "2026-01-01T00:00:00Z";

fn definition(plural: &str, kind: &str) -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.example.com"), "uid": format!("uid-{plural}") },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind, "shortNames": ["wd"] },
            "versions": [
                { "name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                  "schema": { "openAPIV3Schema": { "type": "object" } } },
                { "name": "v1", "served": true, "storage": true,
                  "subresources": { "status": {}, "scale": {
                      "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                  }},
                  "additionalPrinterColumns": [
                      { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                  ],
                  "selectableFields": [{ "jsonPath": ".spec.color" }],
                  "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                      "spec": { "type": "object", "properties": {
                          "size": { "type": "integer" }, "color": { "type": "string" },
                      }},
                      "status": { "type": "object", "properties": {
                          "size": { "type": "integer" },
                      }},
                  }}}},
            ],
        },
    });
    definition::default(&mut definition, &env());
    definition::prepare_create(&mut definition, &env());
    definition
}

fn settled(mut definition: Value, others: &[&Value]) -> Value {
    if let Some(status) = settle(&definition, others, NOW) {
        definition["status"] = status;
    }
    definition
}

fn condition<'v>(definition: &'v Value, ty: &str) -> &'v Value {
    let conditions = definition["status"]["conditions"].as_array().expect("are set");
    conditions.iter().find(|condition| condition["type"] == ty).expect("is set")
}

fn kind() -> Kind {
    let definition = settled(definition("widgets", "Widget"), &[]);
    Kind::Custom(CustomKind::of(&definition, 1).remove(0).into())
}

#[test]
fn a_definition_that_is_right_is_established() {
    // CR1, CR3.
    let definition = definition("widgets", "Widget");
    assert_eq!(definition::validate_create(&definition, &env()), []);
    assert_eq!(definition["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let settled = settled(definition, &[]);
    assert_eq!(condition(&settled, "Established")["reason"], "InitialNamesAccepted");
    assert_eq!(settled["status"]["acceptedNames"]["singular"], "widget");
    assert_eq!(settle(&settled, &[], "later"), None);
    let kinds = CustomKind::of(&settled, 1);
    let versions: Vec<&str> = kinds.iter().map(|kind| kind.version.as_str()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    assert_eq!(kinds[1].deprecation, "example.com/v1beta1 Widget is deprecated");
}

#[test]
fn names_in_use_are_not_accepted() {
    // CR3.
    let first = settled(definition("widgets", "Widget"), &[]);
    let second = settled(definition("gadgets", "Widget"), &[&first]);
    let accepted = condition(&second, "NamesAccepted");
    assert_eq!(accepted["status"], "False");
    assert_eq!(accepted["message"], "\"wd\" is already in use");
    assert_eq!(condition(&second, "Established")["reason"], "NotAccepted");
    assert!(!is_established(&second));
    // As soon as the other is gone they are free.
    assert!(is_established(&settled(second, &[])));
}

#[test]
fn mistakes_in_definitions_are_refused() {
    // CR1, CR2.
    let change = |pointer: &str, value: Value| {
        let mut definition = definition("widgets", "Widget");
        crate::rules::fields::set(&mut definition, pointer, value);
        definition
    };
    let version = |field: &str, value: Value| {
        let mut definition = definition("widgets", "Widget");
        definition["spec"]["versions"][1][field] = value;
        definition
    };
    let rows = [
        (change("/metadata/name", "x".into()), "metadata.name", Invalid),
        (
            {
                let mut definition = change("/spec/group", "x.k8s.io".into());
                definition["metadata"]["name"] = "widgets.x.k8s.io".into();
                definition
            },
            "metadata.annotations[api-approved.kubernetes.io]",
            Required,
        ),
        (change("/spec/scope", Value::Null), "spec.scope", Required),
        (change("/spec/names/listKind", "Widget".into()), "spec.names.listKind", Invalid),
        (change("/spec/preserveUnknownFields", true.into()), "spec.preserveUnknownFields", Invalid),
        (version("storage", false.into()), "spec.versions", Invalid),
        (version("schema", Value::Null), "spec.versions[1].schema.openAPIV3Schema", Required),
        (
            version(
                "subresources",
                json!({ "scale": {
                    "specReplicasPath": ".size", "statusReplicasPath": ".status.size",
                }}),
            ),
            "spec.versions[1].subresources.scale.specReplicasPath",
            Invalid,
        ),
        (
            version("selectableFields", json!([{ "jsonPath": ".metadata.name" }])),
            "spec.versions[1].selectableFields[0].jsonPath",
            Forbidden,
        ),
    ];
    for (mut definition, field, reason) in rows {
        if field.ends_with("openAPIV3Schema") {
            definition["spec"]["versions"][1]["selectableFields"] = Value::Null;
        }
        let errors = definition::validate_create(&definition, &env());
        assert_eq!(outcome(&errors), [(field, reason)]);
    }
}

#[test]
fn names_and_scope_stay_and_so_do_versions_that_hold_objects() {
    // CR1.
    let old = settled(definition("widgets", "Widget"), &[]);
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    let errors = definition::validate_update(&new, &old, &env());
    assert_eq!(outcome(&errors), [("spec.scope", Invalid)]);
    let mut new = old.clone();
    new["spec"]["versions"] = json!([new["spec"]["versions"][0]]);
    new["spec"]["versions"][0]["storage"] = true.into();
    definition::prepare_update(&mut new, &old, &env());
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    let errors = definition::validate_update(&new, &old, &env());
    assert_eq!(outcome(&errors), [("status.storedVersions[0]", Invalid)]);
}

#[test]
fn the_generation_follows_the_content_and_the_status_stays_apart() {
    // CR8.
    let kind = kind();
    let env: Env = env();
    let mut old = json!({
        "metadata": { "name": "w", "namespace": "n" }, "spec": { "size": 1 }, "status": { "size": 9 },
    });
    kind.prepare_create(&mut old, &env);
    assert_eq!((&old["metadata"]["generation"], &old["status"]), (&json!(1), &Value::Null));
    old["status"] = json!({ "size": 1 });
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    labelled["status"] = json!({ "size": 5 });
    kind.prepare_update(&mut labelled, &old, &env);
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert_eq!(labelled["status"]["size"], 1);
    let mut grown = old.clone();
    grown["spec"]["size"] = 2.into();
    kind.prepare_update(&mut grown, &old, &env);
    assert_eq!(grown["metadata"]["generation"], 2);
    let mut status = grown.clone();
    status["status"]["size"] = 7.into();
    status["metadata"]["labels"] = json!({ "a": "b" });
    kind.prepare_status(&mut status, &old, &env);
    assert_eq!((&status["spec"]["size"], &status["status"]["size"]), (&json!(1), &json!(7)));
    assert_eq!(status["metadata"]["labels"], Value::Null);
}

#[test]
fn columns_scale_and_selectors_are_read_off_the_paths() {
    // CR9.
    let kind = kind();
    let object = json!({ "metadata": { "name": "w" }, "spec": { "size": 3, "color": "red" } });
    let names: Vec<&str> = kind.columns().iter().map(|column| column.name).collect();
    assert_eq!(names, ["Name", "Size"]);
    assert_eq!(kind.cells(&object, 0), [json!("w"), json!(3)]);
    let Kind::Custom(custom) = &kind else { panic!("is custom") };
    assert_eq!(custom.selectable_fields(&object), [("spec.color".to_owned(), "red".to_owned())]);
    let scale = custom.scale.as_ref().expect("is declared");
    assert_eq!((scale.wanted(&object), scale.present(&object)), (Some(3), 0));
}

#[test]
fn rules_that_are_not_enforced_are_warned_of() {
    // CR11.
    let mut definition = definition("widgets", "Widget");
    assert_eq!(definition::warnings(&definition, None), Vec::<String>::new());
    definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{ "rule": "true" }]);
    assert_eq!(definition::warnings(&definition, None).len(), 1);
}

#[test]
fn versions_are_preferred_as_kubernetes_prefers_them() {
    let mut versions =
        ["foo", "v1", "v10", "v2beta1", "v1alpha1", "v2", "v2beta2"].map(str::to_owned).to_vec();
    versions.sort_by_key(|version| priority(version));
    assert_eq!(versions, ["v10", "v2", "v1", "v2beta2", "v2beta1", "v1alpha1", "foo"]);
}
