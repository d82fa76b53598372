//! Leases (`coordination.k8s.io/v1`): node heartbeats and leader election.
//!
//! A lease says who holds something and until when. Holders renew it; others may take
//! it once it is free, released or expired. Expiry is judged by this machine's clock:
//! two machines whose clocks differ by more than the lease's duration could both
//! believe that they lead. That is harmless, because every write of the controllers
//! carries a precondition; it is only wasteful.

use std::time::Duration;

use http::Method;
use k8s_openapi::jiff::Timestamp;
use model::NodeName;
use serde_json::{Value, json};

use crate::client::{Client, JSON, RequestError};

/// Namespace of the leases that nodes renew (KEP-589).
const NODE_LEASES: &str = "kube-node-lease";
/// How often a lease of somebody else is looked at again.
const RETRY: Duration = Duration::from_secs(2);

impl Client {
    /// Renews the lease that says "this node lives", creating it if needed.
    ///
    /// `duration` is how long the node counts as alive after this; kubelets use 40 s and renew
    /// every 10 s.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn renew_node_lease(
        &self,
        node: &NodeName,
        node_uid: &str,
        duration: Duration,
    ) -> Result<(), RequestError> {
        let collection = collection(NODE_LEASES);
        let path = format!("{collection}/{node}");
        let spec = json!({
            "holderIdentity": node.as_str(),
            "leaseDurationSeconds": duration.as_secs(),
            "renewTime": micro_time(Timestamp::now()),
        });
        let patch = json!({ "spec": spec });
        match self
            .exchange(Method::PATCH, &path, "application/merge-patch+json", Some(&patch))
            .await
        {
            Err(error) if error.is_gone() => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {
                        "name": node.as_str(),
                        "namespace": NODE_LEASES,
                        "ownerReferences": [{
                            "apiVersion": "v1", "kind": "Node", "name": node.as_str(), "uid": node_uid,
                        }],
                    },
                    "spec": spec,
                });
                self.exchange(Method::POST, &collection, JSON, Some(&lease)).await.map(drop)
            }
            answer => answer.map(drop),
        }
    }
}

/// A seat that at most one process holds at a time.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Namespace of the Lease, such as `kube-system`.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are. A process that finds its own identity in the lease takes the seat at once, so
    /// it must differ between processes that may run at the same time.
    pub identity: String,
    /// How long the seat stays ours without renewal. It is renewed three times in this time.
    pub duration: Duration,
}

/// The seat is ours. Dropping it without [`Held::release`] lets the lease run out.
#[derive(Debug)]
pub struct Held {
    seat: Seat,
    lease: Value,
}

impl Seat {
    /// Waits until the seat is ours. Immediate when the lease is free, released or expired.
    pub async fn acquire(self, client: &Client) -> Held {
        loop {
            match self.try_acquire(client).await {
                Ok(Some(lease)) => return Held { seat: self, lease },
                Ok(None) => tokio::time::sleep(RETRY).await,
                // Somebody else was faster, or renewed: look again.
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(
                        lease = self.name,
                        error = &error as &dyn std::error::Error,
                        "could not ask for the lease, trying again"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_acquire(&self, client: &Client) -> Result<Option<Value>, RequestError> {
        let path = self.path();
        let now = Timestamp::now();
        match client.get(&path).await {
            Ok(lease) if self.may_take(&lease, now) => {
                let taken = self.taken(lease, now);
                client.exchange(Method::PUT, &path, JSON, Some(&taken)).await.map(Some)
            }
            Ok(_) => Ok(None),
            Err(error) if error.is_gone() => {
                let empty = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": { "name": self.name, "namespace": self.namespace },
                });
                let taken = self.taken(empty, now);
                let collection = collection(&self.namespace);
                client.exchange(Method::POST, &collection, JSON, Some(&taken)).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Free, released, ours or expired.
    fn may_take(&self, lease: &Value, now: Timestamp) -> bool {
        let spec = &lease["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let renewed = spec["renewTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or_default();
        renewed.is_none_or(|renewed| now.duration_since(renewed).as_secs() >= seconds)
    }

    fn taken(&self, mut lease: Value, now: Timestamp) -> Value {
        let old = lease["spec"].take();
        let same = old["holderIdentity"].as_str() == Some(&self.identity);
        let now = micro_time(now);
        let transitions = old["leaseTransitions"].as_i64().unwrap_or_default();
        let first = lease["metadata"]["resourceVersion"].is_null();
        lease["spec"] = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.duration.as_secs(),
            "acquireTime": if same { old["acquireTime"].clone() } else { now.as_str().into() },
            "renewTime": now,
            "leaseTransitions": if same || first { transitions } else { transitions + 1 },
        });
        lease
    }

    fn path(&self) -> String {
        format!("{}/{}", collection(&self.namespace), self.name)
    }
}

impl Held {
    /// Renews the seat for as long as possible; returns when it is lost.
    ///
    /// Run it beside the work that needs the seat and stop that work when this returns.
    pub async fn keep(&mut self, client: &Client) {
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.seat.duration / 3).await;
            match self.renew(client).await {
                Ok(()) => renewed = tokio::time::Instant::now(),
                Err(error) if error.is_conflict() || error.is_gone() => {
                    match self.seat.try_acquire(client).await {
                        Ok(Some(lease)) => {
                            self.lease = lease;
                            renewed = tokio::time::Instant::now();
                        }
                        Ok(None) => return,
                        Err(error) => self.log(&error),
                    }
                }
                Err(error) => self.log(&error),
            }
            if renewed.elapsed() >= self.seat.duration {
                return;
            }
        }
    }

    /// Gives the seat up so that the next holder need not wait.
    ///
    /// # Errors
    /// When the server does not answer, or the seat was lost meanwhile; then there is nothing to
    /// give up.
    pub async fn release(mut self, client: &Client) -> Result<(), RequestError> {
        if let Some(spec) = self.lease["spec"].as_object_mut() {
            spec.remove("holderIdentity");
        }
        self.lease["spec"]["leaseDurationSeconds"] = 1.into();
        client.exchange(Method::PUT, &self.seat.path(), JSON, Some(&self.lease)).await.map(drop)
    }

    async fn renew(&mut self, client: &Client) -> Result<(), RequestError> {
        let renewed = self.seat.taken(self.lease.clone(), Timestamp::now());
        self.lease = client.exchange(Method::PUT, &self.seat.path(), JSON, Some(&renewed)).await?;
        Ok(())
    }

    fn log(&self, error: &RequestError) {
        tracing::warn!(
            lease = self.seat.name,
            error = error as &dyn std::error::Error,
            "could not renew the lease, trying again until it expires"
        );
    }
}

fn collection(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// `metav1.MicroTime`: always six digits after the point.
fn micro_time(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(identity: &str) -> Seat {
        Seat {
            namespace: "kube-system".into(),
            name: "portolan-controller".into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
        }
    }

    fn held_by(identity: &str, seconds_ago: i64, now: Timestamp) -> Value {
        let renewed = Timestamp::from_second(now.as_second() - seconds_ago).expect("in range");
        json!({
            "metadata": { "resourceVersion": "7" },
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": 15,
                "renewTime": micro_time(renewed),
                "leaseTransitions": 2,
            },
        })
    }

    #[test]
    fn a_fresh_lease_of_another_is_respected_until_it_expires() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        assert!(!seat("a").may_take(&held_by("b", 14, now), now));
        assert!(seat("a").may_take(&held_by("b", 15, now), now));
    }

    #[test]
    fn a_free_released_or_own_lease_is_taken_at_once() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        assert!(seat("a").may_take(&json!({}), now));
        assert!(seat("a").may_take(&held_by("", 0, now), now));
        assert!(seat("a").may_take(&held_by("a", 0, now), now));
    }

    #[test]
    fn only_a_change_of_holder_counts_as_a_transition() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let renewed = seat("b").taken(held_by("b", 5, now), now);
        assert_eq!(renewed["spec"]["leaseTransitions"], 2);
        let taken = seat("a").taken(held_by("b", 20, now), now);
        assert_eq!(taken["spec"]["leaseTransitions"], 3);
        assert_eq!(taken["spec"]["holderIdentity"], "a");
        assert_eq!(taken["metadata"]["resourceVersion"], "7");
    }
}
