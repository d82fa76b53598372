//! Requests that the server makes to itself, and the loops that make them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::select_all;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use wire::kinds;
use wire::status::Failure;

use super::Registry;
use crate::api::{Answer, Options, PatchType, Request, User, Verb};
use crate::meta;
use crate::resources::set_type;
use crate::store::{Event, Record};

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

/// What a pass looks at.
pub(crate) enum Look {
    /// Everything: at the start, when the pass asked for it, and after a gap in the history.
    All,
    /// What has changed since the last look.
    Changed(Vec<(Kind, Arc<Event>)>),
}

/// Something to be looked after: what it is about, and one look at it.
pub(crate) trait Pass: Send + 'static {
    /// A change of any of these kinds starts another pass.
    const KINDS: &'static [Kind];

    /// Looks, corrects what is wrong, and says when to look at everything again even if nothing
    /// changes.
    fn run(&mut self, registry: &Registry, look: Look) -> impl Future<Output = Duration> + Send;
}

/// Runs a pass now, after changes, and whenever it asks for it. Ends when the registry is dropped.
pub(crate) fn spawn<P: Pass>(registry: &Arc<Registry>, mut pass: P) {
    let mut changes = Changes::new(registry, P::KINDS);
    let registry = Arc::downgrade(registry);
    tokio::spawn(async move {
        let mut all_at = Instant::now();
        loop {
            let Some(strong) = Weak::upgrade(&registry) else { return };
            let look = if Instant::now() >= all_at {
                changes.skip(&strong);
                Look::All
            } else {
                changes.take(&strong)
            };
            let is_all = matches!(look, Look::All);
            let next = Instant::now() + pass.run(&strong, look).await;
            all_at = if is_all { next } else { all_at.min(next) };
            drop(strong);
            if !changes.wait(all_at).await {
                return;
            }
        }
    });
}

/// Lets others go first, now and then, in a pass over many objects.
pub(crate) async fn pause(position: usize) {
    if position % OBJECTS_AT_ONCE == OBJECTS_AT_ONCE - 1 {
        tokio::task::yield_now().await;
    }
}

/// Objects that are parsed without a pause: well under a millisecond.
const OBJECTS_AT_ONCE: usize = 32;
/// Events taken from the history at a time.
const EVENTS_AT_ONCE: usize = 1024;

/// The changes of some kinds since the last look.
struct Changes {
    feeds: Vec<Feed>,
}

struct Feed {
    kind: Kind,
    resource: usize,
    changed: Receiver<u64>,
    position: u64,
}

impl Changes {
    fn new(registry: &Registry, kinds: &[Kind]) -> Self {
        let feed = |kind: &Kind| {
            let resource = registry.resources.number(&registry.resources.find(kind.0, kind.1)?);
            let changed = registry.store.subscribe(resource);
            Some(Feed { kind: *kind, resource, changed, position: 0 })
        };
        Self { feeds: kinds.iter().filter_map(feed).collect() }
    }

    /// Everything is about to be looked at: forgets the changes so far.
    fn skip(&mut self, registry: &Registry) {
        let version = registry.store.version();
        for feed in &mut self.feeds {
            feed.changed.mark_unchanged();
            feed.position = version;
        }
    }

    fn take(&mut self, registry: &Registry) -> Look {
        let mut changes = Vec::new();
        for feed in &mut self.feeds {
            feed.changed.mark_unchanged();
            let events = registry.store.events_after(feed.resource, feed.position, EVENTS_AT_ONCE);
            let Ok((events, complete)) = events else {
                self.skip(registry);
                return Look::All;
            };
            if events.len() == EVENTS_AT_ONCE {
                feed.changed.mark_changed();
            }
            feed.position = complete;
            changes.extend(events.into_iter().map(|event| (feed.kind, event)));
        }
        Look::Changed(changes)
    }

    /// Waits for a change or this time. False when the registry is closed.
    async fn wait(&mut self, until: Instant) -> bool {
        let changed =
            select_all(self.feeds.iter_mut().map(|feed| Box::pin(feed.changed.changed())));
        match tokio::time::timeout_at(until, changed).await {
            Ok((changed, _, _)) => changed.is_ok(),
            Err(_elapsed) => true,
        }
    }
}
