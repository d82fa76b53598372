//! Admission plugin `ServiceAccount`: every pod is somebody, and its containers find the proof
//! (kubernetes plugin/pkg/admission/serviceaccount).

use serde_json::{Map, Value, json};
use wire::kinds::Kind;
use wire::status;

use super::Registry;
use crate::api::Request;
use crate::meta;
use crate::refusal::Outcome;

/// Where client libraries look for a pod's credentials.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the names of the volumes begin with.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// The account of pods that name none; the server keeps one in every Namespace.
const DEFAULT_ACCOUNT: &str = "default";
/// The wish of a pod or, when it has none, of its account.
const AUTOMOUNT: &str = "automountServiceAccountToken";

impl Registry {
    /// Gives a new pod its account and, unless pod or account do not want it, a volume with
    /// token, authority and namespace in every container.
    pub(super) fn admit_service_account(
        &self,
        request: &Request,
        object: &mut Value,
    ) -> Outcome<()> {
        let row = &request.kind;
        let is_new_pod =
            row.group().is_empty() && row.plural() == "pods" && request.subresource().is_empty();
        if !is_new_pod || !self.config.service_account_admission {
            return Ok(());
        }
        let pod_name = meta::text(object, "name").to_owned();
        let Some(spec) = object["spec"].as_object_mut() else { return Ok(()) };
        let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => DEFAULT_ACCOUNT.to_owned(),
        };
        spec.insert("serviceAccountName".to_owned(), name.clone().into());
        spec.insert("serviceAccount".to_owned(), name.clone().into());
        let account = self.service_account(row, request.namespace(), &name, &pod_name)?;
        let wishes = [spec.get(AUTOMOUNT), account.get(AUTOMOUNT)];
        if wishes.into_iter().flatten().find_map(Value::as_bool).unwrap_or(true) {
            mount_token(spec);
        }
        Ok(())
    }

    /// An account; the default one is on its way when it is not there yet.
    fn service_account(
        &self,
        pods: &Kind,
        namespace: &str,
        name: &str,
        pod: &str,
    ) -> Outcome<Value> {
        let found = self.resources.find("", "serviceaccounts");
        let found = found.and_then(|row| self.get(row, namespace, name));
        match found {
            Some(account) => Ok((*account.value()).clone()),
            None if name == DEFAULT_ACCOUNT => Ok(Value::Null),
            None => {
                let why = format!(
                    "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
                );
                Err(status::forbidden(pods.group(), pods.plural(), pod, &why).into())
            }
        }
    }
}

/// Mounts the credentials in every container that has nothing of its own in their place.
fn mount_token(spec: &mut Map<String, Value>) {
    let given = list(spec, "volumes").iter().find_map(|volume| {
        volume["name"].as_str().filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned)
    });
    let name = given.clone().unwrap_or_else(|| meta::generated(VOLUME_PREFIX));
    let mut is_needed = false;
    for containers in ["initContainers", "containers"] {
        let containers = spec.get_mut(containers).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let mounts = list(container, "volumeMounts");
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH }));
                is_needed = true;
            }
        }
    }
    if is_needed && given.is_none() {
        list(spec, "volumes").push(volume(&name));
    }
    if list(spec, "volumes").is_empty() {
        spec.remove("volumes");
    }
}

/// Token, certificate authority and namespace as files.
fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
                { "downwardAPI": { "items": [{
                    "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                }] } },
            ],
        },
    })
}

/// A list of an object, made when missing.
fn list<'a>(object: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let value = object.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("was made a list two lines above"),
    }
}
