//! `core/v1` Pod, as far as its users meet it, and the pod templates of workloads.

mod containers;
mod defaults;
mod resources;
mod validate;

use serde_json::{Value, json};

use super::error::{forbidden, invalid_shown};
use super::fields::{Fields, copy, items, remove, same, set};
use super::{ip, meta};
use crate::kinds::Env;
use crate::status::FieldError;

pub(crate) use defaults::{default, default_template};
pub(crate) use validate::{validate_create, validate_template};

/// A new Pod is Pending; it tolerates a short failure of its node (admission plugins
/// DefaultTolerationSeconds and Priority).
pub(crate) fn prepare_create(pod: &mut Value, _: &Env) {
    let class = resources::quality_of_service(pod);
    set(pod, "/status", json!({ "phase": "Pending", "qosClass": class }));
    tolerate_failures(pod);
    if !pod.has("/spec/priority") {
        set(pod, "/spec/priority", 0);
    }
    super::fields::default(pod, "/spec/preemptionPolicy", "PreemptLowerPriority");
    meta::start_generation(pod);
}

/// A changed Pod keeps its status.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, _: &Env) {
    copy(new, old, "status");
    let changed = !same(new.at("/spec"), old.at("/spec"));
    meta::carry_generation(new, old, changed);
}

/// A status write keeps the spec, the owners and the deletion.
pub(crate) fn prepare_status(new: &mut Value, old: &Value, env: &Env) {
    super::keep_all_but_status(new, old, env);
    for name in ["ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let pointer = format!("/metadata/{name}");
        match old.at(&pointer) {
            Value::Null => drop(remove(new, &pointer)),
            value => set(new, &pointer, value.clone()),
        }
    }
    if new.text("/status/qosClass").is_empty() {
        super::fields::copy_at(new, old, "/status/qosClass");
    }
    meta::carry_generation(new, old, false);
    defaults::default_ips(new);
}

/// All errors of a changed Pod: of its spec, little may change.
pub(crate) fn validate_update(new: &Value, old: &Value, env: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate_create(new, env));
    if !errors.is_empty() {
        return errors;
    }
    let (mut masked, old_spec) = (new.at("/spec").clone(), old.at("/spec"));
    for list in ["containers", "initContainers"] {
        let before = old_spec.list(&format!("/{list}"));
        for (container, before) in items(&mut masked, &format!("/{list}")).zip(before) {
            copy(container, before, "image");
        }
    }
    copy(&mut masked, old_spec, "activeDeadlineSeconds");
    let kept = old_spec.list("/tolerations");
    if kept.iter().all(|toleration| masked.list("/tolerations").contains(toleration)) {
        copy(&mut masked, old_spec, "tolerations");
    }
    if old_spec.int("/terminationGracePeriodSeconds") < 0
        && masked.int("/terminationGracePeriodSeconds") == 1
    {
        copy(&mut masked, old_spec, "terminationGracePeriodSeconds");
    }
    if !same(&masked, old_spec) {
        errors.push(forbidden("spec", IMMUTABLE_SPEC));
    }
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let addresses: Vec<&str> =
        new.list("/status/podIPs").iter().map(|entry| entry.text("/ip")).collect();
    let known: Vec<&str> =
        old.list("/status/podIPs").iter().map(|entry| entry.text("/ip")).collect();
    for (index, address) in addresses.iter().enumerate() {
        if !known.contains(address) {
            let field = format!("status.podIPs[{index}]");
            errors.extend(super::error::each(field, *address, ip::address(address)));
        }
    }
    let family = |address: &str| ip::parse_sloppy(address).map(|parsed| parsed.is_ipv4());
    let doubled = match addresses.as_slice() {
        [] | [_] => false,
        [first, second] => family(first) == family(second),
        _ => true,
    };
    if doubled && errors.is_empty() {
        let shown: Vec<Value> = addresses.iter().map(|address| json!({ "IP": address })).collect();
        let text = "may specify no more than one IP for each IP family";
        errors.push(invalid_shown("status.podIPs", &Value::from(shown).to_string(), text));
    }
    errors
}

/// Fields that field selectors may name.
pub(crate) fn selectable_fields(pod: &Value) -> Vec<(&'static str, String)> {
    let account = pod.text("/spec/serviceAccountName");
    vec![
        ("spec.nodeName", pod.text("/spec/nodeName").to_owned()),
        ("spec.restartPolicy", pod.text("/spec/restartPolicy").to_owned()),
        ("spec.schedulerName", pod.text("/spec/schedulerName").to_owned()),
        ("spec.serviceAccountName", account.to_owned()),
        ("spec.hostNetwork", pod.flag("/spec/hostNetwork").to_string()),
        ("status.phase", pod.text("/status/phase").to_owned()),
        ("status.podIP", pod.text("/status/podIP").to_owned()),
        ("status.nominatedNodeName", pod.text("/status/nominatedNodeName").to_owned()),
    ]
}

/// Seconds between deletion and the end: at once for pods without a node and finished ones.
pub(crate) fn grace_period(pod: &Value, requested: Option<i64>) -> i64 {
    let finished = ["Failed", "Succeeded"].contains(&pod.text("/status/phase"));
    if finished || pod.text("/spec/nodeName").is_empty() {
        return 0;
    }
    let seconds = requested.unwrap_or_else(|| pod.int("/spec/terminationGracePeriodSeconds"));
    if seconds < 0 { 1 } else { seconds }
}

fn tolerate_failures(pod: &mut Value) {
    let mut tolerations = pod.list("/spec/tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let own = toleration.text("/key");
            (own == key || own.is_empty())
                && ["NoExecute", ""].contains(&toleration.text("/effect"))
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    set(pod, "/spec/tolerations", tolerations);
}

const TOLERATION_SECONDS: u32 = 300;
const IMMUTABLE_SPEC: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{env, outcome};
    use crate::status::CauseReason;

    fn pod() -> Value {
        let mut pod = json!({
            "metadata": { "name": "p", "namespace": "default" },
            "spec": { "containers": [{ "name": "c", "image": "example.com/web:1" }] },
        });
        default(&mut pod, &env());
        pod
    }

    #[test]
    fn the_image_may_change_and_the_rest_may_not() {
        let old = pod();
        let mut new = old.clone();
        set(&mut new, "/spec/containers", json!([{ "name": "c", "image": "example.com/web:2" }]));
        default(&mut new, &env());
        assert_eq!(validate_update(&new, &old, &env()), []);
        set(&mut new, "/spec/nodeName", "n1");
        assert_eq!(validate_update(&new, &old, &env())[0].field, "spec");
    }

    #[test]
    fn bad_pods_are_refused_where_upstream_says() {
        use CauseReason::{Duplicate, Invalid, NotFound, NotSupported, Required};
        let rows = [
            ("/containers", json!([]), "spec.containers", Required),
            ("/restartPolicy", json!("Sometimes"), "spec.restartPolicy", NotSupported),
            ("/nodeSelector", json!({ "a b": "c" }), "spec.nodeSelector", Invalid),
            ("/containers/0/name", json!("C"), "spec.containers[0].name", Invalid),
            ("/containers/0/image", json!(""), "spec.containers[0].image", Required),
            ("/containers/0/image", json!(" a"), "spec.containers[0].image", Invalid),
            (
                "/containers/0/ports",
                json!([{ "containerPort": 80, "name": "a" }, { "containerPort": 81, "name": "a" }]),
                "spec.containers[0].ports[1].name",
                Duplicate,
            ),
            (
                "/containers/0/env",
                json!([{ "value": "a" }]),
                "spec.containers[0].env[0].name",
                Required,
            ),
            (
                "/containers/0/volumeMounts",
                json!([{ "name": "v", "mountPath": "/v" }]),
                "spec.containers[0].volumeMounts[0].name",
                NotFound,
            ),
            (
                "/containers/0/resources",
                json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1" } }),
                "spec.containers[0].resources.requests",
                Invalid,
            ),
            (
                "/containers/0/livenessProbe",
                json!({}),
                "spec.containers[0].livenessProbe",
                Required,
            ),
        ];
        for (pointer, value, field, reason) in rows {
            let mut pod = pod();
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            pod.pointer_mut(&format!("/spec{parent}")).expect("a parent")[name] = value;
            default(&mut pod, &env());
            assert_eq!(outcome(&validate_create(&pod, &env())), [(field, reason)], "{pointer}");
        }
    }

    #[test]
    fn a_new_pod_is_as_the_real_server_makes_it() {
        let mut pod = pod();
        prepare_create(&mut pod, &env());
        let expected = json!({ "phase": "Pending", "qosClass": "BestEffort" });
        assert_eq!(pod.at("/status"), &expected);
        assert_eq!(pod.list("/spec/tolerations").len(), 2);
        assert_eq!(pod.int("/metadata/generation"), 1);
        assert_eq!(validate_create(&pod, &env()), []);
    }

    #[test]
    fn a_pod_without_a_node_goes_at_once() {
        let mut pod = pod();
        assert_eq!(grace_period(&pod, Some(5)), 0);
        set(&mut pod, "/spec/nodeName", "n1");
        assert_eq!(grace_period(&pod, Some(5)), 5);
        assert_eq!(grace_period(&pod, None), 30);
    }

    #[test]
    fn addresses_of_one_family_are_refused() {
        let old = pod();
        let mut new = old.clone();
        let ips = json!([{ "ip": "10.244.1.1" }, { "ip": "10.244.1.2" }]);
        set(&mut new, "/status/podIPs", ips);
        let errors = validate_status(&new, &old, &env());
        let text = "Invalid value: [{\"IP\":\"10.244.1.1\"},{\"IP\":\"10.244.1.2\"}]: may specify \
                    no more than one IP for each IP family";
        assert_eq!(errors[0].message, text);
    }
}
