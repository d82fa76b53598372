//! What clients look for in the documents.

use super::*;

fn core() -> Value {
    let body = document("", "v1").expect("core is served");
    serde_json::from_slice(body).expect("is JSON")
}

#[test]
fn kubectl_finds_field_validation_at_patch() {
    let document = core();
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"];
    let kind = json!({ "group": "", "version": "v1", "kind": "Service" });
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    let parameters = patch["parameters"].as_array().expect("has parameters");
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"));
}

#[test]
fn types_carry_merge_rules_values_and_requirements() {
    let document = core();
    let schemas = &document["components"]["schemas"];
    let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    let port = &schemas["io.k8s.api.core.v1.ServicePort"];
    assert_eq!(port["required"], json!(["port"]));
    assert_eq!(port["properties"]["protocol"]["enum"], json!(["SCTP", "TCP", "UDP"]));
    assert_eq!(port["properties"]["protocol"]["default"], "TCP");
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.push(target.clone());
                }
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    for body in documents().values().map(Vec::as_slice).chain([v2()]) {
        let document: Value = serde_json::from_slice(body).expect("is JSON");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}

#[test]
fn the_index_has_an_entry_for_each_group_and_version() {
    let paths = index()["paths"].as_object().expect("has paths");
    assert_eq!(paths.len(), documents().len());
    let url = paths["apis/discovery.k8s.io/v1"]["serverRelativeURL"].as_str();
    assert!(url.is_some_and(|u| u.starts_with("/openapi/v3/apis/discovery.k8s.io/v1?hash=")));
}
