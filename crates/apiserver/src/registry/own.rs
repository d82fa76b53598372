//! Requests that the server makes to itself, and the loops that make them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::select_all;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use wire::kinds::KindRow;
use wire::status::Failure;

use super::Registry;
use super::meta;
use super::resources::set_type;
use crate::api::{Answer, Options, PatchType, Request, User, Verb};

/// Field manager and user of what the server writes by itself.
pub(crate) const MANAGER: &str = "kube-apiserver";

/// One object of the server's own.
pub(crate) struct Own<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) row: &'static KindRow,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Who owns the fields that are written.
    pub(crate) manager: &'a str,
}

impl Own<'_> {
    /// The object, parsed.
    pub(crate) fn get(&self) -> Option<Value> {
        let stored = self.registry.get(self.row, self.namespace, self.name)?;
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
        set_type(self.row, &mut body);
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
            kind: self.row,
            namespace: some(self.namespace),
            name: if verb == Verb::Create { None } else { some(self.name) },
            subresource: some(subresource),
            options,
            body: Some(body),
            user: User {
                name: "system:apiserver".to_owned(),
                groups: vec!["system:masters".to_owned()],
            },
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

    /// All objects of a kind, parsed.
    pub(crate) fn all(&self, group: &str, plural: &str) -> Vec<Value> {
        let Some(row) = self.resources.find(group, plural) else { return Vec::new() };
        let listing = self.store.list(self.resources.number(row), "");
        listing.objects.iter().map(|(_, record)| record.value()).collect()
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

    /// Tells when an object of one of these kinds has changed.
    pub(crate) fn changes(&self, kinds: &[(&str, &str)]) -> Changes {
        let receivers = kinds
            .iter()
            .filter_map(|(group, plural)| self.resources.find(group, plural))
            .map(|row| self.store.subscribe(self.resources.number(row)))
            .collect();
        Changes { receivers }
    }
}

/// Changes of some kinds.
pub(crate) struct Changes {
    receivers: Vec<Receiver<u64>>,
}

impl Changes {
    /// Waits for a change, at most as long as said. False when the registry is closed.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> bool {
        let changed = select_all(self.receivers.iter_mut().map(|one| Box::pin(one.changed())));
        match tokio::time::timeout(at_most, changed).await {
            Ok((changed, _, _)) => changed.is_ok(),
            Err(_elapsed) => true,
        }
    }

    /// Forgets the changes so far.
    pub(crate) fn forget(&mut self) {
        for receiver in &mut self.receivers {
            receiver.mark_unchanged();
        }
    }
}

/// Something to be looked after: what it is about, and one look at it.
pub(crate) trait Pass: Send + 'static {
    /// A change of any of these kinds (group, plural) starts another pass.
    const KINDS: &'static [(&'static str, &'static str)];

    /// Looks at everything, corrects what is wrong, and says when to look again even if nothing
    /// changes.
    fn run(&mut self, registry: &Registry) -> impl Future<Output = Duration> + Send;
}

/// Runs a pass now and whenever it asks for it. Ends when the registry is dropped.
pub(crate) fn spawn<P: Pass>(registry: &Arc<Registry>, mut pass: P) {
    let mut changes = registry.changes(P::KINDS);
    let registry = Arc::downgrade(registry);
    tokio::spawn(async move {
        loop {
            changes.forget();
            let Some(strong) = Weak::upgrade(&registry) else { return };
            let at_most = pass.run(&strong).await;
            drop(strong);
            if !changes.wait(at_most).await {
                return;
            }
        }
    });
}
