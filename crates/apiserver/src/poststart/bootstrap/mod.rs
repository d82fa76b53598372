//! Objects that every cluster has.
//!
//! What it is: ServiceCIDR `kubernetes`, the system Namespaces, in every Namespace a default
//! ServiceAccount and, when asked for, the certificate authority, and Service `default/kubernetes` with its
//! endpoints. They are made before the first request is answered and made again when they go.
//!
//! What it is not: a controller of anything that users make.
//!
//! ```text
//!  flags ─▶ wanted objects ─▶ compare with the registry ─▶ create, update
//!               ▲ again after every change of these kinds
//! ```

mod objects;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{try_join, try_join_all};
use futures::stream::{self, TryStreamExt};
use serde_json::Value;
use wire::status::Failure;

use crate::meta;
use crate::poststart::error::BootstrapError;
use crate::poststart::pass::{self, Look, Pass};
use crate::registry::Registry;
use crate::registry::own::Kind;
use crate::store::Event;

/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// When all is well only changes matter; this is a safety net.
const RESYNC: Duration = Duration::from_secs(180);

/// Namespaces whose content is made at the same time.
const AT_ONCE: usize = 64;

const SERVICES: Kind = ("", "services");
const ENDPOINTS: Kind = ("", "endpoints");
const SLICES: Kind = ("discovery.k8s.io", "endpointslices");
const NAMESPACES: Kind = ("", "namespaces");
const SERVICE_ACCOUNTS: Kind = ("", "serviceaccounts");
const CONFIG_MAPS: Kind = ("", "configmaps");
const CIDRS: Kind = ("networking.k8s.io", "servicecidrs");

const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing, much of it at a time: the store makes few commits of it.
pub(crate) async fn run_once(registry: &Registry) -> Result<(), BootstrapError> {
    service_cidr(registry).await?;
    let namespaces = SYSTEM_NAMESPACES
        .map(|namespace| create_missing(registry, NAMESPACES, "", namespace, Value::Null));
    try_join_all(namespaces).await?;
    let contents = registry.all(NAMESPACES).into_iter().enumerate().map(Ok);
    stream::iter(contents)
        .try_for_each_concurrent(AT_ONCE, async |(position, namespace)| {
            pass::pause(position).await;
            namespace_content(registry, meta::text(&namespace.value(), "name")).await
        })
        .await?;
    kubernetes_service(registry).await
}

/// Looks after what an object that has changed belongs to.
async fn follow(
    registry: &Registry,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<(), BootstrapError> {
    match (kind, namespace, name) {
        (NAMESPACES, _, name) if SYSTEM_NAMESPACES.contains(&name) => {
            create_missing(registry, NAMESPACES, "", name, Value::Null).await?;
            namespace_content(registry, name).await
        }
        (NAMESPACES, _, name) => namespace_content(registry, name).await,
        (SERVICE_ACCOUNTS, namespace, "default")
        | (CONFIG_MAPS, namespace, objects::ROOT_CERTIFICATE) => {
            namespace_content(registry, namespace).await
        }
        (CIDRS, _, "kubernetes") => service_cidr(registry).await,
        (SERVICES | ENDPOINTS | SLICES, "default", "kubernetes") => {
            kubernetes_service(registry).await
        }
        _ => Ok(()),
    }
}

/// Keeps them there.
pub(crate) fn spawn(registry: &Arc<Registry>) {
    pass::spawn(registry, Keep);
}

struct Keep;

impl Pass for Keep {
    const KINDS: &'static [Kind] =
        &[SERVICES, ENDPOINTS, SLICES, NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS, CIDRS];

    async fn run(&mut self, registry: &Registry, look: Look) -> Duration {
        let result = match look {
            Look::All => run_once(registry).await,
            Look::Changed(changes) => follow_all(registry, changes).await,
        };
        match result {
            Ok(()) => RESYNC,
            Err(error) => {
                tracing::warn!(%error, "will try again");
                RETRY
            }
        }
    }
}

async fn follow_all(
    registry: &Registry,
    changes: Vec<(Kind, Arc<Event>)>,
) -> Result<(), BootstrapError> {
    for (kind, event) in changes {
        let (namespace, name) = event.path.rsplit_once('/').unwrap_or(("", &event.path));
        follow(registry, kind, namespace, name).await?;
    }
    Ok(())
}

/// The default ranges. A single range may become dual; any other difference between flags and
/// state is left alone, because Services have addresses from it (A19).
async fn service_cidr(registry: &Registry) -> Result<(), BootstrapError> {
    let wanted = objects::service_cidr(&registry.config().env);
    let Some(own) = registry.own(CIDRS, "", "kubernetes") else { return Ok(()) };
    let Some(mut present) = own.get() else {
        return written(CIDRS, "kubernetes", own.create(wanted).await);
    };
    if present["spec"] == wanted["spec"] || meta::is_deleting(&present) {
        return Ok(());
    }
    let count = |cidr: &Value| cidr["spec"]["cidrs"].as_array().map_or(0, Vec::len);
    let is_upgrade = count(&present) == 1
        && count(&wanted) == 2
        && present["spec"]["cidrs"][0] == wanted["spec"]["cidrs"][0];
    if !is_upgrade {
        tracing::warn!(
            state = %present["spec"]["cidrs"], flags = %wanted["spec"]["cidrs"],
            "ServiceCIDR kubernetes differs from the flags and stays as it is",
        );
        return Ok(());
    }
    present["spec"] = wanted["spec"].clone();
    written(CIDRS, "kubernetes", own.update("", present).await)
}

/// What every Namespace has.
async fn namespace_content(registry: &Registry, namespace: &str) -> Result<(), BootstrapError> {
    let present = registry.own(NAMESPACES, "", namespace).and_then(|own| own.get());
    if present.is_none_or(|namespace| meta::is_deleting(&namespace)) {
        return Ok(());
    }
    let account = create_missing(registry, SERVICE_ACCOUNTS, namespace, "default", Value::Null);
    let Some(certificate) = &registry.config().ca_certificate else { return account.await };
    let wanted = objects::root_certificate(certificate);
    let name = objects::ROOT_CERTIFICATE;
    let certificate = keep(registry, CONFIG_MAPS, namespace, name, &["data"], wanted);
    try_join(account, certificate).await.map(drop)
}

/// Service `default/kubernetes` and where it leads (A20).
async fn kubernetes_service(registry: &Registry) -> Result<(), BootstrapError> {
    let env = &registry.config().env;
    let wanted = objects::service(env);
    let fields = &["spec"];
    if registry.own(SERVICES, "default", "kubernetes").is_some_and(|own| own.get().is_none()) {
        keep(registry, SERVICES, "default", "kubernetes", fields, wanted).await?;
    }
    if env.advertise.0.is_loopback() || env.advertise.0.is_unspecified() {
        // No pod could reach it there, and Endpoints may not name it: the Service stays empty.
        return Ok(());
    }
    let wanted = objects::endpoints(env);
    let endpoints = keep(registry, ENDPOINTS, "default", "kubernetes", &["subsets"], wanted);
    let wanted = objects::slice(env);
    let fields = &["addressType", "endpoints", "ports"];
    let slice = keep(registry, SLICES, "default", "kubernetes", fields, wanted);
    try_join(endpoints, slice).await.map(drop)
}

async fn create_missing(
    registry: &Registry,
    kind: Kind,
    namespace: &str,
    name: &str,
    wanted: Value,
) -> Result<(), BootstrapError> {
    keep(registry, kind, namespace, name, &[], wanted).await
}

/// Creates an object, or sets those of its fields that differ.
async fn keep(
    registry: &Registry,
    kind: Kind,
    namespace: &str,
    name: &str,
    fields: &[&str],
    wanted: Value,
) -> Result<(), BootstrapError> {
    let Some(own) = registry.own(kind, namespace, name) else { return Ok(()) };
    let Some(mut present) = own.get() else {
        return match own.create(wanted).await {
            // Somebody else was faster, or the Namespace is on its way out.
            Err(failure) if failure.reason == "AlreadyExists" => Ok(()),
            Err(failure) if is_namespace_gone(&failure) => Ok(()),
            result => written(kind, name, result),
        };
    };
    if meta::is_deleting(&present) || fields.iter().all(|field| present[field] == wanted[field]) {
        return Ok(());
    }
    for field in fields {
        present[*field] = wanted[*field].clone();
    }
    match own.update("", present).await {
        Err(failure) if failure.reason == "Conflict" || failure.reason == "NotFound" => Ok(()),
        result => written(kind, name, result),
    }
}

fn written(
    (_, plural): Kind,
    name: &str,
    result: Result<(), Failure>,
) -> Result<(), BootstrapError> {
    result.map_err(|failure| BootstrapError {
        object: format!("{plural} {name}"),
        message: failure.message,
    })
}

fn is_namespace_gone(failure: &Failure) -> bool {
    let cause = &failure.details["causes"][0]["reason"];
    cause == "NamespaceTerminating" || failure.details["kind"] == "namespaces"
}
