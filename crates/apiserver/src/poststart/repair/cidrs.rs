//! ServiceCIDRs: a finalizer that holds a range while Services have addresses of it, and the
//! condition that says whether it may be allocated from.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use model::IpNet;
use serde_json::{Value, json};

use super::age::seconds_since;
use crate::meta;
use crate::poststart::pass::{Look, Pass};
use crate::registry::Registry;
use crate::registry::own::{Kind, Own};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const CIDRS: Kind = ("networking.k8s.io", "servicecidrs");
const ADDRESSES: Kind = ("networking.k8s.io", "ipaddresses");
const RESYNC: Duration = Duration::from_secs(180);
/// After a write of ours, and while a deletion waits.
const SOON: Duration = Duration::from_secs(1);
/// A range stays this long after its deletion: an allocation may just have begun.
const DELETION_GRACE: i64 = 10;
/// Field managers as the reference server names them.
const FINALIZER_MANAGER: &str = "kube-controller-manager";
const STATUS_MANAGER: &str = "service-cidr-controller";
/// The range that the flags name, and who says that it is ready.
const DEFAULT: &str = "kubernetes";
const DEFAULT_MANAGER: &str = "kubernetes-service-cidr-controller";
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove \
                      them or create a new ServiceCIDR";

/// The loop.
pub(super) struct Lifecycle;

impl Pass for Lifecycle {
    const KINDS: &'static [Kind] = &[CIDRS, ADDRESSES];

    /// There are few ranges: every look is at all of them.
    async fn run(&mut self, registry: &Registry, _: Look) -> Duration {
        let now = Timestamp::now();
        let cidrs: Vec<Value> = registry.all(CIDRS).iter().map(|record| record.value()).collect();
        let mut again = RESYNC;
        for cidr in &cidrs {
            let name = meta::text(cidr, "name");
            let Some(own) = registry.own(CIDRS, "", name) else { continue };
            let own = Own { manager: FINALIZER_MANAGER, ..own };
            let wait = if meta::is_deleting(cidr) {
                terminate(registry, &own, cidr, &cidrs, now).await
            } else {
                settle(&own, cidr).await
            };
            again = again.min(wait);
        }
        again
    }
}

/// Finalizer and condition of a range in use (A17).
async fn settle(own: &Own<'_>, cidr: &Value) -> Duration {
    let mut finalizers = meta::finalizers(cidr);
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        let mut changed = cidr.clone();
        meta::set_finalizers(&mut changed, finalizers);
        return written(own.update("", changed).await);
    }
    if own.name == DEFAULT && cidr["status"]["conditions"].is_null() {
        // The reference server says so twice: here as the maker of the default range.
        let config = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        if let Err(failure) = (Own { manager: DEFAULT_MANAGER, row: own.row.clone(), ..*own })
            .apply("status", config)
            .await
        {
            return written(Err(failure));
        }
    }
    set_ready(own, cidr, "True", "", READY).await
}

/// Lets a range go when nothing depends on it (A18).
pub(super) async fn terminate(
    registry: &Registry,
    own: &Own<'_>,
    cidr: &Value,
    all: &[Value],
    now: Timestamp,
) -> Duration {
    let finalizers = meta::finalizers(cidr);
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return RESYNC;
    }
    if is_needed(registry, cidr, all) {
        return set_ready(own, cidr, "False", "Terminating", IN_USE).await;
    }
    let waited = seconds_since(cidr, "deletionTimestamp", now);
    if waited < DELETION_GRACE {
        return SOON;
    }
    let mut changed = cidr.clone();
    let rest = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    meta::set_finalizers(&mut changed, rest);
    written(own.update("", changed).await)
}

async fn set_ready(
    own: &Own<'_>,
    cidr: &Value,
    status: &str,
    reason: &str,
    message: &str,
) -> Duration {
    let present = &cidr["status"]["conditions"][0];
    let is_set = present["type"] == "Ready"
        && present["status"] == status
        && present["reason"].as_str().unwrap_or("") == reason
        && present["message"] == message;
    if is_set {
        return RESYNC;
    }
    let config = json!({ "status": { "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": meta::seconds(Timestamp::now()),
    }]}});
    written(
        Own { manager: STATUS_MANAGER, row: own.row.clone(), ..*own }.apply("status", config).await,
    )
}

/// Whether some address lies in this range and in no other that stays.
fn is_needed(registry: &Registry, cidr: &Value, all: &[Value]) -> bool {
    let own = ranges(cidr);
    let others: Vec<IpNet> = all
        .iter()
        .filter(|other| meta::text(other, "name") != meta::text(cidr, "name"))
        .filter(|other| !meta::is_deleting(other))
        .flat_map(ranges)
        .collect();
    let contains =
        |ranges: &[IpNet], address: &IpAddr| ranges.iter().any(|range| range.contains(address));
    registry
        .all(ADDRESSES)
        .iter()
        .filter_map(|object| meta::text(&object.value(), "name").parse().ok())
        .any(|address: IpAddr| contains(&own, &address) && !contains(&others, &address))
}

fn ranges(cidr: &Value) -> Vec<IpNet> {
    let cidrs = cidr["spec"]["cidrs"].as_array().into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

/// A conflict is looked at again by the pass that the change starts.
fn written(result: Result<(), wire::status::Failure>) -> Duration {
    match result {
        Ok(()) => RESYNC,
        Err(failure) => {
            tracing::debug!(failure = failure.message, "ServiceCIDR not written");
            SOON
        }
    }
}
