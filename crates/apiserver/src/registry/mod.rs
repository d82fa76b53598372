//! The registry: what every verb means for every served kind.
//!
//! What it is: generic code over the table of kinds. It reads from memory, writes through the
//! store, and knows Kubernetes' order of processing (semantics 1.2).
//!
//! What it is not: it speaks no HTTP and knows no kind's own rules, which stand in `wire`.
//!
//! ```text
//!  Request ─▶ admission ─▶ default ─▶ ownership ─▶ allocation ─▶ prepare ─▶ validate ─▶ store
//!  Answer ◀──────────────────────────────────────────────────────────────────────────────┘
//! ```

mod admission;
mod create;
mod delete;
pub(crate) mod own;
mod read;
mod service_account;
mod subresource;
mod update;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use wire::kinds::{Env, Kind};
use wire::status;

use crate::alloc::Allocator;
use crate::api::{Answer, Request, Stored, Verb};
use crate::authz::{AuthorizationMode, Authorizer};
use crate::definitions::Definitions;
use crate::meta;
use crate::refusal::Outcome;
use crate::resources::{Resources, show};
use crate::store::{Key, Store};

pub use crate::store::StoreError;

/// What the registry has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the state; created when missing.
    pub state: PathBuf,
    /// Service ranges, node port range and advertised address.
    pub env: Env,
    /// Who decides what users may do.
    pub authorization: Vec<AuthorizationMode>,
    /// PEM text of the certificate authority, published as ConfigMap `kube-root-ca.crt` in every
    /// Namespace; `None` publishes nothing.
    pub ca_certificate: Option<String>,
    /// Whether creating or adding `spec.externalIPs` is refused (admission
    /// `DenyServiceExternalIPs`).
    pub deny_external_ips: bool,
    /// Whether pods without `spec.serviceAccountName` get `default` (admission `ServiceAccount`).
    pub service_account_admission: bool,
}

/// The open registry.
pub struct Registry {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) allocator: Allocator,
    pub(crate) authorizer: Authorizer,
    pub(crate) definitions: Definitions,
    /// The store's number of `namespaces`.
    namespaces: usize,
}

impl Registry {
    /// Opens the state. See `poststart` for what has to be done before the first request.
    ///
    /// # Errors
    ///
    /// When the state directory cannot be used.
    pub fn open(config: Config) -> Result<Arc<Self>, StoreError> {
        let resources = Arc::new(Resources::new(&config.env));
        let store = Arc::new(Store::open(&config.state, resources.specs())?);
        let allocator = Allocator::new(store.clone(), &resources, config.env.clone());
        let namespaces = resources.find("", "namespaces").map(|kind| resources.number(&kind));
        let namespaces = namespaces.unwrap_or_default();
        let authorizer = Authorizer::new(config.authorization.clone(), &store, &resources);
        let definitions = Definitions::new(store.clone(), resources.clone());
        let registry = Arc::new(Self {
            config,
            store,
            resources,
            allocator,
            authorizer,
            definitions,
            namespaces,
        });
        registry.definitions.refresh();
        for resource in registry.store.unclaimed() {
            tracing::warn!(resource, "the state holds objects of a kind that is not served");
        }
        Ok(registry)
    }

    /// Does what a request asks. Never panics on input; a failure is an [`Answer::Failure`].
    pub async fn call(&self, request: Request) -> Answer {
        match self.dispatch(&request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::Failure(refusal.failure, refusal.warnings),
        }
    }

    /// One object from memory, for the parts of the server that need one themselves (token
    /// review, proxying to a pod's node). `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, kind: impl Into<Kind>, namespace: &str, name: &str) -> Option<Stored> {
        let kind = kind.into();
        let record = self.store.get(&self.resources.key(&kind, namespace, name))?;
        Some(show(&kind, &record))
    }

    /// How many objects of every kind are stored.
    pub(crate) fn object_counts(&self) -> Vec<(Kind, usize)> {
        let count = |kind: &Kind| self.store.list(self.resources.number(kind), "").objects.len();
        self.resources.stored().into_iter().map(|kind| (kind.clone(), count(&kind))).collect()
    }

    /// The newest resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.store.version()
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    async fn dispatch(&self, request: &Request) -> Outcome<Answer> {
        match (request.subresource(), request.verb) {
            ("" | "status", Verb::Get) => self.read(request),
            ("", Verb::List) => self.list(request),
            ("", Verb::Watch) => self.watch(request),
            ("", Verb::Create) => self.create(request).await,
            ("" | "status" | "finalize", Verb::Update) => self.update(request).await,
            ("" | "status", Verb::Patch(kind)) => self.patch(request, kind).await,
            ("", Verb::Delete) => self.delete(request).await,
            ("", Verb::DeleteCollection) => self.delete_collection(request).await,
            ("scale", Verb::Get) => self.read_scale(request),
            ("scale", Verb::Update | Verb::Patch(_)) => self.write_scale(request).await,
            ("binding", Verb::Create) => self.bind(request).await,
            ("eviction", Verb::Create) => self.evict(request).await,
            _ => Err(status::method_not_allowed().into()),
        }
    }

    /// Where the object of a request is.
    pub(crate) fn key(&self, request: &Request) -> Key {
        self.resources.key(&request.kind, request.namespace(), request.name())
    }

    /// Objects that go with a Service: its IPAddresses and the Endpoints of the same name.
    fn followers(&self, service: &Value) -> Vec<(Key, u64)> {
        let addresses = self.allocator.addresses(service);
        let owned = self.allocator.owned_addresses(service, &addresses);
        let mut followers: Vec<(Key, u64)> = owned
            .into_iter()
            .map(|(address, version)| (self.allocator.address_key(address), version))
            .collect();
        if let Some(row) = self.resources.find("", "endpoints") {
            let (namespace, name) = (meta::text(service, "namespace"), meta::text(service, "name"));
            let key = self.resources.key(&row, namespace, name);
            let record = self.store.get(&key);
            followers.extend(record.map(|record| (key, record.version)));
        }
        followers
    }
}
