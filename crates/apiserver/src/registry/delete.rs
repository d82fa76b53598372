//! DELETE of one object or of a collection.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use wire::status::{self, CauseReason};

use super::Registry;
use super::read::{check_list_options, selection};
use super::update::shown;
use crate::api::{Answer, Request, Stored};
use crate::meta;
use crate::refusal::{Outcome, bad_option, not_found, storage};
use crate::resources::{show, show_value};
use crate::store::{CommitError, Record, Transaction};

/// Finalizers that the garbage collector works off.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Registry {
    /// DELETE of one object.
    pub(super) async fn delete(&self, request: &Request) -> Outcome<Answer> {
        let options = DeleteOptions::parse(request)?;
        self.admit_delete(&request.kind, request.name())?;
        self.delete_object(request, &options).await
    }

    /// DELETE of everything selected: the answer lists what was asked to go.
    pub(super) async fn delete_collection(&self, request: &Request) -> Outcome<Answer> {
        let options = DeleteOptions::parse(request)?;
        let selection = selection(request)?;
        check_list_options(&request.options)?;
        let listing = self.store.list(self.resources.number(&request.kind), &selection.prefix());
        let mut items = Vec::new();
        for (path, record) in listing.objects {
            if !selection.matches(&path, &record) {
                continue;
            }
            let (namespace, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let mut one = request.clone();
            one.namespace = Some(namespace.to_owned());
            one.name = Some(name.to_owned());
            match self.delete_object(&one, &options).await {
                Ok(_) => items.push(show(&request.kind, &record)),
                Err(refusal) if refusal.failure.code == 404 => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Answer::List { items, resource_version: self.store.version(), more: None })
    }

    async fn delete_object(&self, request: &Request, options: &DeleteOptions) -> Outcome<Answer> {
        loop {
            let record = self
                .store
                .get(&self.key(request))
                .ok_or_else(|| not_found(&request.kind, request.name()))?;
            let old = shown(&request.kind, &record);
            options.check_preconditions(request, &old, record.version)?;
            let object = match self.next_step(request, &old, options) {
                Step::Nothing => Some(show(&request.kind, &record)),
                Step::Mark(marked) => self.mark(request, &record, marked).await?,
                Step::Remove(last) => self.remove(request, &record, &old, last).await?,
            };
            if let Some(object) = object {
                return Ok(Answer::Object { code: 200, object, warnings: Vec::new() });
            }
        }
    }

    /// What a DELETE does to an object in its present state.
    fn next_step(&self, request: &Request, old: &Value, options: &DeleteOptions) -> Step {
        let row = &request.kind;
        let now = Timestamp::now();
        if self.is_namespace(row) {
            return namespace_step(old, now);
        }
        if self.is_definition(row) {
            return definition_step(old, now, options);
        }
        let mut new = old.clone();
        let mut is_marked = false;
        let asked = options.grace_period_seconds;
        if let Some(grace_seconds) = row.grace_period(old, asked) {
            if meta::is_deleting(old) {
                match shorten(&mut new, asked) {
                    Pending::Shortened => is_marked = true,
                    Pending::Same => return Step::Nothing,
                    Pending::Unknown => {}
                }
            } else {
                mark(&mut new, now, grace_seconds);
                is_marked = true;
            }
        }
        let finalizers = options.finalizers(meta::finalizers(old));
        let waits = !finalizers.is_empty();
        meta::set_finalizers(&mut new, finalizers);
        if !is_marked && waits {
            mark_for_finalizers(&mut new, now);
        }
        let grace = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        match (waits || grace > 0, is_marked) {
            (true, _) if new == *old => Step::Nothing,
            (true, _) => Step::Mark(new),
            (false, true) => Step::Remove(new),
            (false, false) => Step::Remove(old.clone()),
        }
    }

    /// Stores an object that waits for its end; `None` when it has changed meanwhile.
    async fn mark(
        &self,
        request: &Request,
        record: &Arc<Record>,
        mut marked: Value,
    ) -> Outcome<Option<Stored>> {
        let row = &request.kind;
        if request.options.dry_run {
            return Ok(Some(show_value(row, marked)));
        }
        row.to_stored(&mut marked);
        let mut transaction = Transaction::default();
        transaction.replace(self.key(request), record.version, marked);
        match self.store.commit(transaction).await {
            Ok(written) => Ok(written.first().map(|record| show(row, record))),
            Err(CommitError::Conflict(_)) => Ok(None),
            Err(error) => Err(storage(&error)),
        }
    }

    /// Removes an object; `None` when it has changed meanwhile.
    async fn remove(
        &self,
        request: &Request,
        record: &Arc<Record>,
        old: &Value,
        mut last: Value,
    ) -> Outcome<Option<Stored>> {
        let row = &request.kind;
        let removed = if request.options.dry_run {
            show_value(row, last)
        } else {
            row.to_stored(&mut last);
            let mut transaction = Transaction::default();
            self.delete_steps(request, record, Some(last), &mut transaction);
            match self.store.commit(transaction).await {
                Ok(written) => {
                    self.release(request, old);
                    show(row, &written[0])
                }
                Err(CommitError::Conflict(_)) => return Ok(None),
                Err(error) => return Err(storage(&error)),
            }
        };
        if row.delete_returns_object() {
            return Ok(Some(removed));
        }
        let uid = meta::text(old, "uid");
        let status = status::deleted(row.group(), row.plural(), request.name(), uid);
        Ok(Some(Stored { json: status.to_string().into(), value: Some(Arc::new(status)) }))
    }

    /// The steps that remove an object, and with a Service its addresses and Endpoints. `last` is
    /// its last state for watches, when that is not the stored one.
    pub(super) fn delete_steps(
        &self,
        request: &Request,
        record: &Arc<Record>,
        last: Option<Value>,
        transaction: &mut Transaction,
    ) {
        let is_service = self.is_service(&request.kind);
        let followers = if is_service { self.followers(&record.value()) } else { Vec::new() };
        transaction.delete(self.key(request), record.version, last);
        for (key, version) in followers {
            transaction.delete(key, version, None);
        }
    }

    /// What a removed object held in memory.
    pub(super) fn release(&self, request: &Request, old: &Value) {
        if self.is_service(&request.kind) {
            self.allocator.release_ports(old);
        }
    }
}

enum Step {
    /// Its deletion is already under way.
    Nothing,
    /// It stays for a while, marked.
    Mark(Value),
    /// It goes; its last state.
    Remove(Value),
}

enum Pending {
    Shortened,
    Same,
    Unknown,
}

/// Of a dry run all stages are run, or none; the query has been looked at before.
fn check_dry_run(stages: &Value) -> Outcome<()> {
    if stages.as_array().into_iter().flatten().all(|stage| stage == "All") {
        return Ok(());
    }
    let text = format!("Unsupported value: {stages}: supported values: \"All\"");
    Err(bad_option("DeleteOptions", "dryRun", CauseReason::NotSupported, text))
}

/// DeleteOptions, from the query or the body.
struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    propagation: String,
    orphan_dependents: Option<bool>,
}

impl DeleteOptions {
    fn parse(request: &Request) -> Outcome<Self> {
        let body = request.body.as_ref().unwrap_or(&Value::Null);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let from_query = Some(request.options.propagation_policy.clone());
        let propagation = from_query.filter(|policy| !policy.is_empty());
        let options = Self {
            grace_period_seconds: request
                .options
                .grace_period_seconds
                .or_else(|| body["gracePeriodSeconds"].as_i64())
                // Negative values count as 1 (apiserver rest.BeforeDelete).
                .map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            propagation: propagation
                .or_else(|| text(&body["propagationPolicy"]))
                .unwrap_or_default(),
            orphan_dependents: body["orphanDependents"].as_bool(),
        };
        options.check_propagation()?;
        check_dry_run(&body["dryRun"])?;
        Ok(options)
    }

    fn check_propagation(&self) -> Outcome<()> {
        let refuse = |reason, text: String| {
            Err(bad_option("DeleteOptions", "propagationPolicy", reason, text))
        };
        let policy = self.propagation.as_str();
        if !policy.is_empty() && self.orphan_dependents.is_some() {
            let quoted = status::quote(policy);
            let text = "orphanDependents and deletionPropagation cannot be both set";
            return refuse(CauseReason::Invalid, format!("Invalid value: {quoted}: {text}"));
        }
        if !matches!(policy, "" | "Foreground" | "Background" | "Orphan") {
            let text = format!(
                "Unsupported value: {}: supported values: \"Background\", \"Foreground\", \"Orphan\"",
                status::quote(policy)
            );
            return refuse(CauseReason::NotSupported, text);
        }
        Ok(())
    }

    fn check_preconditions(&self, request: &Request, old: &Value, version: u64) -> Outcome<()> {
        let row = &request.kind;
        let conflict = |why: &str| {
            Err(status::conflict(row.group(), row.plural(), request.name(), why).into())
        };
        let uid = meta::text(old, "uid");
        if let Some(wanted) = self.uid.as_ref().filter(|wanted| *wanted != uid) {
            return conflict(&format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
                 The object might have been deleted and then recreated"
            ));
        }
        let version = version.to_string();
        if let Some(wanted) = self.resource_version.as_ref().filter(|wanted| **wanted != version) {
            return conflict(&format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the \
                 ResourceVersion in record ({version}). The object might have been modified"
            ));
        }
        Ok(())
    }

    /// The finalizers with those that the propagation policy asks for.
    fn finalizers(&self, old: Vec<String>) -> Vec<String> {
        let is_set = |finalizer: &str| old.iter().any(|old| old == finalizer);
        let orphan = match (self.orphan_dependents, self.propagation.as_str()) {
            (Some(orphan), _) => orphan,
            (None, "Orphan") => true,
            (None, "Background" | "Foreground") => false,
            _ => is_set(ORPHAN),
        };
        let foreground = match (self.orphan_dependents, self.propagation.as_str()) {
            (None, "Foreground") => true,
            (None, "") => is_set(FOREGROUND),
            _ => false,
        };
        let mut finalizers: Vec<String> = old
            .into_iter()
            .filter(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND)
            .collect();
        if orphan {
            finalizers.push(ORPHAN.to_owned());
        }
        if foreground {
            finalizers.push(FOREGROUND.to_owned());
        }
        finalizers
    }
}

/// A Namespace first becomes Terminating; it goes when its content is gone.
fn namespace_step(old: &Value, now: Timestamp) -> Step {
    if meta::is_deleting(old) {
        let is_finished = super::update::is_finished(old);
        return if is_finished { Step::Remove(old.clone()) } else { Step::Nothing };
    }
    let mut new = old.clone();
    meta::metadata(&mut new).insert("deletionTimestamp".to_owned(), meta::seconds(now).into());
    new["status"]["phase"] = "Terminating".into();
    Step::Mark(new)
}

/// A definition becomes Terminating; it goes when its objects are gone.
fn definition_step(old: &Value, now: Timestamp, options: &DeleteOptions) -> Step {
    if meta::is_deleting(old) {
        let is_finished = super::update::is_finished(old);
        return if is_finished { Step::Remove(old.clone()) } else { Step::Nothing };
    }
    let mut new = old.clone();
    meta::set_finalizers(&mut new, options.finalizers(meta::finalizers(old)));
    let now = meta::seconds(now);
    meta::metadata(&mut new).insert("deletionTimestamp".to_owned(), now.as_str().into());
    raise_generation(&mut new);
    wire::rules::definition::mark_deleted(&mut new, &now);
    Step::Mark(new)
}

/// Marks an object for deletion after a grace period.
fn mark(object: &mut Value, now: Timestamp, grace_seconds: i64) {
    let end = now.checked_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(now);
    set_deletion(object, end, grace_seconds);
    raise_generation(object);
}

/// Marks an object of a kind without grace periods that finalizers hold.
fn mark_for_finalizers(object: &mut Value, now: Timestamp) {
    if object["metadata"]["deletionGracePeriodSeconds"].is_null() {
        raise_generation(object);
    }
    let metadata = meta::metadata(object);
    if !metadata.contains_key("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), meta::seconds(now).into());
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
}

/// A second DELETE may only shorten the grace period.
fn shorten(object: &mut Value, asked: Option<i64>) -> Pending {
    let metadata = &object["metadata"];
    let Some(old) = metadata["deletionGracePeriodSeconds"].as_i64() else {
        return Pending::Unknown;
    };
    let Some(new) = asked.filter(|new| *new < old) else { return Pending::Same };
    let end = metadata["deletionTimestamp"].as_str().and_then(|end| end.parse::<Timestamp>().ok());
    let end = end.unwrap_or_else(Timestamp::now);
    let end = end.checked_add(SignedDuration::from_secs(new - old)).unwrap_or(end);
    set_deletion(object, end, new);
    Pending::Shortened
}

fn set_deletion(object: &mut Value, end: Timestamp, grace_seconds: i64) {
    let metadata = meta::metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), meta::seconds(end).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_seconds.into());
}

fn raise_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|now| *now > 0) {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}
