//! Paths and operations of a served kind.

use serde_json::{Map, Value, json};

use super::custom::name_of;
use super::schemas::{V3, reference};
use crate::kinds::Kind;
use crate::schema::Gvk;

/// Paths of a kind. Names of the schemas they use are added to `used`.
pub(super) fn of(kind: &Kind, used: &mut Vec<String>) -> Map<String, Value> {
    let plural = kind.plural();
    let root = format!("/{}", super::path(kind.group(), kind.version()));
    let base = if kind.namespaced() {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let mut builder = Builder { kind, paths: Map::new(), used };
    let object = kind.gvk();
    let list_kind = kind.list_kind();
    let list = Gvk { kind: &list_kind, ..object };
    for verb in kind.verbs() {
        match *verb {
            "list" => {
                builder.add(&base, verb, object, list);
                if kind.namespaced() {
                    builder.add(&format!("{root}/{plural}"), verb, object, list);
                }
            }
            "create" | "deletecollection" => builder.add(&base, verb, object, object),
            _ => builder.add(&format!("{base}/{{name}}"), verb, object, object),
        }
    }
    for subresource in kind.subresources() {
        let body = kind.form_of(Some(subresource)).gvk;
        for verb in subresource.verbs {
            let path = format!("{base}/{{name}}/{}", subresource.name);
            builder.add(&path, verb, body, body);
        }
    }
    builder.paths
}

struct Builder<'u> {
    kind: &'u Kind,
    paths: Map<String, Value>,
    used: &'u mut Vec<String>,
}

impl Builder<'_> {
    /// Adds the operation of a verb to a path. Bodies without a schema have no operation.
    fn add(&mut self, path: &str, verb: &str, kind: Gvk<'_>, answer: Gvk<'_>) {
        let (Some(method), Some(body), Some(answer)) =
            (method(verb), name_of(self.kind, kind), name_of(self.kind, answer))
        else {
            return;
        };
        let item = self
            .paths
            .entry(path)
            .or_insert_with(|| json!({ "parameters": path_parameters(path) }));
        let is_custom = matches!(self.kind, Kind::Custom(_));
        item[method] = operation(verb, kind, (&body, &answer), is_custom);
        self.used.extend([body, answer]);
    }
}

fn method(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "get" | "list" => "get",
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" | "deletecollection" => "delete",
        _ => return None,
    })
}

fn operation(verb: &str, kind: Gvk<'_>, (body, answer): (&str, &str), is_custom: bool) -> Value {
    let content = |name: &str| json!({ "schema": reference(name, V3) });
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let mut operation = json!({
        "responses": {
            "200": { "description": "OK", "content": { "application/json": content(answer) } }
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": kind.group, "version": kind.version, "kind": kind.kind
        },
    });
    match verb {
        "create" | "update" => {
            operation["requestBody"] = json!({ "content": { "*/*": content(body) } });
            let names = ["dryRun", "fieldManager", "fieldValidation"];
            operation["parameters"] = names.map(query_parameter).to_vec().into();
        }
        "patch" => {
            let any = json!({ "schema": { "type": "object" } });
            let mut content = json!({
                "application/json-patch+json": any, "application/merge-patch+json": any,
                "application/apply-patch+yaml": any,
            });
            if !is_custom {
                content["application/strategic-merge-patch+json"] = any;
            }
            operation["requestBody"] = json!({ "content": content });
            // kubectl looks for fieldValidation here before it relies on the server's validation.
            let names = ["dryRun", "fieldManager", "fieldValidation", "force"];
            operation["parameters"] = names.map(query_parameter).to_vec().into();
        }
        _ => {}
    }
    operation
}

fn query_parameter(name: &str) -> Value {
    let kind = if name == "force" { "boolean" } else { "string" };
    json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
}

fn path_parameters(path: &str) -> Value {
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    parts.map(parameter).collect()
}
