//! Recorded answers of a real server, and the forms objects take.

use serde_json::json;

use super::*;

const SERVICE: Gvk<'static> = Gvk { group: "", version: "v1", kind: "Service" };

fn decode(body: &str, validation: FieldValidation) -> Result<Decoded, Failure> {
    object(body.as_bytes(), ContentType::Json, SERVICE, validation)
}

fn refusal(body: &str) -> String {
    decode(body, FieldValidation::Strict).expect_err("must be refused").message
}

#[test]
fn absent_structs_are_written_and_empty_values_are_not() {
    let body = r#"{"metadata":{"name":"s","labels":{}},"spec":{"ports":[{"port":80}],"type":""}}"#;
    let decoded = decode(body, FieldValidation::Warn).expect("is a Service");
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80}]}, "status": {"loadBalancer": {}}
        })
    );
}

#[test]
fn pointers_keep_their_zero() {
    let body =
        r#"{"spec":{"allocateLoadBalancerNodePorts":false,"publishNotReadyAddresses":false}}"#;
    let decoded = decode(body, FieldValidation::Warn).expect("is a Service");
    assert_eq!(decoded.value["spec"], json!({"allocateLoadBalancerNodePorts": false}));
}

#[test]
fn body_null_is_an_empty_object() {
    let decoded = decode("null", FieldValidation::Strict).expect("is a Service");
    assert_eq!(decoded.value["kind"], "Service");
}

#[test]
fn unknown_and_duplicate_fields_warn_in_document_order() {
    let body =
        r#"{"metadata":{"name":"s","name":"s"},"spec":{"ports":[{"port":80,"x":1}],"Type":1}}"#;
    let decoded = decode(body, FieldValidation::Warn).expect("is a Service");
    assert_eq!(
        decoded.warnings,
        [
            "duplicate field \"metadata.name\"",
            "unknown field \"spec.ports[0].x\"",
            "unknown field \"spec.Type\""
        ]
    );
    assert!(decode(body, FieldValidation::Ignore).is_ok_and(|d| d.warnings.is_empty()));
    assert!(
        refusal(body).contains("strict decoding error: duplicate field \"metadata.name\", unk")
    );
}

#[test]
fn a_kind_of_another_group_is_not_registered() {
    assert_eq!(
        refusal(r#"{"apiVersion":"apps/v1","kind":"Service"}"#),
        "Service in version \"v1\" cannot be handled as a Service: no kind \"Service\" is \
         registered for version \"apps/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    assert_eq!(
        refusal(r#"{"apiVersion":"v1","kind":"ServiceList"}"#),
        "ServiceList in version \"v1\" cannot be handled as a Service: converting \
         (v1.ServiceList) to (core.Service): unknown conversion"
    );
}

#[test]
fn a_body_that_cannot_be_read_is_quoted() {
    assert_eq!(
        refusal(r#"{"apiVersion":"v1","kind":"Service""#),
        "the object provided is unrecognized (must be of type Service): couldn't get \
         version/kind; json parse error: unexpected end of JSON input \
         ({\"apiVersion\":\"v1\",\"kind\":\"Ser ...)"
    );
}

#[test]
fn mismatches_name_the_go_field() {
    for (spec, expected) in [
        (
            r#"{"ports":[{"port":"http"}]}"#,
            "string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            r#"{"ports":[{"port":80.0}]}"#,
            "number 80.0 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            r#"{"selector":[]}"#,
            "array into Go struct field ServiceSpec.spec.selector of type map[string]string",
        ),
        (
            r#"{"ports":{"port":80}}"#,
            "object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
        (r#""x""#, "string into Go struct field Service.spec of type v1.ServiceSpec"),
        (
            r#"{"ports":[{"targetPort":true}]}"#,
            "bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
    ] {
        let message = refusal(&format!(r#"{{"spec":{spec}}}"#));
        let expected = format!("cannot be handled as a Service: json: cannot unmarshal {expected}");
        assert!(message.ends_with(&expected), "{message}");
    }
    let labels = refusal(r#"{"metadata":{"labels":{"a":1}}}"#);
    assert!(
        labels.ends_with("number into Go struct field ObjectMeta.metadata.labels of type string")
    );
}

#[test]
fn delete_options_of_any_known_group() {
    let body = br#"{"apiVersion":"apps/v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#;
    let options = delete_options(body, ContentType::Json).expect("is DeleteOptions");
    assert_eq!(options["gracePeriodSeconds"], 0);
    let bare = delete_options(br#"{"propagationPolicy":"Orphan"}"#, ContentType::Json);
    assert_eq!(bare.expect("is DeleteOptions")["propagationPolicy"], "Orphan");
    let service = delete_options(br#"{"apiVersion":"v1","kind":"Service"}"#, ContentType::Json);
    assert_eq!(service.expect_err("is a Service").code, 400);
}
