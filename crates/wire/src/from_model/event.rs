//! Events.

use model::{Event, EventKind};
use serde_json::{Map, Value, json};

use super::{Call, path};

/// Creates an Event, in the Namespace of what it is about. Its times come from [`Call::at`].
pub(super) fn create(event: &Event) -> Call {
    let object = &event.regarding;
    let namespace = if object.namespace.is_empty() { "default" } else { object.namespace.as_str() };
    let mut involved = Map::new();
    for (field, value) in [
        ("apiVersion", &event.api_version),
        ("kind", &event.kind),
        ("namespace", &object.namespace),
        ("name", &object.name),
        ("uid", &object.uid),
        ("resourceVersion", &object.resource_version),
    ] {
        if !value.is_empty() {
            involved.insert(field.to_owned(), Value::from(value.as_str()));
        }
    }
    let kind = match event.event_kind {
        EventKind::Normal => "Normal",
        EventKind::Warning => "Warning",
    };
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "namespace": namespace, "generateName": format!("{}.", object.name) },
        "involvedObject": involved,
        "reason": event.reason, "message": event.message, "type": kind, "count": 1,
        "source": { "component": event.component },
        "reportingComponent": event.component,
    });
    Call::post(path("", "v1", namespace, "events", ""), body)
}
