//! Carrying out writes.

use std::time::{Duration, SystemTime};

use model::{Name, Timestamp, Uid, Write};
use serde_json::Value;

use crate::client::{Client, RequestError};

/// Carries out [`Write`]s. Cheap to clone.
#[derive(Clone)]
pub struct Sink {
    client: Client,
}

/// What a write left behind. The caller waits until its watches show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Name of the object; generated names are known only now.
    pub name: Name,
    /// Uid of the object.
    pub uid: Uid,
    /// Its resourceVersion after the write; empty when the server does not tell (a deletion).
    pub resource_version: Name,
}

/// Why a write was not carried out. At most one of the three flags is set.
#[derive(Debug, thiserror::Error)]
#[error("could not write to the API server")]
pub struct WriteError {
    /// Nobody needs to change anything for the same write to succeed later.
    pub retryable: bool,
    /// The object has changed since it was read, or exists already.
    pub conflict: bool,
    /// The object does not exist any more.
    pub gone: bool,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What the server said.
    #[source]
    pub source: RequestError,
}

impl Sink {
    /// A sink that writes through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Carries out one write.
    ///
    /// # Errors
    /// When the server refuses or does not answer; a stale precondition is a conflict.
    pub async fn write(&self, write: &Write) -> Result<Written, WriteError> {
        let call = match write {
            Write::FinalizeNamespace(name) => {
                let live = self.client.get(&format!("/api/v1/namespaces/{name}")).await?;
                wire::from_model::finalize_namespace(name, &live)
            }
            write => wire::from_model::call(write).at(now()),
        };
        let answer = self.client.request(call).await?;
        Ok(written(&answer))
    }
}

impl From<RequestError> for WriteError {
    fn from(source: RequestError) -> Self {
        let retry_after = match &source {
            RequestError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self {
            retryable: source.is_retryable(),
            conflict: source.is_conflict(),
            gone: source.is_gone(),
            retry_after,
            source,
        }
    }
}

/// The wall clock, for the times of Events and conditions.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Reads the identity out of an object, or out of the `Status` that a deletion may answer with.
fn written(answer: &Value) -> Written {
    let text = |value: &Value| Name::from(value.as_str().unwrap_or_default());
    if answer["kind"] == "Status" {
        let details = &answer["details"];
        return Written {
            name: text(&details["name"]),
            uid: text(&details["uid"]),
            resource_version: "".into(),
        };
    }
    let metadata = &answer["metadata"];
    Written {
        name: text(&metadata["name"]),
        uid: text(&metadata["uid"]),
        resource_version: text(&metadata["resourceVersion"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deletion_is_known_by_its_status_or_by_the_object() {
        let status = json!({
            "kind": "Status", "metadata": {}, "details": {"name": "a", "uid": "u"},
        });
        let object = json!({
            "kind": "Pod", "metadata": {"name": "a", "uid": "u", "resourceVersion": "9"},
        });
        assert_eq!(written(&status).uid, "u".into());
        assert_eq!(written(&status).resource_version, "".into());
        assert_eq!(written(&object).resource_version, "9".into());
    }
}
