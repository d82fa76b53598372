//! Round trips over the schema, and bytes of a real client.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::schema::{Scalar, Shape};

#[test]
fn bodies_as_kubectl_sends_them() {
    let namespace = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x19\n\x11\n\x01x\x12\0\x1a\0\"\0*\0\
        \x32\x008\0B\0\x12\0\x1a\x02\n\0\x1a\0\"\0";
    let expected = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}, "spec": {},
        "status": {}
    });
    assert_eq!(decode(namespace), Ok(expected));

    let service =
        b"k8s\0\n\r\n\x02v1\x12\x07Service\x12j\n\x1f\n\x03web\x12\0\x1a\0\"\0*\x002\x008\0B\0\
        Z\n\n\x03app\x12\x03web\x12C\n\x1d\n\x0780-8080\x12\x03TCP\x18P\"\x07\x08\0\x10\x90?\
        \x1a\0(\x80\xeb\x01\x12\n\n\x03app\x12\x03web\x1a\0\"\x08NodePort:\0B\0R\0Z\0`\0h\0\
        \x1a\x02\n\0\x1a\0\"\0";
    let expected = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080,
                "nodePort": 30080}],
            "selector": {"app": "web"}, "type": "NodePort"
        },
        "status": {"loadBalancer": {}}
    });
    assert_eq!(decode(service), Ok(expected));

    let token =
        b"k8s\0\n(\n\x18authentication.k8s.io/v1\x12\x0cTokenRequest\x12\x1a\n\x10\n\0\x12\0\
        \x1a\0\"\0*\x002\x008\0B\0\x12\0\x1a\x04\n\0\x12\0\x1a\0\"\0";
    let decoded = decode(token).expect("is a TokenRequest");
    assert_eq!(decoded["spec"], json!({}));
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
        Shape::Or(object, other) => {
            let one = if seed().is_multiple_of(2) { object } else { other };
            sample(one, seed, depth)
        }
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
            Scalar::Bytes => "AAEC".into(),
            Scalar::Time => "2024-05-05T05:05:06Z".into(),
            Scalar::MicroTime => "2024-05-05T05:05:06.000007Z".into(),
            Scalar::Quantity => "100m".into(),
            Scalar::IntOrString if seed().is_multiple_of(2) => 80.into(),
            Scalar::IntOrString => "http".into(),
            Scalar::FieldsV1 => json!({"f:a": {}}),
            Scalar::Float64 => (f64::from(seed() % 100) / 4.0).into(),
            Scalar::Json => json!({"a": [1, null]}),
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
