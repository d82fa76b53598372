//! OpenAPI documents of the served kinds, made from the schema: what kubectl needs to create with
//! field validation, to explain, to apply and to diff.
//!
//! ```text
//!  kinds ─▶ paths ──┐
//!  schema ─▶ schemas ┴─▶ document per group and version ─ hash ─▶ index
//! ```
//!
//! What it is not: the whole description that a real server gives. Operations carry what clients
//! look for (kind, action, `fieldValidation`), types carry shapes and merge rules.

mod custom;
mod gnostic;
mod paths;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::kinds::{self, Kind};

/// `/openapi/v3`: one path per group and version with a content hash in its URL.
pub fn index() -> &'static Value {
    static INDEX: LazyLock<Value> = LazyLock::new(|| {
        let documents = documents().iter();
        let paths: Map<String, Value> =
            documents.map(|((group, version), body)| entry(group, version, body)).collect();
        json!({ "paths": paths })
    });
    &INDEX
}

/// The entry of a document in [`index`].
pub fn entry(group: &str, version: &str, body: &[u8]) -> (String, Value) {
    let path = path(group, version);
    let url = format!("/openapi/v3/{path}?hash={:016X}", hash(body));
    (path, json!({ "serverRelativeURL": url }))
}

/// The document of one group (empty for core) and version as JSON, built on first use.
pub fn document(group: &str, version: &str) -> Option<&'static [u8]> {
    let found = documents().iter().find(|((g, v), _)| *g == group && *v == version);
    found.map(|(_, body)| body.as_slice())
}

/// `/openapi/v2` as JSON: all types in one document, without operations, for clients that only
/// look up types.
pub fn v2() -> &'static [u8] {
    static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut document = json!({
            "swagger": "2.0", "info": { "title": "Kubernetes", "version": "v1" }, "paths": {},
        });
        document["definitions"] = schemas::all(schemas::V2).into();
        bytes(&document)
    });
    &DOCUMENT
}

/// An OpenAPI v2 document as protobuf, without operations and bounds of values.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    gnostic::document(document)
}

type Documents = BTreeMap<(&'static str, &'static str), Vec<u8>>;

fn documents() -> &'static Documents {
    static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
        let rows = || kinds::kinds().iter();
        let served = rows().map(|row| (row.group, row.version));
        served
            .map(|(group, version)| {
                let rows = rows().filter(|row| (row.group, row.version) == (group, version));
                ((group, version), build(&rows.map(Kind::from).collect::<Vec<_>>()))
            })
            .collect()
    });
    &DOCUMENTS
}

/// The document of these kinds, which share group and version.
pub fn build(kinds: &[Kind]) -> Vec<u8> {
    let mut paths = Map::new();
    let mut used = Vec::new();
    let mut own = Map::new();
    for kind in kinds {
        paths.extend(paths::of(kind, &mut used));
        if let Kind::Custom(custom) = kind {
            own.extend(custom::schemas(custom, &mut used));
        }
    }
    let mut schemas = schemas::reachable(&used, schemas::V3);
    schemas.extend(own);
    bytes(&json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1" },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

/// Path of a group and version: `api/v1`, `apis/apps/v1`.
fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// FNV-1a. Clients only compare it with the one they saw before.
fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests;
