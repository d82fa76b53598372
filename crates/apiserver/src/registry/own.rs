//! Requests that the server makes to itself.

use std::sync::Arc;

use serde_json::{Value, json};
use wire::kinds;
use wire::status::Failure;

use super::Registry;
use crate::api::{Answer, Options, PatchType, Request, User, Verb};
use crate::meta;
use crate::resources::set_type;
use crate::store::Record;

/// Field manager and user of what the server writes by itself.
pub(crate) const MANAGER: &str = "kube-apiserver";

/// Who the server is to itself.
pub(crate) fn server() -> User {
    User {
        name: "system:apiserver".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    }
}

/// One object of the server's own.
pub(crate) struct Own<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) row: kinds::Kind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Who owns the fields that are written.
    pub(crate) manager: &'a str,
}

impl Own<'_> {
    /// The object, parsed.
    pub(crate) fn get(&self) -> Option<Value> {
        let stored = self.registry.get(&self.row, self.namespace, self.name)?;
        Some((*stored.value()).clone())
    }

    /// Creates it.
    pub(crate) async fn create(&self, body: Value) -> Result<(), Failure> {
        self.call(Verb::Create, "", body).await
    }

    /// Replaces it, or its subresource.
    pub(crate) async fn update(&self, subresource: &str, body: Value) -> Result<(), Failure> {
        self.call(Verb::Update, subresource, body).await
    }

    /// Applies a configuration to its subresource; conflicts are won.
    pub(crate) async fn apply(&self, subresource: &str, config: Value) -> Result<(), Failure> {
        self.call(Verb::Patch(PatchType::Apply), subresource, config).await
    }

    async fn call(&self, verb: Verb, subresource: &str, mut body: Value) -> Result<(), Failure> {
        set_type(&self.row, &mut body);
        let is_apply = verb == Verb::Patch(PatchType::Apply);
        let options = Options {
            field_manager: self.manager.to_owned(),
            force: is_apply,
            ..Options::default()
        };
        meta::metadata(&mut body).insert("name".to_owned(), self.name.into());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let request = Request {
            verb,
            kind: self.row.clone(),
            namespace: some(self.namespace),
            name: if verb == Verb::Create { None } else { some(self.name) },
            subresource: some(subresource),
            options,
            body: Some(body),
            strict: Vec::new(),
            user: server(),
            user_agent_manager: MANAGER.to_owned(),
        };
        match self.registry.call(request).await {
            Answer::Failure(failure, _) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl Registry {
    /// A handle on one of the server's own objects; `None` when the kind is not served.
    pub(crate) fn own<'a>(
        &'a self,
        (group, plural): (&str, &str),
        namespace: &'a str,
        name: &'a str,
    ) -> Option<Own<'a>> {
        let row = self.resources.find(group, plural)?;
        Some(Own { registry: self, row, namespace, name, manager: MANAGER })
    }

    /// All objects of a kind, not yet parsed: passes over many pause between them.
    pub(crate) fn all(&self, (group, plural): Kind) -> Vec<Arc<Record>> {
        let Some(row) = self.resources.find(group, plural) else { return Vec::new() };
        let listing = self.store.list(self.resources.number(&row), "");
        listing.objects.into_iter().map(|(_, record)| record).collect()
    }

    /// Tells of something that the server noticed about an object. The event is a service to
    /// people: when it cannot be written the log has it.
    pub(crate) async fn tell(&self, about: &Value, component: &str, reason: &str, message: &str) {
        let metadata = &about["metadata"];
        let name = meta::text(about, "name");
        tracing::warn!(object = name, reason, message, "noticed by {component}");
        let namespace = match meta::text(about, "namespace") {
            "" => "default",
            namespace => namespace,
        };
        let now = meta::seconds(jiff::Timestamp::now());
        let event_name = format!("{name}.{:016x}", u64::from_ne_bytes(meta::random()));
        let event = json!({
            "metadata": { "namespace": namespace },
            "involvedObject": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "name": name,
                "namespace": metadata["namespace"], "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": "Warning", "reason": reason, "message": message, "count": 1,
            "source": { "component": component }, "reportingComponent": component,
            "reportingInstance": "",
            "firstTimestamp": now, "lastTimestamp": now, "eventTime": null,
        });
        let Some(own) = self.own(("", "events"), namespace, &event_name) else { return };
        if let Err(failure) = own.create(event).await {
            tracing::warn!(reason, failure = failure.message, "event not written");
        }
    }
}

/// API group and plural.
pub(crate) type Kind = (&'static str, &'static str);
