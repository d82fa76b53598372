//! Server-side apply and managedFields (KEP-555).
//!
//! ```text
//!  live ──┬─ merge ─▶ merged ─ prune ─▶ new ─ compare(live, new) ─▶ changes ─▶ conflicts or owners
//!  config ┴─ fields_of ─▶ what the applier owns now
//! ```
//!
//! What it is: the structured merge of one configuration into one object, and the bookkeeping of
//! owners for every other write. What it is not: patches without owners (see `crate::patch`).
//! All versions of a kind are the same here, as one version of each kind is served.

mod compare;
mod managers;
mod merge;
mod set;
mod walk;

use serde_json::{Map, Value};

use self::compare::{Changes, compare};
use self::managers::{Identity, Manager, Managers, Operation};
use self::merge::{merge, remove};
use self::set::{Element, FieldSet};
use self::walk::{Part, errors_of, fields_of};
use crate::decode::{self, Decoded, FieldValidation};
use crate::schema::{Form, Gvk, Schema};
use crate::status::{self, Failure};

/// The manager of everything that was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Where client-side apply keeps the last configuration.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager of `kubectl apply --server-side`, which may take over from client-side apply.
const KUBECTL: &str = "kubectl";

/// Fields of `metadata` that nobody owns.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the default one from the User-Agent.
    pub manager: &'a str,
    /// Subresource written through, empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339 time with seconds, such as `2026-11-23T12:00:00Z`.
    pub now: &'a str,
}

/// Parses an apply body: YAML, of which JSON is a part. Failures are 400, or 413.
pub fn parse(body: &[u8], validation: FieldValidation) -> Result<Decoded, Failure> {
    if body.len() > decode::MAX_BODY {
        return Err(status::too_large(decode::MAX_BODY as u64));
    }
    let (node, duplicates) = decode::yaml_tree(body).map_err(|why| {
        status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {why}"))
    })?;
    let value = node.to_value();
    if !value.is_object() {
        let why = format!("json: cannot unmarshal {} into Go value of type map", node.go_name());
        return Err(status::bad_request(format!("error decoding YAML: {why}")));
    }
    let mut warnings = Vec::new();
    if !duplicates.is_empty() && validation != FieldValidation::Ignore {
        let why = format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  "));
        if validation == FieldValidation::Strict {
            let why = format!("error strict decoding YAML: error converting YAML to JSON: {why}");
            return Err(status::bad_request(why));
        }
        warnings.push(why);
    }
    Ok(Decoded { value, warnings })
}

/// Sets `new.metadata.managedFields` after a create (`live` is `None`), update or patch by
/// `writer`. Call it after defaulting and before allocation (what the server fills in later has
/// no owner). `new` may carry managedFields of its own: they replace the live ones, an empty list
/// clears all ownership. A write that changes nothing keeps the old times.
pub fn track_update<'a>(
    live: Option<&Value>,
    new: &mut Value,
    form: impl Into<Form<'a>>,
    writer: &Writer<'_>,
) {
    let form = form.into();
    let gvk = form.gvk;
    let Some(root) = root(form) else { return };
    let live_managers = || live.and_then(Managers::of).unwrap_or_default();
    let mut managers = if !writer.subresource.is_empty() {
        live_managers()
    } else if Managers::is_reset(new) {
        Managers::default()
    } else {
        Managers::of(new).unwrap_or_else(live_managers)
    };
    // An object without owners stays without, until something is applied to it.
    if live.is_none() || !managers.0.is_empty() {
        let old = live.map_or_else(|| decode::empty(gvk, root.compiled()), without_managers);
        let identity = Identity::new(writer, Operation::Update, gvk.api_version());
        let changes = compare(&old, &without_managers(new), root);
        let changes = changes.without(&ignored(form, root, writer.subresource));
        own_changes(&mut managers, &changes, identity, writer);
    }
    managers.write(new);
}

/// Merges an applied configuration into `live` (`None`: the object does not exist yet). The answer
/// is the whole new object with its managedFields, not yet defaulted or validated; an apply that
/// changes nothing returns an object equal to `live`. Failures are 409 with all conflicts, or
/// 500 for fields the schema does not know (as the real server answers).
pub fn apply<'a>(
    live: Option<&Value>,
    config: &Value,
    form: impl Into<Form<'a>>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let form = form.into();
    let gvk = form.gvk;
    let Some(root) = root(form) else {
        return Err(status::internal("no schema for this kind"));
    };
    check_config(config, gvk, root)?;
    let empty = decode::empty(gvk, root.compiled());
    let old = live.map_or_else(|| empty.clone(), without_managers);
    let mut managers = live.and_then(Managers::of).unwrap_or_default();
    if managers.0.is_empty() {
        let writer = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        let identity = Identity::new(&writer, Operation::Update, gvk.api_version());
        let changes = compare(&empty, &old, root).without(&ignored(form, root, writer.subresource));
        own_changes(&mut managers, &changes, identity, &writer);
    }
    let identity = Identity::new(writer, Operation::Apply, gvk.api_version());
    let ignored = ignored(form, root, writer.subresource);
    let merge = Merge { root, old: &old, config, ignored: &ignored };
    let (mut new, mut managers) = merge.run(&managers, &identity, force)?;
    let changed = new != old;
    if let Some(own) = managers.0.iter_mut().find(|m| m.identity == identity)
        && changed
    {
        own.time = Some(writer.now.to_owned());
    }
    if writer.manager == KUBECTL {
        refresh_last_applied(&mut new, config);
    }
    let mut new = decode::checked(&new, form, FieldValidation::Ignore, &[])
        .map_err(|why| status::untyped(format!("failed to convert merged object: {why}")))?
        .value;
    managers.write(&mut new);
    Ok(new)
}

/// How objects of a kind are owned; `None` when it has no schema.
fn root(form: Form<'_>) -> Option<Part<'_>> {
    match form.custom {
        Some(schema) => Some(Part::custom_object(schema)),
        None => Schema::get().kind(form.gvk).map(Part::object),
    }
}

/// An object of the real server's type system, with its errors.
fn check_config(config: &Value, gvk: Gvk<'_>, root: Part<'_>) -> Result<(), Failure> {
    let text = |key: &str| config[key].as_str().unwrap_or_default();
    let sent = Gvk::from_api_version(text("apiVersion"), text("kind"));
    if sent != gvk {
        let Gvk { group, version, kind } = sent;
        let why = format!("invalid object type: {group}/{version}, Kind={kind}");
        return Err(status::bad_request(why));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(status::bad_request("metadata.managedFields must be nil"));
    }
    let errors = errors_of(config, root);
    let why = match &errors[..] {
        [] => return Ok(()),
        [only] => only.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let text = |key| config["metadata"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let Gvk { group, version, kind } = gvk;
    Err(status::untyped(format!(
        "failed to create typed patch object ({namespace}/{name}; {group}/{version}, \
         Kind={kind}): {why}"
    )))
}

/// Gives a manager the fields that differ, and takes them from the others.
fn own_changes(
    managers: &mut Managers,
    changes: &Changes,
    identity: Identity,
    writer: &Writer<'_>,
) {
    let written = changes.written();
    managers.take(&written.union(&changes.removed), None);
    let fields = written.difference(&unowned());
    if !fields.is_empty() {
        let fields = match managers.get(&identity) {
            Some(own) => own.fields.union(&fields),
            None => fields,
        };
        managers.set(Manager { identity, time: Some(writer.now.to_owned()), fields });
    }
    managers.cap();
}

/// One apply.
struct Merge<'a> {
    root: Part<'a>,
    old: &'a Value,
    config: &'a Value,
    ignored: &'a FieldSet,
}

impl Merge<'_> {
    /// The new object and its owners.
    fn run(
        &self,
        before: &Managers,
        identity: &Identity,
        force: bool,
    ) -> Result<(Value, Managers), Failure> {
        let part = self.root;
        let mut managers = before.clone();
        let last = before.get(identity);
        let applied = fields_of(self.config, part).without_below(self.ignored);
        let time = last.and_then(|m| m.time.clone());
        managers.set(Manager { identity: identity.clone(), time, fields: applied.clone() });
        let merged = merge(self.old, self.config, part);
        let mut new = match last {
            Some(last) => self.prune(merged, &last.fields, &managers.owned()),
            None => merged,
        };
        if let Some(ty) = part.compiled() {
            decode::normalise(&mut new, ty);
        }

        let changes = compare(self.old, &new, part).without(self.ignored);
        let conflicts = self.conflicts(&managers, identity, &changes);
        if !conflicts.is_empty() && !force {
            return Err(conflict(&conflicts));
        }
        managers.take(&changes.written().union(&changes.removed), Some(identity));
        let fields = applied.difference(&unowned());
        if let Some(own) = managers.0.iter_mut().find(|m| m.identity == *identity) {
            own.fields = fields;
        }
        managers.0.retain(|m| !m.fields.is_empty());
        Ok((new, managers))
    }

    /// Takes out what the applier set last time, does not set now, and nobody else owns.
    fn prune(&self, merged: Value, last: &FieldSet, owned: &FieldSet) -> Value {
        let part = self.root;
        let is_named = |path: &[Element]| is_named(part, path);
        let last = last.with_steps(&is_named);
        let all = fields_of(&merged, part).with_steps(&is_named);
        // Taking out an entry takes out what is below; fields that others own come back.
        let bare = remove(&merged, &last, part);
        let left = fields_of(&bare, part).with_steps(&is_named);
        let kept = left.union(&owned.with_steps(&is_named));
        let pruned = remove(&merged, &all.difference(&kept), part);
        // Fields below a pruned entry that the applier never owned and that are still there stay.
        let left = fields_of(&pruned, part).with_steps(&is_named);
        remove(&merged, &all.difference(&left).intersection(&last), part)
    }

    /// What other managers own and this apply would change.
    fn conflicts(
        &self,
        managers: &Managers,
        identity: &Identity,
        changes: &Changes,
    ) -> Vec<(Identity, String)> {
        let mut written = changes.written();
        if identity.manager == KUBECTL {
            written = written.difference(&self.client_side_applied());
        }
        let others = managers.0.iter().filter(|m| m.identity != *identity);
        let conflicts = others.flat_map(|m| {
            let paths = m.fields.intersection(&written).paths();
            paths.into_iter().map(|path| (m.identity.clone(), path))
        });
        conflicts.collect()
    }

    /// Fields whose live value is still the one that client-side apply set: kubectl may go on
    /// managing them.
    fn client_side_applied(&self) -> FieldSet {
        let part = self.root;
        let last = self.old["metadata"]["annotations"][LAST_APPLIED].as_str();
        let Some(last) = last.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return FieldSet::default();
        };
        let Changes { added, modified, removed } = compare(&last, self.old, part);
        let fields = fields_of(&last, part);
        fields.difference(&modified).difference(&added).difference(&removed)
    }
}

/// 409 with a cause for each field.
fn conflict(conflicts: &[(Identity, String)]) -> Failure {
    let causes: Vec<(String, String)> = conflicts
        .iter()
        .map(|(other, path)| (format!("conflict with {}", other.described()), path.clone()))
        .collect();
    let message = match &causes[..] {
        [(who, path)] => format!("Apply failed with 1 conflict: {who}: {path}"),
        many => {
            let mut sorted: Vec<_> = many.iter().enumerate().collect();
            sorted.sort_by_key(|(at, (who, _))| (who.clone(), *at));
            let mut lines = Vec::new();
            let mut current = "";
            for (_, (who, path)) in sorted {
                if who != current {
                    lines.push(format!("{}:", who.replacen("conflict", "conflicts", 1)));
                    current = who;
                }
                lines.push(format!("- {path}"));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    status::apply_conflict(message, &causes)
}

/// kubectl keeps the annotation of client-side apply current, so that one can go back to it.
fn refresh_last_applied(new: &mut Value, config: &Value) {
    let Some(Value::Object(annotations)) = new.pointer_mut("/metadata/annotations") else { return };
    if !annotations.contains_key(LAST_APPLIED) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), format!("{config}\n").into());
}

/// Whether a path leads to a field of a struct rather than to a map key or list entry.
fn is_named(root: Part<'_>, path: &[Element]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    let holder = above.iter().try_fold(root, |part, element| part.at(element));
    matches!(last, Element::Field(_)) && matches!(holder, Some(Part::Struct(_)))
}

/// Fields that a write through a subresource cannot change, and the other way round: the object
/// itself does not write `status`, `/status` writes nothing but.
fn ignored(form: Form<'_>, root: Part<'_>, subresource: &str) -> FieldSet {
    let mut set = FieldSet::default();
    let mut add = |path: &[&str]| {
        let path: Vec<_> = path.iter().map(|name| Element::Field((*name).to_owned())).collect();
        set.insert(&path);
    };
    if form.custom.is_some() {
        match subresource {
            "" if form.has_status => add(&["status"]),
            "status" => {
                add(&["metadata"]);
                add(&["spec"]);
            }
            _ => {}
        }
        return set;
    }
    if root.below("spec").is_none() || root.below("status").is_none() {
        return set;
    }
    match (subresource, form.gvk.kind) {
        ("", _) => add(&["status"]),
        ("status", "Pod") => {
            add(&["spec"]);
            add(&["metadata", "deletionTimestamp"]);
            add(&["metadata", "ownerReferences"]);
        }
        ("status", "Deployment" | "ReplicaSet") => {
            add(&["spec"]);
            add(&["metadata", "labels"]);
        }
        ("status", _) => add(&["spec"]),
        _ => {}
    }
    set
}

/// Fields that are never owned.
fn unowned() -> FieldSet {
    let field = |name: &str| Element::Field(name.to_owned());
    let mut set = FieldSet::default();
    set.insert(&[field("apiVersion")]);
    set.insert(&[field("kind")]);
    set.insert(&[field("metadata")]);
    for name in UNOWNED_METADATA {
        set.insert(&[field("metadata"), field(name)]);
    }
    set
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    } else if let Value::Object(map) = &mut object {
        map.insert("metadata".to_owned(), Value::Object(Map::new()));
    }
    object
}

#[cfg(test)]
mod tests;
