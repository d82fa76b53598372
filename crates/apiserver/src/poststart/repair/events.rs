//! Events go after an hour (kube-apiserver's `--event-ttl`).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::poststart::pass::{self, Look, Pass};
use crate::registry::Registry;
use crate::registry::own::Kind;
use crate::store::Transaction;

const EVENTS: Kind = ("", "events");
const INTERVAL: Duration = Duration::from_secs(300);
const TIME_TO_LIVE: i64 = 3600;

/// The loop.
pub(super) struct Expiry;

impl Pass for Expiry {
    /// By the clock only.
    const KINDS: &'static [Kind] = &[("networking.k8s.io", "servicecidrs")];

    async fn run(&mut self, registry: &Registry, look: Look) -> Duration {
        if matches!(look, Look::Changed(_)) {
            return INTERVAL;
        }
        let now = Timestamp::now();
        let Some(row) = registry.resources.find(EVENTS.0, EVENTS.1) else { return INTERVAL };
        for (position, record) in registry.all(EVENTS).into_iter().enumerate() {
            pass::pause(position).await;
            let event = record.value();
            if now.duration_since(last_seen(&event)).as_secs() < TIME_TO_LIVE {
                continue;
            }
            let (namespace, name) = (meta::text(&event, "namespace"), meta::text(&event, "name"));
            let mut transaction = Transaction::default();
            let key = registry.resources.key(&row, namespace, name);
            transaction.delete(key, record.version, None);
            if let Err(error) = registry.store.commit(transaction).await {
                tracing::debug!(name, %error, "event not expired");
            }
        }
        INTERVAL
    }
}

/// The newest of an event's times.
fn last_seen(event: &Value) -> Timestamp {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    let times = times.into_iter().filter_map(|time| time.as_str()?.parse().ok());
    times.max().unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_that_was_seen_again_stays_young() {
        let event = json!({
            "metadata": { "creationTimestamp": "2026-11-23T10:00:00Z" },
            "lastTimestamp": "2026-11-23T12:00:00Z", "eventTime": null,
        });
        assert_eq!(last_seen(&event), "2026-11-23T12:00:00Z".parse().unwrap());
    }
}
