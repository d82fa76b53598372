//! Round trips over the schema, and bytes of a real client.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::schema::{Scalar, Shape};

#[test]
fn a_namespace_as_kubectl_sends_it() {
    // `kubectl create namespace x`, with the empty fields that Go writes.
    let mut meta = vec![0x0a, 1, b'x'];
    for number in [2u8, 3, 4, 5, 6] {
        meta.extend([number << 3 | 2, 0]);
    }
    meta.extend([7 << 3, 0, 8 << 3 | 2, 0]);
    let mut raw = vec![0x0a, u8::try_from(meta.len()).expect("is short")];
    raw.extend(meta);
    raw.extend([0x12, 0, 0x1a, 2, 0x0a, 0]);
    let mut body = MAGIC.to_vec();
    body.extend(write::envelope("v1", "Namespace", &raw));
    let expected = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}, "spec": {},
        "status": {}
    });
    assert_eq!(decode(&body), Ok(expected));
}

#[test]
fn a_service_goes_there_and_back() {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "s", "creationTimestamp": "2024-05-05T05:05:06Z", "labels": {"a": "1", "b": ""},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]
        },
        "spec": {
            "ports": [
                {"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8080}
            ],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}},
            "allocateLoadBalancerNodePorts": false
        },
        "status": {"loadBalancer": {}}
    });
    let body = encode(&service).expect("is a Service");
    assert!(is_protobuf(&body));
    assert_eq!(decode(&body), Ok(service));
}

#[test]
fn inlined_fields_are_in_their_own_message() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {},
        "spec": {
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
        },
        "status": {}
    });
    assert_eq!(encode(&pod).and_then(|body| decode(&body)), Ok(pod));
}

#[test]
fn lists_and_statuses_have_their_forms() {
    let list = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList",
        "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "l"},
            "spec": {"renewTime": "2024-05-05T05:05:06.000007Z", "leaseDurationSeconds": 40}}]
    });
    assert_eq!(encode(&list).and_then(|body| decode(&body)), Ok(list));
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "NotFound", "code": 404, "details": {"name": "s"}
    });
    assert_eq!(encode(&status).and_then(|body| decode(&body)), Ok(status));
    assert!(encode(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"})).is_err());
}

#[test]
fn a_watch_frame_has_a_length_and_the_object_inside() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
    let frame = watch_frame("ADDED", &object).expect("is known");
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
    assert_eq!(length as usize, frame.len() - 4);
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    let body = encode(&object).expect("is known");
    assert!(frame.windows(body.len()).any(|w| w == body));
}

/// A value of a shape made of a few bytes of randomness.
fn sample(shape: &Shape, seed: &mut impl FnMut() -> u32, depth: usize) -> Value {
    match shape {
        Shape::Message(_) => {
            let ty = shape.message().expect("is a message");
            sample_message(ty, seed, depth)
        }
        Shape::List(inner) => (0..1 + seed() % 2).map(|_| sample(inner, seed, depth)).collect(),
        Shape::Map(inner) => {
            let entries =
                (0..1 + seed() % 2).map(|n| (format!("k{n}"), sample(inner, seed, depth)));
            Value::Object(entries.collect())
        }
        Shape::Scalar(scalar, _) => match scalar {
            Scalar::String => format!("t{}", seed() % 100).into(),
            Scalar::Int32 => (i64::from(seed() % 1000) - 500).into(),
            Scalar::Int64 => (i64::from(seed()) * 5 - 1_000_000).into(),
            Scalar::Bool => (seed().is_multiple_of(2)).into(),
            Scalar::Double => 1.5.into(),
            Scalar::Bytes => "AAEC".into(),
            Scalar::Time => "2024-05-05T05:05:06Z".into(),
            Scalar::MicroTime => "2024-05-05T05:05:06.000007Z".into(),
            Scalar::Quantity => "100m".into(),
            Scalar::IntOrString if seed().is_multiple_of(2) => 80.into(),
            Scalar::IntOrString => "http".into(),
            Scalar::FieldsV1 | Scalar::RawExtension => json!({"f:a": {}}),
            Scalar::Duration => "1m30s".into(),
        },
    }
}

fn sample_message(ty: &Type, seed: &mut impl FnMut() -> u32, depth: usize) -> Value {
    let mut object = Map::new();
    for field in &ty.fields {
        if depth > 0 && seed().is_multiple_of(4) {
            object.insert(field.name.to_owned(), sample(&field.shape, seed, depth - 1));
        }
    }
    Value::Object(object)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kind_goes_there_and_back(mut seed in any::<u32>()) {
        let mut next = || { seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); seed >> 8 };
        for (gvk, ty) in Schema::get().kinds() {
            let mut object = sample_message(ty, &mut next, 7);
            object["apiVersion"] = gvk.api_version().into();
            object["kind"] = gvk.kind.into();
            normalise(&mut object, ty);
            let body = encode(&object).expect("is of its type");
            prop_assert_eq!(decode(&body), Ok(object));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut body = MAGIC.to_vec();
        body.extend(write::envelope("v1", "Pod", &bytes));
        let _ = decode(&body);
        let mut body = MAGIC.to_vec();
        body.extend(bytes);
        let _ = decode(&body);
    }
}
