//! The registry: what every verb means for every served kind.
//!
//! What it is: generic code over the table of kinds. It reads from memory, writes through the
//! store, and knows Kubernetes' order of processing (semantics 1.2).
//!
//! What it is not: it speaks no HTTP and knows no kind's own rules, which stand in `wire`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use wire::kinds::{Env, KindRow};
use wire::status::Failure;

use crate::api::{Answer, Request, Stored};

/// What the registry has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the state; created when missing.
    pub state: PathBuf,
    /// Service ranges, node port range and advertised address.
    pub env: Env,
    /// PEM text of the certificate authority, published as ConfigMap `kube-root-ca.crt` in every
    /// Namespace.
    pub ca_certificate: String,
    /// Whether creating or adding `spec.externalIPs` is refused (admission
    /// `DenyServiceExternalIPs`).
    pub deny_external_ips: bool,
}

/// Why the registry cannot start.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {}

/// The open registry.
pub struct Registry {
    config: Config,
}

impl Registry {
    /// Opens the state, makes sure that the objects every cluster has exist, and starts the
    /// repair loops on the current runtime. They end when the last `Arc` is dropped.
    pub async fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self { config }))
    }

    /// Does what a request asks. Never panics on input; a failure is an [`Answer::Failure`].
    pub async fn call(&self, request: Request) -> Answer {
        let failure = Failure {
            code: 503,
            reason: "ServiceUnavailable".to_owned(),
            message: format!("{} is not served yet", request.kind.plural),
            details: Value::Null,
        };
        Answer::Failure(failure, Vec::new())
    }

    /// One object from memory, for the parts of the server that need one themselves (token
    /// review, proxying to a pod's node). `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, _kind: &KindRow, _namespace: &str, _name: &str) -> Option<Stored> {
        None
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
