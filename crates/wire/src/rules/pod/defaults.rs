//! Defaults of pods and pod templates (`pkg/apis/core/v1/defaults.go`).

use serde_json::{Value, json};

use crate::kinds::Env;
use crate::rules::fields::{self, Fields, items, set};

/// Fills defaults of a Pod.
pub(crate) fn default(pod: &mut Value, _: &Env) {
    if !pod.has("/spec") {
        set(pod, "/spec", json!({}));
    }
    for list in LISTS {
        for container in items(pod, &format!("/spec/{list}")).filter(|item| item.is_object()) {
            default_requests(container);
        }
    }
    if !pod.has("/spec/enableServiceLinks") {
        set(pod, "/spec/enableServiceLinks", true);
    }
    if let Some(spec) = pod.get_mut("spec") {
        default_spec(spec);
    }
    default_ips(pod);
}

/// Fills defaults of a workload's `spec.template`.
pub(crate) fn default_template(workload: &mut Value) {
    if !workload.has("/spec/template") {
        set(workload, "/spec/template", json!({}));
    }
    if !workload.has("/spec/template/metadata") {
        set(workload, "/spec/template/metadata", json!({}));
    }
    if !workload.has("/spec/template/spec") {
        set(workload, "/spec/template/spec", json!({}));
    }
    if let Some(spec) = workload.pointer_mut("/spec/template/spec") {
        default_spec(spec);
    }
}

/// `podIP` and the first of `podIPs` are one; where they differ the former counts.
pub(super) fn default_ips(pod: &mut Value) {
    let single = pod.text("/status/podIP").to_owned();
    let first = pod.list("/status/podIPs").first().map(|entry| entry.text("/ip").to_owned());
    match first {
        Some(first) if single.is_empty() => set(pod, "/status/podIP", first),
        Some(first) if first == single => {}
        _ if !single.is_empty() => set(pod, "/status/podIPs", json!([{ "ip": single }])),
        _ => {}
    }
}

fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    fields::default(spec, "/restartPolicy", "Always");
    fields::default(spec, "/terminationGracePeriodSeconds", 30);
    fields::default(spec, "/dnsPolicy", "ClusterFirst");
    fields::default(spec, "/schedulerName", "default-scheduler");
    if !spec.has("/securityContext") {
        set(spec, "/securityContext", json!({}));
    }
    let account = spec.text("/serviceAccountName").to_owned();
    let old_account = spec.text("/serviceAccount").to_owned();
    match (account.is_empty(), old_account.is_empty()) {
        (false, _) => set(spec, "/serviceAccount", account),
        (true, false) => set(spec, "/serviceAccountName", old_account),
        (true, true) => {}
    }
    let host_network = spec.flag("/hostNetwork");
    for list in LISTS {
        for container in items(spec, &format!("/{list}")).filter(|item| item.is_object()) {
            default_container(container, host_network);
        }
    }
    for volume in items(spec, "/volumes").filter(|item| item.is_object()) {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    for port in items(container, "/ports").filter(|item| item.is_object()) {
        fields::default(port, "/protocol", "TCP");
        if host_network && port.int("/hostPort") == 0 {
            let number = port.int("/containerPort");
            set(port, "/hostPort", number);
        }
    }
    if !container.has("/resources") {
        set(container, "/resources", json!({}));
    }
    fields::default(container, "/terminationMessagePath", "/dev/termination-log");
    fields::default(container, "/terminationMessagePolicy", "File");
    let policy = pull_policy(container.text("/image"));
    fields::default(container, "/imagePullPolicy", policy);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(action) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            default_http(action);
        }
    }
    for variable in items(container, "/env") {
        if variable.has("/valueFrom/fieldRef") {
            fields::default(variable, "/valueFrom/fieldRef/apiVersion", "v1");
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (name, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        let pointer = format!("/{name}");
        if probe.int(&pointer) == 0 {
            set(probe, &pointer, value);
        }
    }
    if let Some(action) = probe.get_mut("httpGet") {
        default_http(action);
    }
    if probe.has("/grpc") && !probe.has("/grpc/service") {
        set(probe, "/grpc/service", "");
    }
}

fn default_http(action: &mut Value) {
    if action.is_object() {
        fields::default(action, "/path", "/");
        fields::default(action, "/scheme", "HTTP");
    }
}

fn default_volume(volume: &mut Value) {
    let only_named =
        volume.as_object().is_some_and(|fields| fields.keys().all(|key| key == "name"));
    if only_named {
        set(volume, "/emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        let mode = format!("/{source}/defaultMode");
        if volume.has(&format!("/{source}")) && !volume.has(&mode) {
            set(volume, &mode, 0o644);
        }
    }
    if volume.has("/hostPath") && !volume.has("/hostPath/type") {
        set(volume, "/hostPath/type", "");
    }
    for source in items(volume, "/projected/sources") {
        let seconds = "/serviceAccountToken/expirationSeconds";
        if source.has("/serviceAccountToken") && !source.has(seconds) {
            set(source, seconds, 3600);
        }
    }
}

/// Requests that are missing are those of the limits.
fn default_requests(container: &mut Value) {
    let limits = container.at("/resources/limits").clone();
    for (name, limit) in limits.as_object().into_iter().flatten() {
        let known = container.at("/resources/requests").get(name).is_some();
        let name = name.replace('~', "~0").replace('/', "~1");
        if !known && !name.contains('~') {
            set(container, &format!("/resources/requests/{name}"), limit.clone());
        }
    }
}

/// Images without a tag, or with the tag `latest`, are pulled always.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let tag = match (name.contains('@'), name.split_once(':')) {
        (true, _) => "digest",
        (false, Some((_, tag))) => tag,
        (false, None) => "latest",
    };
    if tag == "latest" { "Always" } else { "IfNotPresent" }
}

const LISTS: [&str; 2] = ["containers", "initContainers"];
