//! Requests and answers recorded from a real API server, replayed without a server: decode,
//! default, patch or apply, own, prepare, validate. Allocation is imitated with fixed values, so
//! allocated fields are not compared.

use portolan_wire::apply::{self, Writer};
use portolan_wire::decode::{self, ContentType, FieldValidation};
use portolan_wire::kinds::{self, Env, KindRow};
use portolan_wire::patch::{self, PatchKind};
use portolan_wire::rules::service;
use portolan_wire::schema::Gvk;
use portolan_wire::status::{self, Failure};
use serde_json::{Value, json};

const CASES: &str = include_str!("data/recorded.jsonl");

/// Cases whose recorded message says more than the status: YAML errors in another parser's words,
/// and texts that quote a whole object.
const OTHER_WORDS: [&str; 2] = ["did not find expected node", "cannot start any token"];

#[test]
fn recorded_writes_are_answered_alike() {
    let mut failures = Vec::new();
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).expect("the data is JSON");
        if let Err(why) = replay(&case) {
            failures.push(format!("{}: {why}", case["id"]));
        }
    }
    let (failed, of) = (failures.len(), CASES.lines().count());
    assert!(failures.is_empty(), "{failed} of {of}:\n{}", failures.join("\n"));
}

fn replay(case: &Value) -> Result<(), String> {
    let mut live = None;
    for step in case["steps"].as_array().into_iter().flatten() {
        let answer = answer(step, live.as_ref());
        let dry_run = !step["query"]["dryRun"].is_null();
        compare(&step["expect"], &answer).map_err(|why| format!("{why}\n  step {step}"))?;
        if let Ok((object, _)) = answer
            && !dry_run
        {
            live = Some(object);
        }
    }
    Ok(())
}

type Answer = Result<(Value, Vec<String>), Failure>;

fn answer(step: &Value, live: Option<&Value>) -> Answer {
    let path = step["path"].as_str().expect("has a path");
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, parts) = match parts[..] {
        ["api", "v1", "namespaces", _, ref rest @ ..] => ("", rest),
        ["apis", group, "v1", "namespaces", _, ref rest @ ..] => (group, rest),
        _ => panic!("unexpected path {path}"),
    };
    let row = kinds::find(group, "v1", parts[0]).expect("is served");
    let subresource = parts.get(2).copied().unwrap_or_default();
    let body = match &step["raw"] {
        Value::String(raw) => raw.clone().into_bytes(),
        _ => step["body"].to_string().into_bytes(),
    };
    let query = |name: &str| step["query"][name].as_str().unwrap_or_default();
    let Some(validation) = FieldValidation::parse(query("fieldValidation")) else {
        return Err(Failure { code: 422, ..status::bad_request("") });
    };
    let manager = match query("fieldManager") {
        "" => "vectors",
        named => named,
    };
    let writer = Writer { manager, subresource, now: "2026-01-01T00:00:00Z" };
    let request = Request { row, writer, validation, force: query("force") == "true" };
    let content = step["contentType"].as_str().unwrap_or("application/json");
    match content {
        "application/json" | "application/yaml" => request.write(&body, content, live),
        "application/apply-patch+yaml" => request.apply(&body, live),
        _ => request.patch(&body, content, live),
    }
}

struct Request<'a> {
    row: &'static KindRow,
    writer: Writer<'a>,
    validation: FieldValidation,
    force: bool,
}

impl Request<'_> {
    fn gvk(&self) -> Gvk<'static> {
        Gvk { group: self.row.group, version: self.row.version, kind: self.row.kind }
    }

    fn write(&self, body: &[u8], content: &str, live: Option<&Value>) -> Answer {
        let content = match content {
            "application/yaml" => ContentType::Yaml,
            _ => ContentType::Json,
        };
        let decoded = decode::object(body, content, self.gvk(), self.validation)?;
        self.finish(decoded.value, decoded.warnings, live, true)
    }

    fn patch(&self, body: &[u8], content: &str, live: Option<&Value>) -> Answer {
        let kind = match content {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            _ => PatchKind::Strategic,
        };
        let missing = || status::not_found(self.row.group, self.row.plural, "s");
        let live = live.ok_or_else(missing)?;
        let patch = patch::parse(kind, body)?;
        let patched = patch::patch(kind, live, &patch, self.gvk(), self.validation)?;
        self.finish(patched.value, patched.warnings, Some(live), true)
    }

    fn apply(&self, body: &[u8], live: Option<&Value>) -> Answer {
        let config = apply::parse(body, self.validation)?;
        let new = apply::apply(live, &config.value, self.gvk(), &self.writer, self.force)?;
        self.finish(new, config.warnings, live, false)
    }

    /// What follows on every write.
    fn finish(
        &self,
        mut new: Value,
        warnings: Vec<String>,
        live: Option<&Value>,
        track: bool,
    ) -> Answer {
        let (row, env) = (self.row, env());
        new["metadata"]["namespace"] = "ns".into();
        (row.default)(&mut new, &env);
        if track {
            apply::track_update(live, &mut new, self.gvk(), &self.writer);
        }
        let errors = match (live, self.writer.subresource) {
            (None, _) => {
                (row.prepare_create)(&mut new, &env);
                (row.validate_create)(&new, &env)
            }
            (Some(old), "status") => {
                (row.prepare_status)(&mut new, old, &env);
                (row.validate_status)(&new, old, &env)
            }
            (Some(old), _) => {
                for key in ["uid", "creationTimestamp"] {
                    if new["metadata"][key].is_null() {
                        new["metadata"][key] = old["metadata"][key].clone();
                    }
                }
                (row.prepare_update)(&mut new, old, &env);
                if row.kind == "Service" {
                    service::patch_allocated_values(&mut new, old);
                    service::normalize_cluster_ips(&mut new, Some(old));
                }
                (row.validate_update)(&new, old, &env)
            }
        };
        if !errors.is_empty() {
            let name = new["metadata"]["name"].as_str().unwrap_or_default();
            return Err(status::invalid(row.group, row.kind, name, &errors));
        }
        if row.kind == "Service" {
            allocate(&mut new);
        }
        (row.default_on_read)(&mut new, &env);
        new["metadata"]["uid"] = "11111111-2222-3333-4444-000000000000".into();
        new["metadata"]["resourceVersion"] = "7".into();
        new["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        Ok((new, warnings))
    }
}

fn env() -> Env {
    let cidr = |text: &str| text.parse().expect("is a CIDR");
    Env {
        service_cidrs: vec![cidr("10.96.0.0/16"), cidr("fd00:10:96::/112")],
        node_ports: (30000, 32767),
        advertise: ([172, 30, 0, 1].into(), 6443),
    }
}

/// What the server fills in after the owners are known.
fn allocate(service: &mut Value) {
    let spec = &mut service["spec"];
    if spec["type"] == "ExternalName" || !spec["clusterIP"].is_null() {
        return;
    }
    let (ips, families) = match spec["ipFamilyPolicy"].as_str() {
        Some("RequireDualStack") => {
            (json!(["10.96.0.5", "fd00:10:96::5"]), json!(["IPv4", "IPv6"]))
        }
        _ => (json!(["10.96.0.5"]), json!(["IPv4"])),
    };
    spec["clusterIP"] = "10.96.0.5".into();
    spec["clusterIPs"] = ips;
    spec["ipFamilies"] = families;
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
}

fn compare(expect: &Value, answer: &Answer) -> Result<(), String> {
    let code = expect["code"].as_u64();
    let (object, warnings) = match answer {
        Err(failure) => {
            if code != Some(failure.code.into()) {
                return Err(format!("got {} {}", failure.code, failure.message));
            }
            return compare_messages(expect["message"].as_str().unwrap_or_default(), failure);
        }
        Ok(answer) => answer,
    };
    if code != Some(200) && code != Some(201) {
        return Err("was accepted".to_owned());
    }
    let expected_warnings = expect.get("warnings").cloned().unwrap_or_else(|| json!([]));
    if expected_warnings != json!(warnings) {
        return Err(format!("warnings {warnings:?}"));
    }
    let metadata = &object["metadata"];
    for (key, expected) in expect.as_object().into_iter().flatten() {
        let found = match key.as_str() {
            "code" | "warnings" | "message" => continue,
            "labels" | "annotations" | "finalizers" => metadata[key].clone(),
            "managedFields" => without_times(&metadata[key]),
            _ => object[key].clone(),
        };
        let (found, expected) = (comparable(found), comparable(expected.clone()));
        if found != expected {
            return Err(format!("{key}:\n  want {expected}\n  got  {found}"));
        }
    }
    Ok(())
}

fn compare_messages(expected: &str, failure: &Failure) -> Result<(), String> {
    let placeholders = expected.contains('<') || OTHER_WORDS.iter().any(|w| expected.contains(w));
    if expected.is_empty() || placeholders || failure.message.is_empty() {
        return Ok(());
    }
    if failure.message == expected { Ok(()) } else { Err(format!("said {}", failure.message)) }
}

fn without_times(managers: &Value) -> Value {
    let mut managers = managers.clone();
    for entry in managers.as_array_mut().into_iter().flatten() {
        entry.as_object_mut().map(|e| e.remove("time"));
    }
    managers
}

/// Leaves out what allocation would have set, and nulls.
fn comparable(mut value: Value) -> Value {
    if let Some(spec) = value.as_object_mut() {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(key);
        }
        spec.retain(|_, v| !v.is_null());
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|p| p.remove("nodePort"));
        }
    }
    if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value }
}
