//! Objects as the server sends them, listed and watched.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::watcher;
use model::{Name, Resource};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::client::Client;

/// First delay before a lost server is asked again; doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// Longest delay between two attempts to reach a lost server.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Which objects of a resource are wanted. Empty selectors select everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selectors {
    /// Only this Namespace; `None` is all of them.
    pub namespace: Option<String>,
    /// `labelSelector`, as the API spells it.
    pub labels: String,
    /// `fieldSelector`, as the API spells it.
    pub fields: String,
}

/// One step of a [`RawWatch`].
#[derive(Clone, PartialEq, Debug)]
pub enum RawEvent {
    /// The object exists and looks like this, but for `metadata.managedFields`, which are larger
    /// than all the rest and concern nobody who watches. `apiVersion` and `kind` are always set.
    Apply(Value),
    /// The object is gone, or no longer selected; its last state.
    Delete(Value),
    /// A list is complete: objects that are not in this set are gone.
    /// Pairs are (namespace, name); cluster-scoped objects have an empty namespace.
    Complete(BTreeSet<(Name, Name)>),
}

/// Why the server gives nothing; empty while it does. It is said once, not at every try.
pub(crate) type Complaint = Arc<Mutex<String>>;

type Events = BoxStream<'static, watcher::Result<watcher::Event<Value>>>;

/// A list followed by a watch, forever: lost connections are resumed, expired ones relisted.
pub struct RawWatch {
    events: Events,
    /// Where lists are streamed: the same with lists in pages, for a server that does not stream.
    in_pages: Option<Events>,
    resource: ApiResource,
    listed: BTreeSet<(Name, Name)>,
    delay: Duration,
    /// When to ask a lost server again.
    retry: Option<Instant>,
    /// Host and port of the server.
    host: Arc<str>,
    complaint: Complaint,
    /// Whether the server was found not to have the resource type.
    missing: bool,
}

impl Client {
    /// Lists and watches the objects of a resource. Starts when it is first awaited.
    pub fn watch_raw(&self, resource: &Resource, selectors: &Selectors) -> RawWatch {
        self.watch::<false>(resource, selectors)
    }

    /// Like [`Self::watch_raw`], but the server streams the first list as well (KEP-3157), which costs
    /// neither side the memory of a page. A server that refuses to is asked for pages.
    pub fn watch_streamed(&self, resource: &Resource, selectors: &Selectors) -> RawWatch {
        let api = self.api::<false>(&api_resource(resource), selectors);
        let streamed = watcher_config(selectors).streaming_lists();
        let mut watch = self.watch_raw(resource, selectors);
        let streamed = watcher(api, streamed).map_ok(into_values).boxed();
        let in_pages = std::mem::replace(&mut watch.events, streamed);
        watch.in_pages = Some(in_pages);
        watch
    }

    /// Like [`Self::watch_raw`]; the server sends only the metadata when `METADATA` is set.
    pub(crate) fn watch<const METADATA: bool>(
        &self,
        resource: &Resource,
        selectors: &Selectors,
    ) -> RawWatch {
        let resource = api_resource(resource);
        let api = self.api::<METADATA>(&resource, selectors);
        RawWatch {
            events: watcher(api, watcher_config(selectors)).map_ok(into_values).boxed(),
            in_pages: None,
            resource,
            listed: BTreeSet::new(),
            delay: FIRST_DELAY,
            retry: None,
            host: Arc::clone(&self.host),
            complaint: Complaint::default(),
            missing: false,
        }
    }

    fn api<const METADATA: bool>(
        &self,
        resource: &ApiResource,
        selectors: &Selectors,
    ) -> Api<Raw<METADATA>> {
        match &selectors.namespace {
            Some(namespace) => Api::namespaced_with(self.kube.clone(), namespace, resource),
            None => Api::all_with(self.kube.clone(), resource),
        }
    }
}

impl RawWatch {
    /// The next event. Never ends; waits while the server is away.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> RawEvent {
        loop {
            if let Some(retry) = self.retry {
                tokio::time::sleep_until(retry).await;
                self.retry = None;
            }
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) if is_missing(&error) && !self.missing => {
                    // An older or smaller server: there are none of these, as long as that lasts.
                    tracing::info!(
                        resource = self.resource.plural,
                        "the API server has no such resource"
                    );
                    self.missing = true;
                    self.delay = LONGEST_DELAY;
                    self.retry = Some(Instant::now() + self.delay);
                    return RawEvent::Complete(BTreeSet::new());
                }
                Some(Err(error)) => {
                    match self.in_pages.take_if(|_| does_not_stream(&error)) {
                        Some(in_pages) => self.events = in_pages,
                        None => self.fail(&error),
                    }
                    continue;
                }
                None => return std::future::pending().await,
            };
            if !matches!(event, watcher::Event::Init) {
                self.delay = FIRST_DELAY;
                self.complain(String::new());
                self.missing = false;
            }
            if let Some(event) = self.take(event) {
                return event;
            }
        }
    }

    /// Says what went wrong with the watch and when to go on: at once if it has merely expired.
    fn fail(&mut self, error: &watcher::Error) {
        let resource = self.resource.plural.as_str();
        if let watcher::Error::WatchError(status) = error
            && status.code == 410
        {
            tracing::debug!(resource, "the watch has expired, listing again");
            return;
        }
        let reason = reason(error, &self.host);
        if self.complain(reason.clone()) {
            tracing::warn!(
                "cannot list or watch {resource}, trying on with the last known state: {reason}"
            );
        } else {
            tracing::debug!(retry_in = ?self.delay, "still cannot list or watch {resource}");
        }
        self.retry = Some(Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }

    /// For others to read while this waits.
    pub(crate) fn complaint(&self) -> Complaint {
        Arc::clone(&self.complaint)
    }

    /// True if this is news.
    fn complain(&self, reason: String) -> bool {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *complaint, reason) != *complaint
    }

    fn take(&mut self, event: watcher::Event<Value>) -> Option<RawEvent> {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                None
            }
            watcher::Event::InitApply(value) => {
                self.listed.insert(identity(&value));
                Some(RawEvent::Apply(self.typed(value)))
            }
            watcher::Event::InitDone => Some(RawEvent::Complete(std::mem::take(&mut self.listed))),
            watcher::Event::Apply(value) => Some(RawEvent::Apply(self.typed(value))),
            watcher::Event::Delete(value) => Some(RawEvent::Delete(self.typed(value))),
        }
    }

    /// List items come without `apiVersion` and `kind`: these are the list's.
    fn typed(&self, mut value: Value) -> Value {
        if let Value::Object(object) = &mut value {
            let resource = &self.resource;
            object.entry("apiVersion").or_insert_with(|| resource.api_version.as_str().into());
            object.entry("kind").or_insert_with(|| resource.kind.as_str().into());
        }
        value
    }
}

/// Namespace and name of an object.
pub(crate) fn identity(value: &Value) -> (Name, Name) {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().into();
    (text("namespace"), text("name"))
}

fn into_values<const METADATA: bool>(
    event: watcher::Event<Raw<METADATA>>,
) -> watcher::Event<Value> {
    match event {
        watcher::Event::Apply(raw) => watcher::Event::Apply(raw.value),
        watcher::Event::Delete(raw) => watcher::Event::Delete(raw.value),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(raw) => watcher::Event::InitApply(raw.value),
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

/// What the server says, or what keeps us from reaching it, once and without the steps between.
fn reason(error: &watcher::Error, host: &str) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        WatchError(status) => status.message.clone(),
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.message.clone(),
        error => {
            let errors = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
                error.source()
            });
            let last = errors.last().map(ToString::to_string).unwrap_or_default();
            format!("no answer from the API server at {host}: {last}")
        }
    }
}

/// Whether the server does not have the resource type at all.
fn is_missing(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    let (InitialListFailed(error) | WatchStartFailed(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the server refuses a watch that begins with a list: 400 or 422 from one that is older than
/// Kubernetes 1.27, or that has WatchList switched off.
fn does_not_stream(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    matches!(status.code, 400 | 422)
}

/// The selectors as kube-rs wants them.
fn watcher_config(selectors: &Selectors) -> watcher::Config {
    let mut config = watcher::Config::default();
    if !selectors.labels.is_empty() {
        config = config.labels(&selectors.labels);
    }
    if !selectors.fields.is_empty() {
        config = config.fields(&selectors.fields);
    }
    config
}

/// The resource as kube-rs wants it.
fn api_resource(resource: &Resource) -> ApiResource {
    let api_version = if resource.group.is_empty() {
        resource.version.to_string()
    } else {
        format!("{}/{}", resource.group, resource.version)
    };
    ApiResource {
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        api_version,
        kind: resource.kind.to_string(),
        plural: resource.plural.to_string(),
    }
}

/// An object whose body stays as it was sent. Of the metadata only what a watch needs is parsed.
#[derive(Clone, Debug)]
struct Raw<const METADATA: bool> {
    meta: ObjectMeta,
    value: Value,
}

impl<'de, const METADATA: bool> Deserialize<'de> for Raw<METADATA> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_map(ObjectVisitor)?;
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, value })
    }
}

/// Reads an object without its `metadata.managedFields`: they are skipped, not read and dropped.
struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            let value = match field.as_str() {
                "metadata" => fields.next_value_seed(Metadata)?,
                _ => fields.next_value()?,
            };
            object.insert(field, value);
        }
        Ok(Value::Object(object))
    }
}

/// `metadata`.
struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut metadata = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            if field == "managedFields" {
                fields.next_value::<IgnoredAny>()?;
            } else {
                metadata.insert(field, fields.next_value()?);
            }
        }
        Ok(Value::Object(metadata))
    }
}

impl<const METADATA: bool> kube::Resource for Raw<METADATA> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        METADATA
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_but_managed_fields_is_kept() {
        let object = json!({
            "kind": "Service", "spec": {"managedFields": [1]},
            "metadata": {
                "name": "a", "namespace": "n", "resourceVersion": "7", "labels": {"l": "v"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            },
        });
        let raw: Raw<false> = serde_json::from_value(object.clone()).expect("is an object");
        let mut expected = object;
        expected["metadata"].as_object_mut().expect("is an object").remove("managedFields");
        assert_eq!(raw.value, expected);
        assert_eq!(raw.meta.resource_version.as_deref(), Some("7"));
        assert!(serde_json::from_value::<Raw<false>>(json!([])).is_err());
    }
}
