//! A registry in a temporary directory, and short ways to ask it something.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use portolan_apiserver::api::{
    Answer, Options, PatchType, Request, Stored, User, Verb, WatchEvent,
};
use portolan_apiserver::config::AuthorizationMode;
use portolan_apiserver::poststart;
use portolan_apiserver::registry::{Config, Registry};
use serde_json::{Value, json};
use wire::kinds::{Env, find};
use wire::status::Failure;

/// An open registry.
pub(crate) struct World {
    pub(crate) registry: Arc<Registry>,
    _directory: tempfile::TempDir,
}

pub(crate) fn env(cidrs: &[&str], node_ports: (u16, u16)) -> Env {
    Env {
        service_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        node_ports,
        advertise: ("172.30.0.1".parse().unwrap(), 6443),
    }
}

pub(crate) fn config(state: &std::path::Path, env: Env) -> Config {
    Config {
        state: state.to_owned(),
        env,
        authorization: vec![AuthorizationMode::AlwaysAllow],
        ca_certificate: Some("PEM".to_owned()),
        deny_external_ips: false,
        service_account_admission: true,
    }
}

/// A registry with everything that every cluster has.
pub(crate) async fn open(config: Config) -> Arc<Registry> {
    let registry = Registry::open(config).unwrap();
    poststart::start(&registry).await.unwrap();
    registry
}

impl World {
    /// Dual stack with the usual ranges.
    pub(crate) async fn new() -> Self {
        Self::with(env(&["10.96.0.0/16", "fd00:10:96::/112"], (30000, 32767))).await
    }

    pub(crate) async fn with(env: Env) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = open(config(directory.path(), env)).await;
        Self { registry, _directory: directory }
    }

    /// The same state with other settings.
    pub(crate) async fn reopened(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { registry, _directory } = self;
        let mut config = config(_directory.path(), registry.config().env.clone());
        change(&mut config);
        drop(registry);
        until_closed(_directory.path()).await;
        Self { registry: open(config).await, _directory }
    }

    pub(crate) async fn call(&self, request: Request) -> Result<Value, Failure> {
        match self.registry.call(request).await {
            Answer::Object { object, .. } => Ok((*object.value()).clone()),
            Answer::List { items, resource_version, more } => Ok(json!({
                "names": names(&items),
                "resourceVersion": resource_version,
                "continue": more.as_ref().map(|more| more.token.clone()),
                "remaining": more.and_then(|more| more.remaining),
            })),
            Answer::Watch(_) => panic!("a watch"),
            Answer::Failure(failure, _) => Err(failure),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(request(Verb::Get, path)).await
    }

    pub(crate) async fn list(&self, path: &str, options: Options) -> Result<Value, Failure> {
        self.call(Request { options, ..request(Verb::List, path) }).await
    }

    pub(crate) async fn create(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Request { body: Some(body), ..request(Verb::Create, path) }).await
    }

    pub(crate) async fn dry_create(&self, path: &str, body: Value) -> Result<Value, Failure> {
        let options = Options { dry_run: true, ..Options::default() };
        self.call(Request { body: Some(body), options, ..request(Verb::Create, path) }).await
    }

    pub(crate) async fn update(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Request { body: Some(body), ..request(Verb::Update, path) }).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Result<Value, Failure> {
        let verb = Verb::Patch(PatchType::Merge);
        self.call(Request { body: Some(body), ..request(verb, path) }).await
    }

    pub(crate) async fn apply(
        &self,
        path: &str,
        manager: &str,
        body: Value,
    ) -> Result<Value, Failure> {
        let verb = Verb::Patch(PatchType::Apply);
        let options = Options { field_manager: manager.to_owned(), ..Options::default() };
        self.call(Request { body: Some(body), options, ..request(verb, path) }).await
    }

    pub(crate) async fn delete(&self, path: &str, options: Value) -> Result<Value, Failure> {
        let body = (!options.is_null()).then_some(options);
        self.call(Request { body, ..request(Verb::Delete, path) }).await
    }

    pub(crate) async fn watch(
        &self,
        path: &str,
        options: Options,
    ) -> BoxStream<'static, WatchEvent> {
        let request = Request { options, ..request(Verb::Watch, path) };
        match self.registry.call(request).await {
            Answer::Watch(stream) => stream,
            Answer::Failure(failure, _) => panic!("{failure:?}"),
            _ => panic!("no watch"),
        }
    }

    /// Waits until the object of a path satisfies a condition.
    pub(crate) async fn until(&self, path: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let request = request(Verb::Get, path);
        let field_selector = format!("metadata.name={}", request.name());
        let (collection, _) = path.rsplit_once('/').unwrap();
        let options = Options { field_selector, ..Options::default() };
        let mut events = self.watch(collection, options).await;
        let waited = async {
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(stored) | WatchEvent::Modified(stored) = event
                    && holds(&stored.value())
                {
                    return (*stored.value()).clone();
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), waited).await.expect("in time")
    }
}

/// The loops of a dropped registry end as soon as the runtime lets them see that it is gone.
pub(crate) async fn until_closed(state: &std::path::Path) {
    while std::fs::File::open(state.join("state.redb")).is_ok_and(|file| file.try_lock().is_err()) {
        tokio::task::yield_now().await;
    }
}

/// `services/default/web/status`: plural, Namespace (`-` for none), name, subresource.
pub(crate) fn request(verb: Verb, path: &str) -> Request {
    let mut parts = path.split('/');
    let mut next = || parts.next().filter(|part| *part != "-").map(str::to_owned);
    let plural = next().expect("a plural");
    let group = match plural.as_str() {
        "deployments" | "replicasets" => "apps",
        "leases" => "coordination.k8s.io",
        "endpointslices" => "discovery.k8s.io",
        "ipaddresses" | "servicecidrs" => "networking.k8s.io",
        _ => "",
    };
    Request {
        verb,
        kind: find(group, "v1", &plural).expect("a served kind").into(),
        namespace: next(),
        name: next(),
        subresource: next(),
        options: Options::default(),
        body: None,
        strict: Vec::new(),
        user: User { name: "tester".to_owned(), ..User::default() },
        user_agent_manager: "tests".to_owned(),
    }
}

pub(crate) fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["ports"].is_null() && spec["type"] != "ExternalName" {
        spec["ports"] = json!([{ "port": 80 }]);
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

pub(crate) fn names(items: &[Stored]) -> Vec<String> {
    items.iter().map(|item| item.value()["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
