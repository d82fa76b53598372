//! Paths and operations of a served kind.

use serde_json::{Map, Value, json};

use super::schemas::{V3, name_of, reference};
use crate::kinds::{KindRow, Subresource};
use crate::schema::Gvk;

/// Paths of a row. Names of the schemas they use are added to `used`.
pub(super) fn of(row: &KindRow, used: &mut Vec<String>) -> Map<String, Value> {
    let KindRow { group, version, plural, .. } = *row;
    let root = format!("/{}", super::path(group, version));
    let base = if row.namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let mut builder = Builder { paths: Map::new(), used };
    let object = Gvk { group, version, kind: row.kind };
    let list_kind = row.list_kind();
    let list = Gvk { kind: &list_kind, ..object };
    for verb in row.verbs {
        match *verb {
            "list" => {
                builder.add(&base, verb, object, list);
                if row.namespaced {
                    builder.add(&format!("{root}/{plural}"), verb, object, list);
                }
            }
            "create" | "deletecollection" => builder.add(&base, verb, object, object),
            _ => builder.add(&format!("{base}/{{name}}"), verb, object, object),
        }
    }
    for Subresource { name, group: own_group, version: own_version, kind, verbs } in
        row.subresources
    {
        let body = match *own_version {
            "" => Gvk { group, version, kind },
            version => Gvk { group: own_group, version, kind },
        };
        for verb in *verbs {
            builder.add(&format!("{base}/{{name}}/{name}"), verb, body, body);
        }
    }
    builder.paths
}

struct Builder<'u> {
    paths: Map<String, Value>,
    used: &'u mut Vec<String>,
}

impl Builder<'_> {
    /// Adds the operation of a verb to a path. Bodies without a schema have no operation.
    fn add(&mut self, path: &str, verb: &str, kind: Gvk<'_>, answer: Gvk<'_>) {
        let (Some(method), Some(body), Some(answer)) =
            (method(verb), name_of(kind), name_of(answer))
        else {
            return;
        };
        let item = self
            .paths
            .entry(path)
            .or_insert_with(|| json!({ "parameters": path_parameters(path) }));
        item[method] = operation(verb, kind, &body, &answer);
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

fn operation(verb: &str, kind: Gvk<'_>, body: &str, answer: &str) -> Value {
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
            operation["requestBody"] = json!({ "content": {
                "application/json-patch+json": any, "application/merge-patch+json": any,
                "application/strategic-merge-patch+json": any, "application/apply-patch+yaml": any,
            } });
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
