//! Events as `kubectl describe` shows them; repeated ones are counted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cluster::Client;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::status::now;
use crate::error::chain;

/// Severity of an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Sends events of one node, in their order, without making anybody wait. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::UnboundedSender<Event>,
}

#[derive(Debug)]
struct Event {
    object: Value,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// What was already told, by object, reason and message: the event's name and count.
type Told = BTreeMap<(String, &'static str, String), (String, u32)>;

impl Events {
    /// Starts to send events of a node's kubelet.
    pub(crate) fn start(client: Client, node: String) -> Self {
        let (queue, mut events) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            let told = Rc::new(RefCell::new(Told::new()));
            while let Some(event) = events.recv().await {
                if let Err(error) = send(&client, &node, &told, event).await {
                    // Events are a courtesy: a lost one changes nothing.
                    tracing::debug!(node, error = chain(&error), "could not send an event");
                }
            }
        });
        Self { queue }
    }

    /// Tells about a Pod or one of its containers.
    pub(crate) fn pod(
        &self,
        pod: &Value,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let metadata = &pod["metadata"];
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        });
        if let Some(container) = container {
            object["fieldPath"] = format!("spec.containers{{{container}}}").into();
        }
        // The sending task lives as long as the node.
        let _ = self.queue.send(Event { object, severity, reason, message: message.into() });
    }
}

async fn send(
    client: &Client,
    node: &str,
    told: &RefCell<Told>,
    event: Event,
) -> Result<(), cluster::RequestError> {
    let namespace = event.object["namespace"].as_str().unwrap_or("default").to_owned();
    let collection = format!("/api/v1/namespaces/{namespace}/events");
    let object_id = format!("{}{}", event.object["uid"], event.object["fieldPath"]);
    let key = (object_id, event.reason, event.message.clone());
    let repeated = told.borrow_mut().get_mut(&key).map(|(name, count)| {
        *count += 1;
        (name.clone(), *count)
    });
    if let Some((name, count)) = repeated {
        let patch = json!({"count": count, "lastTimestamp": now()});
        let path = format!("{collection}/{name}");
        match client
            .exchange(Method::PATCH, &path, "application/merge-patch+json", Some(&patch))
            .await
        {
            Err(error) if error.is_gone() => {}
            other => return other.map(drop),
        }
    }
    let time = jiff::Timestamp::now();
    let name =
        format!("{}.{:x}", event.object["name"].as_str().unwrap_or("pod"), time.as_nanosecond());
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": event.object,
        "type": format!("{:?}", event.severity), "reason": event.reason, "message": event.message,
        "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
        "source": {"component": "kubelet", "host": node},
        "reportingComponent": "kubelet", "reportingInstance": node,
    });
    client.exchange(Method::POST, &collection, "application/json", Some(&body)).await?;
    told.borrow_mut().insert(key, (name, 1));
    Ok(())
}
