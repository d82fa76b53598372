//! JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch.
//!
//! ```text
//!  body ─ parse ─▶ patch ┐
//!  current ──────────────┴─ json-patch | strategic ─▶ Value ─ decode::checked ─▶ Decoded
//! ```
//!
//! What it is not: apply, which has owners (see `crate::apply`); defaults and validation of the
//! result (see `rules`).

mod json;
mod shown;
mod strategic;

use serde_json::{Map, Value};

use crate::decode::{self, Decoded, FieldValidation, Node};
use crate::schema::{Form, Schema};
use crate::status::{self, CauseReason, Failure, FieldError};

/// A JSON patch may not have more operations than this (the real server's limit).
const MAX_OPERATIONS: usize = 10_000;

/// Kind of a patch body (apply is in `crate::apply`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own, with merge keys and directives.
    Strategic,
}

/// A patch.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Patch {
    /// Its body.
    pub value: Value,
    /// What is unusual about the body, to be judged with what is unusual about the patched object:
    /// duplicate keys, and unknown members of JSON patch operations.
    pub strict: Vec<String>,
}

impl From<Value> for Patch {
    /// A patch with nothing unusual about it.
    fn from(value: Value) -> Self {
        Self { value, strict: Vec::new() }
    }
}

/// Parses a patch body. Failures are 400, or 413 for too large a patch.
pub fn parse(kind: PatchKind, body: &[u8]) -> Result<Patch, Failure> {
    let bad = |why: &str| status::bad_request(format!("error decoding patch: {why}"));
    if body.len() > decode::MAX_BODY {
        return Err(status::too_large(decode::MAX_BODY as u64));
    }
    let node = decode::json_tree(body).map_err(|why| bad(&why))?;
    match (kind, &node) {
        (PatchKind::Json, Node::Array(operations)) if operations.len() > MAX_OPERATIONS => {
            let count = operations.len();
            return Err(Failure {
                code: 413,
                reason: "RequestEntityTooLarge".to_owned(),
                message: format!(
                    "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                ),
                details: Value::Null,
                metadata: None,
            });
        }
        // In Go null is an empty list or map; the library for merge patches looks once more.
        (PatchKind::Json, Node::Null) => {
            return Ok(Value::Array(Vec::new()).into());
        }
        (PatchKind::Strategic, Node::Null) => {
            return Ok(Value::Object(Map::new()).into());
        }
        (PatchKind::Merge, Node::Null) => return Err(status::bad_request("Invalid JSON Patch")),
        _ if fits(kind, &node) => {}
        _ => {
            let found = node.go_name();
            let wanted = match kind {
                PatchKind::Json => "[]handlers.jsonPatchOp",
                PatchKind::Merge | PatchKind::Strategic => "map[string]interface {}",
            };
            return Err(bad(&format!(
                "json: cannot unmarshal {found} into Go value of type {wanted}"
            )));
        }
    }
    let duplicates = node.duplicates().into_iter();
    let duplicates = duplicates.map(|path| format!("duplicate field \"{path}\""));
    let strict = match kind {
        PatchKind::Json => duplicates
            .chain(unknown_members(&node))
            .map(|oddity| format!("json patch {oddity}"))
            .collect(),
        PatchKind::Merge | PatchKind::Strategic => duplicates.collect(),
    };
    Ok(Patch { value: node.into_value(), strict })
}

/// Members of operations that RFC 6902 does not have.
fn unknown_members(operations: &Node) -> Vec<String> {
    let Node::Array(operations) = operations else { return Vec::new() };
    let mut unknown = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let Node::Object(members) = operation else { continue };
        let keys = members.iter().map(|member| member.key.as_str());
        let odd = keys.filter(|key| !["op", "from", "path", "value"].contains(key));
        unknown.extend(odd.map(|key| format!("unknown field \"[{index}].{key}\"")));
    }
    unknown
}

fn fits(kind: PatchKind, node: &Node) -> bool {
    match kind {
        PatchKind::Json => matches!(node, Node::Array(_)),
        PatchKind::Merge | PatchKind::Strategic => matches!(node, Node::Object(_)),
    }
}

/// Patches `current` and decodes the result as `gvk`. Failures are 400, 422 or 500 as the real
/// server answers. The result has not been defaulted or validated.
pub fn patch<'a>(
    kind: PatchKind,
    current: &Value,
    patch: &Patch,
    form: impl Into<Form<'a>>,
    validation: FieldValidation,
) -> Result<Decoded, Failure> {
    let form = form.into();
    let gvk = form.gvk;
    let Patch { value: patch, strict } = patch;
    let mut patched = current.clone();
    match kind {
        PatchKind::Json => json::patch(&mut patched, patch)?,
        PatchKind::Merge => json_patch::merge(&mut patched, patch),
        PatchKind::Strategic => {
            let ty = Schema::get().kind(gvk);
            patched = strategic::merge(patched, patch, ty).map_err(strategic::Error::failure)?;
        }
    }
    decode::checked(&patched, form, validation, strict).map_err(|why| {
        let shown = match kind {
            PatchKind::Json => shown::edited(&patched, patch, gvk),
            PatchKind::Merge => shown::merged(&patched, patch, gvk),
            PatchKind::Strategic => strategic::go_format(patch),
        };
        not_of_kind(&shown, &why)
    })
}

/// 422 for a result that is not of the kind; kind and name are empty, as the real server has it.
fn not_of_kind(patched: &str, why: &str) -> Failure {
    let error = FieldError {
        field: "patch".to_owned(),
        reason: CauseReason::Invalid,
        message: format!("Invalid value: {}: {why}", status::quote(patched)),
    };
    status::invalid("", "", "", &[error])
}

#[cfg(test)]
mod tests;
