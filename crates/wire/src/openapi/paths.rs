//! Paths and operations of a served kind.

use serde_json::{Map, Value, json};

use super::schemas::{V3, name_of, reference};
use crate::kinds::KindRow;
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
    let own = Gvk { group, version, kind: row.kind };
    let list_kind = row.list_kind();
    let list = Gvk { kind: &list_kind, ..own };
    let mut paths = Map::new();
    let mut add = |path: String, verbs: &[&str], body: Gvk<'_>, answer: Gvk<'_>| {
        let names = [name_of(body), name_of(answer)];
        used.extend(names.iter().flatten().cloned());
        let [Some(body_name), Some(answer_name)] = names else { return };
        let operations = verbs.iter().filter_map(|verb| {
            let method = method(verb)?;
            Some((method.to_owned(), operation(verb, body, &body_name, &answer_name)))
        });
        let item: Map<String, Value> = operations.collect();
        if !item.is_empty() {
            let mut item = Value::Object(item);
            item["parameters"] = path_parameters(&path);
            paths.insert(path, item);
        }
    };
    let collection = ["create", "deletecollection", "list"];
    let (on_list, on_item): (Vec<&str>, Vec<&str>) =
        row.verbs.iter().partition(|verb| collection.contains(verb));
    let [lists, creates]: [Vec<&str>; 2] = [
        on_list.iter().copied().filter(|v| *v == "list").collect(),
        on_list.iter().copied().filter(|v| *v != "list").collect(),
    ];
    add(format!("{base}/{{name}}"), &on_item, own, own);
    for subresource in row.subresources {
        let body = Gvk {
            group: subresource.group,
            version: if subresource.version.is_empty() { version } else { subresource.version },
            kind: subresource.kind,
        };
        add(format!("{base}/{{name}}/{}", subresource.name), subresource.verbs, body, body);
    }
    if row.namespaced {
        add(format!("{root}/{plural}"), &lists, own, list);
    }
    add(base.clone(), &lists, own, list);
    let listed = paths.remove(&base);
    // The collection answers GET with a list and POST with an object.
    add_collection(&mut paths, base, listed, &creates, own, used);
    paths
}

fn add_collection(
    paths: &mut Map<String, Value>,
    base: String,
    listed: Option<Value>,
    verbs: &[&str],
    own: Gvk<'_>,
    used: &mut Vec<String>,
) {
    let mut item = listed.unwrap_or_else(|| json!({ "parameters": path_parameters(&base) }));
    if let Some(name) = name_of(own) {
        for verb in verbs {
            if let Some(method) = method(verb) {
                item[method] = operation(verb, own, &name, &name);
            }
        }
        used.push(name);
    }
    paths.insert(base, item);
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
    if matches!(verb, "create" | "update" | "patch") {
        let mut names = vec!["dryRun", "fieldManager", "fieldValidation"];
        names.extend((verb == "patch").then_some("force"));
        operation["parameters"] = names.into_iter().map(query_parameter).collect();
    }
    match verb {
        "create" | "update" => {
            operation["requestBody"] = json!({ "content": { "*/*": content(body) } });
        }
        "patch" => {
            let any = json!({ "schema": { "type": "object" } });
            operation["requestBody"] = json!({ "content": {
                "application/json-patch+json": any, "application/merge-patch+json": any,
                "application/strategic-merge-patch+json": any, "application/apply-patch+yaml": any,
            } });
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
