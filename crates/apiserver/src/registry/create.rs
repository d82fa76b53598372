//! POST, and PUT or apply to a missing name.

use serde_json::Value;
use wire::apply;
use wire::status;

use super::Registry;
use crate::alloc::Reservation;
use crate::api::{Answer, Request};
use crate::meta;
use crate::refusal::{Outcome, check, storage};
use crate::resources::{set_type, show, show_value};
use crate::store::{CommitError, Key, Transaction};

/// Names are generated anew this often when they collide.
const GENERATED_NAMES: usize = 8;

impl Registry {
    /// POST to a collection.
    pub(super) async fn create(&self, request: &Request) -> Outcome<Answer> {
        let object = request.body.clone().unwrap_or_default();
        self.check_namespace_of_body(request, &object)?;
        self.create_object(request, object, true).await
    }

    /// Creates an object. `track` is false when its managedFields are already right (apply).
    pub(super) async fn create_object(
        &self,
        request: &Request,
        object: Value,
        track: bool,
    ) -> Outcome<Answer> {
        let mut attempts = GENERATED_NAMES;
        loop {
            let draft = self.draft(request, object.clone(), track)?;
            attempts -= 1;
            match self.insert(request, draft).await? {
                Inserted::Done(answer) => return Ok(answer),
                Inserted::NameTaken { name, generated } if !generated || attempts == 0 => {
                    let row = &request.kind;
                    return Err(status::already_exists(row.group(), row.plural(), &name).into());
                }
                // Another name, another address, or a namespace that has just changed.
                Inserted::NameTaken { .. } | Inserted::Again => {}
            }
        }
    }

    /// Everything up to the write (semantics 1.2).
    fn draft(&self, request: &Request, mut object: Value, track: bool) -> Outcome<Draft> {
        let row = &request.kind;
        let env = &self.config.env;
        let namespace = self.admit_namespace(request, meta::text(&object, "name"))?;
        set_type(row, &mut object);
        if row.namespaced() {
            let namespace = request.namespace().into();
            meta::metadata(&mut object).insert("namespace".to_owned(), namespace);
        }
        row.default(&mut object, env);
        self.authorizer.check_escalation(request, &object, None)?;
        if track {
            let now = meta::seconds(jiff::Timestamp::now());
            let writer = apply::Writer {
                manager: request.manager(),
                subresource: request.subresource(),
                now: &now,
            };
            apply::track_update(None, &mut object, row.form(), &writer);
        }
        self.admit_service_account(request, &mut object)?;
        let has_version = !meta::text(&object, "resourceVersion").is_empty();
        let is_generated = meta::text(&object, "name").is_empty();
        meta::start(&mut object);
        let name = meta::text(&object, "name").to_owned();
        let reservation = self.reserve_for_new(request, &mut object)?;
        row.prepare_create(&mut object, env);
        check(row, &name, &row.validate_create(&object, env))?;
        let warnings = row.warnings(&object, None);
        self.admit_external_ips(row, &object, None)
            .map_err(|refusal| refusal.after(warnings.clone()))?;
        row.default_on_read(&mut object, env);
        if has_version {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(status::untyped(text).into());
        }
        Ok(Draft { object, name, is_generated, namespace, reservation, warnings })
    }

    /// The write.
    async fn insert(&self, request: &Request, draft: Draft) -> Outcome<Inserted> {
        let row = &request.kind;
        let key = self.resources.key(row, request.namespace(), &draft.name);
        let taken = Inserted::NameTaken { name: draft.name, generated: draft.is_generated };
        let mut object = draft.object;
        if request.options.dry_run {
            if self.store.get(&key).is_some() {
                return Ok(taken);
            }
            let object = show_value(row, object);
            let warnings = draft.warnings;
            return Ok(Inserted::Done(Answer::Object { code: 201, object, warnings }));
        }
        let mut transaction = Transaction::default();
        if let Some((namespace, version)) = draft.namespace {
            transaction.require(namespace, version);
        }
        draft.reservation.write(&mut transaction, &self.resources, &object);
        let position = transaction.steps.len();
        row.to_stored(&mut object);
        transaction.create(key, object);
        match self.store.commit(transaction).await {
            Ok(records) => {
                draft.reservation.keep();
                let object = show(row, &records[position]);
                let warnings = draft.warnings;
                Ok(Inserted::Done(Answer::Object { code: 201, object, warnings }))
            }
            Err(CommitError::Conflict(at)) if at == position => Ok(taken),
            Err(CommitError::Conflict(_)) => Ok(Inserted::Again),
            Err(error) => Err(storage(&error)),
        }
    }

    /// 400 when the body names another Namespace than the path.
    pub(super) fn check_namespace_of_body(&self, request: &Request, object: &Value) -> Outcome<()> {
        let named = meta::text(object, "namespace");
        if request.kind.namespaced() && !named.is_empty() && named != request.namespace() {
            let text = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(status::bad_request(text).into());
        }
        Ok(())
    }

    /// Addresses and node ports of a new Service.
    fn reserve_for_new(&self, request: &Request, object: &mut Value) -> Outcome<Reservation> {
        if !self.is_service(&request.kind) || !request.subresource().is_empty() {
            return Ok(Reservation::default());
        }
        self.allocator.create(object, request.options.dry_run)
    }
}

/// An object that is ready to be written.
struct Draft {
    object: Value,
    name: String,
    is_generated: bool,
    /// The Namespace must still have this version.
    namespace: Option<(Key, u64)>,
    reservation: Reservation,
    warnings: Vec<String>,
}

enum Inserted {
    Done(Answer),
    NameTaken { name: String, generated: bool },
    Again,
}
