//! The audit log: who did what, one JSON line per event (`audit.k8s.io/v1`, level Metadata).
//!
//! What it is not: bodies of requests and answers are never written down.
//!
//! ```text
//!  request ─▶ Draft ─▶ policy: is it wanted? ─▶ event ─▶ sink (a thread) ─▶ file or stdout
//! ```

mod policy;
mod sink;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;
use wire::status::Failure;

use crate::api::User;
use crate::authz::{Asked, Attributes, Resource, review};
pub use policy::PolicyError;
use policy::{Policy, Stage};
use sink::Sink;

/// Why there is no audit log.
#[derive(Debug, Error)]
pub enum AuditError {
    /// `--audit-policy-file`.
    #[error("cannot use --audit-policy-file")]
    Policy(#[from] PolicyError),
    /// `--audit-log-path`.
    #[error("cannot write the audit log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The open log.
pub(crate) struct Audit {
    policy: Policy,
    sink: Sink,
}

impl Audit {
    /// Writes to `log` (`-` is stdout) what the policy wants; without one, everything.
    pub(crate) fn open(log: &Path, policy: Option<&Path>) -> Result<Arc<Self>, AuditError> {
        let policy = policy.map(Policy::read).transpose()?.unwrap_or_else(Policy::everything);
        let sink =
            Sink::open(log).map_err(|source| AuditError::Log { path: log.to_owned(), source })?;
        Ok(Arc::new(Self { policy, sink }))
    }
}

/// What is known of a request, collected on its way.
pub(crate) struct Draft {
    audit: Arc<Audit>,
    event: Value,
    received: Timestamp,
    is_wanted: [bool; 3],
}

impl Draft {
    /// A request has come from this address.
    pub(crate) fn new<B>(
        audit: &Arc<Audit>,
        request: &Request<B>,
        id: &HeaderValue,
        source: std::net::IpAddr,
    ) -> Self {
        let received = Timestamp::now();
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "auditID": id.to_str().unwrap_or_default(),
            "requestURI": request.uri().path_and_query().map_or("", |uri| uri.as_str()),
            "verb": "", "user": {}, "sourceIPs": [source.to_string()],
            "requestReceivedTimestamp": micros(received),
        });
        let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        if let Some(agent) = agent {
            event["userAgent"] = agent.into();
        }
        Self { audit: audit.clone(), event, received, is_wanted: [false; 3] }
    }

    /// Who asks for what; `by` is the user who acts as `request.user`, if another.
    pub(crate) fn asked(&mut self, request: &Attributes<'_>, by: Option<&User>, version: &str) {
        self.is_wanted = STAGES.map(|stage| self.audit.policy.wants(request, stage));
        let event = &mut self.event;
        event["verb"] = request.verb.into();
        event["user"] = review::info(by.unwrap_or(request.user));
        if by.is_some() {
            event["impersonatedUser"] = review::info(request.user);
        }
        if let Asked::Resource(resource) = &request.asked {
            event["objectRef"] = reference(resource, version);
        }
        let stage = micros(self.received);
        self.write(0, stage);
    }

    /// What the authorizer said: its reason to allow, or a failure.
    pub(crate) fn decided(&mut self, decision: &Result<String, Failure>) {
        let (decision, reason) = match decision {
            Ok(reason) => ("allow", reason.as_str()),
            Err(_) => ("forbid", ""),
        };
        self.event["annotations"] = json!({
            "authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason,
        });
    }

    /// The head of an answer that goes on has been sent; it is complete when what this returns
    /// is dropped.
    pub(crate) fn started(mut self, code: u16) -> Ending {
        self.event["responseStatus"] = json!({ "metadata": {}, "code": code });
        self.write(1, micros(Timestamp::now()));
        Ending { draft: Some(self), code }
    }

    /// The answer has been sent.
    pub(crate) fn complete(mut self, code: u16) {
        self.event["responseStatus"] = json!({ "metadata": {}, "code": code });
        self.write(2, micros(Timestamp::now()));
    }

    fn write(&mut self, stage: usize, at: String) {
        if self.is_wanted[stage] {
            self.event["stage"] = format!("{:?}", STAGES[stage]).into();
            self.event["stageTimestamp"] = at.into();
            self.audit.sink.write(self.event.to_string());
        }
    }
}

/// Writes the last event of an answer when it is dropped.
pub(crate) struct Ending {
    draft: Option<Draft>,
    code: u16,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            draft.complete(self.code);
        }
    }
}

fn reference(resource: &Resource<'_>, version: &str) -> Value {
    let mut reference = json!({});
    for (key, value) in [
        ("resource", resource.resource),
        ("namespace", resource.namespace),
        ("name", resource.name),
        ("apiGroup", resource.group),
        ("apiVersion", version),
        ("subresource", resource.subresource),
    ] {
        if !value.is_empty() {
            reference[key] = value.into();
        }
    }
    reference
}

/// RFC 3339 with microseconds, as `metav1.MicroTime`.
fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

const STAGES: [Stage; 3] =
    [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete];
