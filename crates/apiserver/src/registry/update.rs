//! PUT and PATCH, of an object or of its status, and of the finalizers of a Namespace.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use wire::decode::FieldValidation;
use wire::kinds::Kind;
use wire::patch::{Patch, PatchKind};
use wire::rules::meta::resource_version_required;
use wire::rules::namespace;
use wire::status;
use wire::{apply, patch};

use super::Registry;
use crate::alloc::Reservation;
use crate::api::{Answer, PatchType, Request};
use crate::meta;
use crate::refusal::{Outcome, check, modified, not_found, storage};
use crate::resources::{set_type, show, show_value};
use crate::store::{CommitError, Record, Transaction};

/// A changed object on its way into the store.
pub(super) struct Change<'a> {
    pub(super) request: &'a Request,
    /// What is stored, and parsed as the request's kind shows it.
    pub(super) record: &'a Arc<Record>,
    pub(super) old: &'a Value,
    /// What shall be stored.
    pub(super) new: Value,
    /// Whether the client named the version that it has changed.
    pub(super) is_conditional: bool,
    pub(super) warnings: Vec<String>,
}

/// How a write ended.
pub(super) enum Written {
    Done(Answer),
    /// The object has changed meanwhile: look at it again.
    Again,
}

impl Registry {
    /// PUT (S22).
    pub(super) async fn update(&self, request: &Request) -> Outcome<Answer> {
        let row = &request.kind;
        let name = request.name();
        let body = request.body.clone().unwrap_or_default();
        self.check_identity(request, &body)?;
        let wanted_uid = meta::text(&body, "uid");
        loop {
            let Some(record) = self.store.get(&self.key(request)) else {
                if !row.create_on_update() {
                    return Err(not_found(row, name));
                }
                self.authorizer.check_create(request)?;
                self.check_uid(request, wanted_uid, "")?;
                return self.create_object(request, without_version(body), true).await;
            };
            let old = shown(row, &record);
            self.check_uid(request, wanted_uid, meta::text(&old, "uid"))?;
            let is_conditional = self.check_version(request, &body, &record)?;
            let mut new = body.clone();
            self.complete(request, &mut new);
            self.track(request, &old, &mut new);
            let warnings = Vec::new();
            let change =
                Change { request, record: &record, old: &old, new, is_conditional, warnings };
            if let Written::Done(answer) = self.write(change).await? {
                return Ok(answer);
            }
        }
    }

    /// PATCH.
    pub(super) async fn patch(&self, request: &Request, kind: PatchType) -> Outcome<Answer> {
        let name = request.name();
        let body = request.body.clone().unwrap_or_default();
        loop {
            let Some(record) = self.store.get(&self.key(request)) else {
                if kind != PatchType::Apply {
                    return Err(not_found(&request.kind, name));
                }
                self.authorizer.check_create(request)?;
                let object = self.applied(request, None, &body)?;
                self.check_identity(request, &object)?;
                return self.create_object(request, without_version(object), false).await;
            };
            let old = shown(&request.kind, &record);
            let (new, warnings) = self.patched(request, kind, &old, &body)?;
            // A patch that does not touch the version carries the present one: no condition.
            let is_conditional = match kind {
                PatchType::Apply => self.check_version(request, &body, &record)?,
                _ => {
                    self.check_version(request, &new, &record)?;
                    !meta::text(&body, "resourceVersion").is_empty()
                }
            };
            let change =
                Change { request, record: &record, old: &old, new, is_conditional, warnings };
            if let Written::Done(answer) = self.write(change).await? {
                return Ok(answer);
            }
        }
    }

    /// Applies a patch of any type to an object.
    fn patched(
        &self,
        request: &Request,
        kind: PatchType,
        old: &Value,
        body: &Value,
    ) -> Outcome<(Value, Vec<String>)> {
        let kind = match kind {
            PatchType::Json => PatchKind::Json,
            PatchType::Merge => PatchKind::Merge,
            PatchType::Strategic => PatchKind::Strategic,
            PatchType::Apply => {
                // The body may leave out the name: the live object has it.
                let mut new = self.applied(request, Some(old), body)?;
                self.check_identity(request, &new)?;
                self.complete(request, &mut new);
                return Ok((new, Vec::new()));
            }
        };
        let validation = FieldValidation::parse(&request.options.field_validation);
        let validation = validation.unwrap_or_default();
        let patch = Patch { value: body.clone(), strict: request.strict.clone() };
        let patched = patch::patch(kind, old, &patch, request.kind.form(), validation)?;
        let mut new = patched.value;
        self.check_identity(request, &new)?;
        self.complete(request, &mut new);
        self.track(request, old, &mut new);
        Ok((new, patched.warnings))
    }

    fn applied(&self, request: &Request, live: Option<&Value>, body: &Value) -> Outcome<Value> {
        let now = meta::seconds(Timestamp::now());
        let writer = apply::Writer {
            manager: request.manager(),
            subresource: request.subresource(),
            now: &now,
        };
        Ok(apply::apply(live, body, request.kind.form(), &writer, request.options.force)?)
    }

    /// Everything between a changed object and its being stored (semantics 1.2, update).
    pub(super) async fn write(&self, change: Change<'_>) -> Outcome<Written> {
        let Change { request, record, old, mut new, is_conditional, mut warnings } = change;
        let (row, env, name) = (&request.kind, &self.config.env, request.name());
        // S21.
        let is_status = request.subresource() == "status";
        self.authorizer.check_escalation(request, &new, Some(old))?;
        let reservation =
            if is_status { Reservation::default() } else { self.reserve(request, &mut new, old)? };
        meta::carry(&mut new, old);
        let errors = match request.subresource() {
            "status" => {
                row.prepare_status(&mut new, old, env);
                row.validate_status(&new, old, env)
            }
            "finalize" => {
                namespace::prepare_finalize(&mut new, old);
                namespace::validate_finalize(&new, old)
            }
            _ => {
                row.prepare_update(&mut new, old, env);
                row.validate_update(&new, old, env)
            }
        };
        check(row, name, &errors).map_err(|refusal| refusal.after(warnings.clone()))?;
        warnings.extend(row.warnings(&new, Some(old)));
        self.admit_external_ips(row, &new, Some(old))
            .map_err(|refusal| refusal.after(warnings.clone()))?;
        row.default_on_read(&mut new, env);
        let metadata = meta::metadata(&mut new);
        metadata.insert("resourceVersion".to_owned(), record.version.to_string().into());
        if new == *old {
            let object = show(row, record);
            return Ok(Written::Done(Answer::Object { code: 200, object, warnings }));
        }
        let is_last = is_finished(&new);
        if request.options.dry_run {
            let object = show_value(row, new);
            return Ok(Written::Done(Answer::Object { code: 200, object, warnings }));
        }
        let mut transaction = Transaction::default();
        let shown_last = is_last.then(|| show_value(row, new.clone()));
        if is_last {
            self.delete_steps(request, record, None, &mut transaction);
        } else {
            reservation.write(&mut transaction, &self.resources, &new);
            row.to_stored(&mut new);
            transaction.replace(self.key(request), record.version, new);
        }
        let written = match self.store.commit(transaction).await {
            Ok(written) => written,
            Err(CommitError::Conflict(_)) if is_conditional => return Err(modified(row, name)),
            Err(CommitError::Conflict(_)) => return Ok(Written::Again),
            Err(error) => return Err(storage(&error)),
        };
        if is_last {
            self.release(request, old);
        } else {
            reservation.keep();
        }
        let last = written.last().map(|record| show(row, record));
        let object = shown_last.or(last).unwrap_or_else(|| show(row, record));
        Ok(Written::Done(Answer::Object { code: 200, object, warnings }))
    }

    /// Addresses and node ports of a changed Service.
    fn reserve(&self, request: &Request, new: &mut Value, old: &Value) -> Outcome<Reservation> {
        if !self.is_service(&request.kind) {
            return Ok(Reservation::default());
        }
        self.allocator.update(new, old, request.options.dry_run)
    }

    /// Type, Namespace and defaults of an object from a client.
    fn complete(&self, request: &Request, object: &mut Value) {
        let row = &request.kind;
        set_type(row, object);
        if row.namespaced() {
            let namespace = request.namespace().into();
            meta::metadata(object).insert("namespace".to_owned(), namespace);
        }
        row.default(object, &self.config.env);
    }

    fn track(&self, request: &Request, old: &Value, new: &mut Value) {
        let now = meta::seconds(Timestamp::now());
        let writer = apply::Writer {
            manager: request.manager(),
            subresource: request.subresource(),
            now: &now,
        };
        apply::track_update(Some(old), new, request.kind.form(), &writer);
    }

    /// 400 when the object does not have the name and Namespace of the path.
    fn check_identity(&self, request: &Request, object: &Value) -> Outcome<()> {
        let wanted = request.name();
        let name = meta::text(object, "name");
        if name.is_empty() {
            let text = format!(
                "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
            );
            return Err(status::bad_request(text).into());
        }
        if name != wanted {
            let text = format!(
                "the name of the object ({name}) does not match the name on the URL ({wanted})"
            );
            return Err(status::bad_request(text).into());
        }
        self.check_namespace_of_body(request, object)
    }

    /// Whether the client named a version.
    ///
    /// # Errors
    ///
    /// 409 when it is not the stored one, 422 when one is needed, 500 when it is no number.
    fn check_version(&self, request: &Request, object: &Value, record: &Record) -> Outcome<bool> {
        let (row, name) = (&request.kind, request.name());
        let text = meta::text(object, "resourceVersion");
        if text.is_empty() || text == "0" {
            let is_put = request.verb == crate::api::Verb::Update;
            if is_put && !row.unconditional_update() {
                check(row, name, &[resource_version_required()])?;
            }
            return Ok(false);
        }
        let version: u64 = text.parse().map_err(|_not_a_number| {
            let quoted = status::quote(text);
            status::untyped(format!("strconv.ParseUint: parsing {quoted}: invalid syntax"))
        })?;
        if version != record.version {
            return Err(modified(row, name));
        }
        Ok(true)
    }

    /// 409 when the client means another object of the same name.
    fn check_uid(&self, request: &Request, wanted: &str, actual: &str) -> Outcome<()> {
        if wanted.is_empty() || wanted == actual {
            return Ok(());
        }
        let row = &request.kind;
        let object = (row.group(), row.plural(), request.name());
        Err(status::uid_mismatch(object, &etcd_key(request), wanted, actual).into())
    }
}

/// The stored object as the row shows it, parsed.
pub(super) fn shown(row: &Kind, record: &Record) -> Value {
    let mut object = record.value();
    if !row.shows_as_stored(record.era) {
        row.from_stored(&mut object);
        set_type(row, &mut object);
    }
    object
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(super) fn is_finished(object: &Value) -> bool {
    let waits = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let is_namespace = object["kind"] == "Namespace";
    meta::is_deleting(object)
        && !waits(&object["metadata"]["finalizers"])
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !(is_namespace && waits(&object["spec"]["finalizers"]))
}

fn without_version(mut object: Value) -> Value {
    meta::metadata(&mut object).remove("resourceVersion");
    object
}

/// The key under which the reference server keeps an object: its error texts show it.
fn etcd_key(request: &Request) -> String {
    let row = &request.kind;
    let directory = match (row.group(), row.plural()) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        (_, plural) => plural,
    };
    match request.namespace() {
        "" => format!("/registry/{directory}/{}", request.name()),
        namespace => format!("/registry/{directory}/{namespace}/{}", request.name()),
    }
}
