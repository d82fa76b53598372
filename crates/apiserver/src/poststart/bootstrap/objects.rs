//! The objects themselves, from the flags.

use model::Family;
use plan::allocate::AddressRange;
use serde_json::{Value, json};
use wire::kinds::Env;

/// ConfigMap with the certificate authority, in every Namespace.
pub(super) const ROOT_CERTIFICATE: &str = "kube-root-ca.crt";

/// ServiceCIDR `kubernetes`.
pub(super) fn service_cidr(env: &Env) -> Value {
    let cidrs: Vec<String> = env.service_cidrs.iter().map(ToString::to_string).collect();
    json!({ "spec": { "cidrs": cidrs } })
}

/// ConfigMap `kube-root-ca.crt`.
pub(super) fn root_certificate(certificate: &str) -> Value {
    json!({
        "metadata": { "annotations": {
            "kubernetes.io/description": "Contains a CA bundle that can be used to verify the \
                kube-apiserver when using internal endpoints such as the internal service IP or \
                kubernetes.default.svc. No other usage is guaranteed across distributions of \
                Kubernetes clusters.",
        }},
        "data": { "ca.crt": certificate },
    })
}

/// Service `default/kubernetes`: the first address of the primary range.
pub(super) fn service(env: &Env) -> Value {
    let primary = env.service_cidrs.first().copied().map(AddressRange::new);
    let address = primary.and_then(|range| range.first()).map(|address| address.to_string());
    let family = primary.map_or(Family::V4, |range| range.family());
    json!({
        "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": [family.as_str()],
            "sessionAffinity": "None",
            "ports": [{
                "name": "https", "protocol": "TCP", "port": 443, "targetPort": env.advertise.1,
            }],
        },
    })
}

/// Endpoints `default/kubernetes`; the slice is made here too, so nobody mirrors them.
pub(super) fn endpoints(env: &Env) -> Value {
    let (address, port) = env.advertise;
    json!({
        "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{
            "addresses": [{ "ip": address.to_string() }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    })
}

/// EndpointSlice `default/kubernetes`.
pub(super) fn slice(env: &Env) -> Value {
    let (address, port) = env.advertise;
    json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": Family::of(address).as_str(),
        "endpoints": [{
            "addresses": [address.to_string()],
            "conditions": { "ready": true },
        }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}
