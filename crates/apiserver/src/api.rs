//! The boundary between HTTP and the registry: a parsed request, an answer not yet encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::Failure;

/// A request whose path, query and body have been parsed.
#[derive(Clone)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// The served kind.
    pub kind: Kind,
    /// Namespace from the path; `None` for cluster-scoped kinds and for lists over all.
    pub namespace: Option<String>,
    /// Name from the path.
    pub name: Option<String>,
    /// Subresource from the path, such as `status`.
    pub subresource: Option<String>,
    /// Query options.
    pub options: Options,
    /// The decoded body: the object, the patch, or DeleteOptions.
    pub body: Option<Value>,
    /// What is unusual about the body of a patch (`wire::patch::Patch`).
    pub strict: Vec<String>,
    /// Who asks.
    pub user: User,
    /// The default fieldManager: the User-Agent up to the first `/`.
    pub user_agent_manager: String,
}

impl Request {
    /// The name from the path, or an empty text.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// The Namespace from the path, or an empty text.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }

    /// The subresource from the path, or an empty text.
    pub fn subresource(&self) -> &str {
        self.subresource.as_deref().unwrap_or("")
    }

    /// Who owns the fields that this request writes (`metadata.managedFields`).
    pub fn manager(&self) -> &str {
        match self.options.field_manager.as_str() {
            "" => &self.user_agent_manager,
            manager => manager,
        }
    }
}

/// Verb of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// GET with a name.
    Get,
    /// GET without a name.
    List,
    /// GET with `watch=true`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch(PatchType),
    /// DELETE with a name.
    Delete,
    /// DELETE without a name.
    DeleteCollection,
}

/// Content-Type of a PATCH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchType {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`.
    Apply,
}

/// Query options, as sent (the registry judges them).
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `resourceVersion`.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub resource_version_match: String,
    /// `limit`.
    pub limit: Option<u64>,
    /// `continue`.
    pub continue_token: String,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
    /// `allowWatchBookmarks`.
    pub allow_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`.
    pub field_manager: String,
    /// `fieldValidation`.
    pub field_validation: String,
    /// `force` (apply).
    pub force: bool,
    /// `gracePeriodSeconds` (delete).
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy` (delete).
    pub propagation_policy: String,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct User {
    /// User name.
    pub name: String,
    /// Something that tells users of one name apart; may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows, such as the id of the credential.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// `authentication.k8s.io/v1` UserInfo.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({ "username": self.name });
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = self.groups.as_slice().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// An answer, not yet encoded.
pub enum Answer {
    /// One object with its HTTP status (200, 201, 202) and warnings.
    Object {
        /// HTTP status.
        code: u16,
        /// The object.
        object: Stored,
        /// `Warning` headers.
        warnings: Vec<String>,
    },
    /// A list.
    List {
        /// Items, as stored.
        items: Vec<Stored>,
        /// `metadata.resourceVersion`.
        resource_version: u64,
        /// What is left when `limit` cut the list short.
        more: Option<More>,
    },
    /// A watch. Ends when the client goes or the time is over.
    Watch(BoxStream<'static, WatchEvent>),
    /// A failure.
    Failure(Failure, Vec<String>),
}

/// The rest of a list that `limit` cut short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct More {
    /// `metadata.continue`.
    pub token: String,
    /// `metadata.remainingItemCount`; absent when a selector is in use.
    pub remaining: Option<u64>,
}

/// An object as stored: its JSON text is shared with every reader.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The JSON text. An object of a served kind begins with `{"kind":"K","apiVersion":"V"`.
    pub json: Bytes,
    /// The parsed object, when somebody already has it.
    pub value: Option<Arc<Value>>,
}

impl Stored {
    /// The object as a `Value`, parsed only when nobody has done so.
    pub fn value(&self) -> Arc<Value> {
        match &self.value {
            Some(value) => value.clone(),
            None => Arc::new(serde_json::from_slice(&self.json).unwrap_or_default()),
        }
    }

    /// The JSON text as items of a list carry it: without kind and apiVersion. The leading `{`
    /// is missing too: the caller writes it, the rest is shared.
    pub fn item_tail(&self, kind: &Kind) -> Bytes {
        let api_version =
            kind.group().len() + usize::from(!kind.group().is_empty()) + kind.version().len();
        let prefix = r#"{"kind":"","apiVersion":"","#.len() + kind.kind().len() + api_version;
        self.json.slice(prefix.min(self.json.len())..)
    }
}

/// One watch event.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to this watch.
    Added(Stored),
    /// The object changed.
    Modified(Stored),
    /// The object is gone or no longer selected; its last state.
    Deleted(Stored),
    /// Nothing happened up to this resourceVersion; `initial_events_end` marks the end of the
    /// initial events.
    Bookmark {
        /// Up to here.
        resource_version: u64,
        /// Annotation `k8s.io/initial-events-end`.
        initial_events_end: bool,
    },
    /// The watch cannot go on (410 Gone, for one).
    Error(Failure),
}
