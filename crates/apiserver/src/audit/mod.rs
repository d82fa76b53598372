//! The audit log: who did what, one JSON line per event (`audit.k8s.io/v1`).
//!
//! ```text
//!  request ─▶ Draft ─▶ policy: what is wanted? ─▶ event ─▶ sink (a thread) ─▶ file or stdout
//!               ▲ body, failure, answer
//! ```

mod policy;
mod rotate;
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
use crate::authz::{Asked, Attributes, Resource};
pub use policy::PolicyError;
use policy::{Level, Policy, Stage, Wanted};
pub use rotate::Rotation;
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
    pub(crate) fn open(
        log: &Path,
        rotation: Rotation,
        policy: Option<&Path>,
    ) -> Result<Arc<Self>, AuditError> {
        let policy = policy.map(Policy::read).transpose()?.unwrap_or_else(Policy::everything);
        let sink = Sink::open(log, rotation)
            .map_err(|source| AuditError::Log { path: log.to_owned(), source })?;
        Ok(Arc::new(Self { policy, sink }))
    }
}

/// What is known of a request, collected on its way.
pub(crate) struct Draft {
    audit: Arc<Audit>,
    event: Value,
    received: Timestamp,
    wanted: Wanted,
    /// Whether the last event has been written.
    is_over: bool,
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
            "kind": "Event", "apiVersion": "audit.k8s.io/v1",
            "auditID": id.to_str().unwrap_or_default(),
            "requestURI": request.uri().path_and_query().map_or("", |uri| uri.as_str()),
            "verb": "", "user": {}, "sourceIPs": [source.to_string()],
            "requestReceivedTimestamp": micros(received),
        });
        let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        if let Some(agent) = agent {
            event["userAgent"] = agent.into();
        }
        let wanted = Wanted::default();
        Self { audit: audit.clone(), event, received, wanted, is_over: false }
    }

    /// Who asks for what; `by` is the user who acts as `request.user`, if another.
    pub(crate) fn asked(&mut self, request: &Attributes<'_>, by: Option<&User>, version: &str) {
        self.wanted = self.audit.policy.wants(request);
        let event = &mut self.event;
        event["level"] = format!("{:?}", self.wanted.level).into();
        event["verb"] = request.verb.into();
        event["user"] = by.unwrap_or(request.user).info();
        if by.is_some() {
            event["impersonatedUser"] = request.user.info();
        }
        if let Asked::Resource(resource) = &request.asked {
            event["objectRef"] = reference(resource, version);
        }
    }

    /// The first event, of a request whose user is known.
    pub(crate) fn received(&mut self) {
        let at = micros(self.received);
        self.write(Stage::RequestReceived, at);
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

    /// The decoded body of a write. An object completes what the path says of it (its name, say,
    /// when it is created); of a patch only the body counts.
    pub(crate) fn request_body(&mut self, body: &Value) {
        if self.wanted.level == Level::None {
            return;
        }
        for name in ["namespace", "name", "uid", "resourceVersion"] {
            let value = &body["metadata"][name];
            if value.as_str().is_some_and(|text| !text.is_empty())
                && self.event["objectRef"][name].is_null()
                && self.event["verb"] != "patch"
            {
                self.event["objectRef"][name] = value.clone();
            }
        }
        if self.wanted.level >= Level::Request {
            self.event["requestObject"] = self.shown(body.clone());
        }
    }

    /// Whether [`Self::response_body`] would be written down.
    pub(crate) fn wants_response_body(&self) -> bool {
        self.wanted.level == Level::RequestResponse
    }

    /// The answer: an object, a list or a table.
    pub(crate) fn response_body(&mut self, body: Value) {
        if self.wants_response_body() {
            self.event["responseObject"] = self.shown(body);
        }
    }

    /// The answer is this `Status`.
    pub(crate) fn status(&mut self, status: &Value) {
        let mut bounded = json!({ "metadata": {} });
        for name in ["status", "message", "reason", "details", "code"] {
            if !status[name].is_null() {
                bounded[name] = status[name].clone();
            }
        }
        self.event["responseStatus"] = bounded;
        self.response_body(status.clone());
    }

    /// The head of an answer that goes on has been sent; it is complete when what this returns
    /// is dropped.
    pub(crate) fn started(mut self, code: u16) -> Ending {
        self.answered(code);
        self.write(Stage::ResponseStarted, micros(Timestamp::now()));
        Ending { _draft: self }
    }

    /// Nobody is behind the credentials: upstream writes this one event of such a request.
    pub(crate) fn unauthenticated(mut self, code: u16) {
        self.answered(code);
        self.write(Stage::ResponseStarted, micros(Timestamp::now()));
        self.is_over = true;
    }

    /// The answer is complete.
    pub(crate) fn complete(mut self, code: u16) {
        self.answered(code);
    }

    fn answered(&mut self, code: u16) {
        if self.event["responseStatus"].is_null() {
            self.event["responseStatus"] = json!({ "metadata": {} });
        }
        self.event["responseStatus"]["code"] = code.into();
    }

    fn shown(&self, mut body: Value) -> Value {
        if self.wanted.omits_managed_fields {
            drop_managed_fields(&mut body);
        }
        body
    }

    fn write(&mut self, stage: Stage, at: String) {
        if self.wanted.at(stage) {
            self.event["stage"] = format!("{stage:?}").into();
            self.event["stageTimestamp"] = at.into();
            self.audit.sink.write(self.event.to_string());
        }
    }
}

impl Drop for Draft {
    /// Writes the last event, whatever became of the request: answered, left by the client, or
    /// ended by a panic.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let stage = if std::thread::panicking() {
            self.answered(500);
            Stage::Panic
        } else {
            Stage::ResponseComplete
        };
        self.write(stage, micros(Timestamp::now()));
    }
}

/// Writes the last event of an answer when it is dropped.
pub(crate) struct Ending {
    _draft: Draft,
}

/// Of the object, of the items of a list, and of the objects in the rows of a table.
fn drop_managed_fields(body: &mut Value) {
    let of = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    of(body);
    let items = body.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(of);
    let rows = body.get_mut("rows").and_then(Value::as_array_mut);
    rows.into_iter().flatten().filter_map(|row| row.get_mut("object")).for_each(of);
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
