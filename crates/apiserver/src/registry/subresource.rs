//! scale, binding and eviction.

use serde_json::{Value, json};
use wire::apply::{self, Writer};
use wire::custom::ScalePaths;
use wire::decode::FieldValidation;
use wire::kinds::Kind;
use wire::patch::{self, Patch, PatchKind};
use wire::schema::Gvk;
use wire::status::{self, CauseReason, FieldError};

use super::Registry;
use super::update::{Change, Written, shown};
use crate::api::{Answer, PatchType, Request, Stored, Verb};
use crate::meta;
use crate::refusal::{Outcome, Refusal, modified, not_found, storage};
use crate::store::{CommitError, Transaction};

const SCALE: Gvk<'_> = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };

impl Registry {
    /// GET of `scale`.
    pub(super) fn read_scale(&self, request: &Request) -> Outcome<Answer> {
        let record = self
            .store
            .get(&self.key(request))
            .ok_or_else(|| not_found(&request.kind, request.name()))?;
        Ok(answer(200, scale_of(&request.kind, &shown(&request.kind, &record))))
    }

    /// PUT and PATCH of `scale`: a change of `spec.replicas` and nothing else.
    pub(super) async fn write_scale(&self, request: &Request) -> Outcome<Answer> {
        let row = &request.kind;
        loop {
            let record =
                self.store.get(&self.key(request)).ok_or_else(|| not_found(row, request.name()))?;
            let old = shown(row, &record);
            let scale = changed_scale(request, &scale_of(row, &old))?;
            let wanted = meta::text(&scale, "resourceVersion");
            let is_conditional = !wanted.is_empty() && wanted != "0";
            if is_conditional && wanted != record.version.to_string() {
                return Err(modified(row, request.name()));
            }
            let mut new = old.clone();
            set_replicas(row, &mut new, replicas(&scale)?);
            let now = meta::seconds(jiff::Timestamp::now());
            let writer = Writer { manager: request.manager(), subresource: "scale", now: &now };
            apply::track_update(Some(&old), &mut new, row.form(), &writer);
            let is_patch = request.verb != Verb::Update;
            let change = Change {
                request,
                record: &record,
                old: &old,
                new,
                is_conditional: is_conditional && !is_patch,
                warnings: Vec::new(),
            };
            match self.write(change).await? {
                Written::Done(Answer::Object { code, object, .. }) => {
                    return Ok(answer(code, scale_of(row, &object.value())));
                }
                Written::Done(other) => return Ok(other),
                Written::Again => {}
            }
        }
    }

    /// POST of a `binding`: the scheduler's decision for a pod.
    pub(super) async fn bind(&self, request: &Request) -> Outcome<Answer> {
        let (row, name) = (&request.kind, request.name());
        let binding = request.body.clone().unwrap_or_default();
        let node = binding["target"]["name"].as_str().unwrap_or("");
        check_binding(name, &binding)?;
        loop {
            let record = self.store.get(&self.key(request)).ok_or_else(|| not_found(row, name))?;
            let mut pod = record.value();
            check_bindable(request, &binding, &pod)?;
            bind_pod(&mut pod, &binding, node);
            if request.options.dry_run {
                return Ok(success());
            }
            let mut transaction = Transaction::default();
            transaction.replace(self.key(request), record.version, pod);
            match self.store.commit(transaction).await {
                Ok(_) => return Ok(success()),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(storage(&error)),
            }
        }
    }

    /// POST of an `eviction`. There are no PodDisruptionBudgets: it is a DELETE.
    pub(super) async fn evict(&self, request: &Request) -> Outcome<Answer> {
        let body = request.body.clone().unwrap_or_default();
        let mut delete = request.clone();
        delete.verb = Verb::Delete;
        delete.subresource = None;
        delete.body = Some(body["deleteOptions"].clone());
        self.delete(&delete).await?;
        Ok(success())
    }
}

/// The `autoscaling/v1` Scale of an object.
fn scale_of(kind: &Kind, object: &Value) -> Value {
    let old = &object["metadata"];
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !old[field].is_null() {
            metadata.insert(field.to_owned(), old[field].clone());
        }
    }
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let (wanted, present, selector) = match custom_scale(kind) {
        Some(paths) => {
            let selector = paths.selector(object).to_owned();
            (paths.wanted(object).unwrap_or(0), paths.present(object), selector)
        }
        None => (
            number(&object["spec"]["replicas"]),
            number(&object["status"]["replicas"]),
            selector_text(&object["spec"]["selector"]),
        ),
    };
    let mut spec = json!({});
    if wanted != 0 {
        spec["replicas"] = wanted.into();
    }
    let mut status = json!({ "replicas": present });
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}

fn set_replicas(kind: &Kind, object: &mut Value, replicas: i64) {
    match custom_scale(kind) {
        Some(paths) => paths.set_wanted(object, replicas),
        None => object["spec"]["replicas"] = replicas.into(),
    }
}

/// Where a custom resource has its numbers.
fn custom_scale(kind: &Kind) -> Option<&ScalePaths> {
    match kind {
        Kind::Custom(custom) => custom.scale.as_ref(),
        Kind::BuiltIn(_) => None,
    }
}

fn changed_scale(request: &Request, old: &Value) -> Outcome<Value> {
    let body = request.body.clone().unwrap_or_default();
    let kind = match request.verb {
        Verb::Patch(PatchType::Json) => PatchKind::Json,
        Verb::Patch(PatchType::Merge) => PatchKind::Merge,
        Verb::Patch(PatchType::Strategic) => PatchKind::Strategic,
        _ => return Ok(body),
    };
    let validation = FieldValidation::parse(&request.options.field_validation).unwrap_or_default();
    let patch = Patch { value: body, strict: request.strict.clone() };
    Ok(patch::patch(kind, old, &patch, SCALE, validation)?.value)
}

fn replicas(scale: &Value) -> Outcome<i64> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error = FieldError {
            field: "spec.replicas".to_owned(),
            reason: CauseReason::Invalid,
            message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        };
        let name = meta::text(scale, "name");
        return Err(status::invalid("autoscaling", "Scale", name, &[error]).into());
    }
    Ok(replicas)
}

/// A LabelSelector as `status.selector` spells it.
fn selector_text(selector: &Value) -> String {
    let mut terms = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or("")));
    }
    for requirement in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = requirement["key"].as_str().unwrap_or("");
        let values = requirement["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        terms.push(match requirement["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

fn check_binding(name: &str, binding: &Value) -> Outcome<()> {
    let error = |field: &str, reason, message: &str| FieldError {
        field: field.to_owned(),
        reason,
        message: message.to_owned(),
    };
    let target = &binding["target"];
    let mut errors = Vec::new();
    if !matches!(target["kind"].as_str(), None | Some("" | "Node")) {
        let text = "Unsupported value: supported values: \"Node\", \"<empty>\"";
        errors.push(error("target.kind", CauseReason::NotSupported, text));
    }
    if target["name"].as_str().unwrap_or("").is_empty() {
        errors.push(error("target.name", CauseReason::Required, "Required value"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid("", "Binding", name, &errors).into())
}

fn check_bindable(request: &Request, binding: &Value, pod: &Value) -> Outcome<()> {
    let (row, name) = (&request.kind, request.name());
    let refuse =
        |why: &str| -> Refusal { status::conflict(row.group(), "pods/binding", name, why).into() };
    let wanted = meta::text(binding, "uid");
    let uid = meta::text(pod, "uid");
    if !wanted.is_empty() && wanted != uid {
        return Err(refuse(&format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        )));
    }
    if meta::is_deleting(pod) {
        return Err(refuse(&format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    match pod["spec"]["nodeName"].as_str().unwrap_or("") {
        "" => Ok(()),
        node => {
            Err(refuse(&format!("pod {name} is already assigned to node {}", status::quote(node))))
        }
    }
}

fn bind_pod(pod: &mut Value, binding: &Value, node: &str) {
    pod["spec"]["nodeName"] = node.into();
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    let now = meta::seconds(jiff::Timestamp::now());
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions.push(scheduled);
    }
}

fn success() -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    answer(201, status)
}

fn answer(code: u16, object: Value) -> Answer {
    let object = Stored { json: object.to_string().into(), value: Some(object.into()) };
    Answer::Object { code, object, warnings: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let deployment = json!({
            "metadata": { "name": "d", "labels": { "no": "labels" } },
            "spec": { "replicas": 3, "selector": {
                "matchLabels": { "app": "web" },
                "matchExpressions": [{ "key": "t", "operator": "In", "values": ["a", "b"] }],
            }},
            "status": { "replicas": 2 },
        });
        let scale =
            scale_of(&wire::kinds::find("apps", "v1", "deployments").unwrap().into(), &deployment);
        assert_eq!(scale["spec"], json!({ "replicas": 3 }));
        assert_eq!(scale["status"], json!({ "replicas": 2, "selector": "app=web,t in (a,b)" }));
        assert_eq!(scale["metadata"], json!({ "name": "d" }));
    }
}
