//! The API server with its controllers in one process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use apiserver::config::{ApiserverConfig, Rotation};
use apiserver::tls::Pki;
use daemon::controller::{ControllerName, Selection};
use tokio::sync::oneshot;

use super::servers::{cluster_cidrs, serve};
use crate::args::{AdmissionPlugin, Apiserver};

/// `apiserver`: the embedded API server and, unless told otherwise, its controllers.
pub(super) fn run(arguments: Apiserver) -> anyhow::Result<()> {
    let cluster_cidrs = cluster_cidrs(&arguments.node_cidrs)?;
    let selection = selection(&arguments.controllers)?;
    let controllers = (!selection.is_empty()).then(|| Controlling {
        selection,
        pki: arguments.state.join("pki"),
        pool: plan::AddressPool::from_networks(&arguments.pool),
        cluster_cidrs,
    });
    let config = configuration(arguments)?;
    serve(async |shutdown| {
        let (ready, serving) = oneshot::channel();
        let server = apiserver::run::run(config, shutdown, |addresses: &[SocketAddr]| {
            for address in addresses {
                tracing::info!("serving the Kubernetes API on https://{address}");
            }
            // Nobody listens when no controllers are wanted.
            let _ = ready.send(addresses.to_vec());
        });
        let controllers = async {
            match controllers {
                Some(controllers) => controllers.run(serving).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = server => result.context("run the API server"),
            result = controllers => result.context("run the controllers"),
        }
    })
}

/// A controller of this command only: it runs inside the server, which has the certificate.
const ROOT_CERTIFICATE: &str = "root-ca-certificate-publisher-controller";

/// As kube-controller-manager, this does not schedule pods unless it is told to.
fn selection(wanted: &[String]) -> anyhow::Result<Selection> {
    let others: Vec<_> = wanted
        .iter()
        .filter(|name| *name != "none" && name.trim_start_matches('-') != ROOT_CERTIFICATE)
        .collect();
    Selection::of(&others, &[ControllerName::Scheduler]).context("--controllers")
}

fn configuration(arguments: Apiserver) -> anyhow::Result<ApiserverConfig> {
    let mut config = ApiserverConfig::new(arguments.state);
    config.bind_address = match arguments.bind_address.as_str() {
        "none" => None,
        text => Some(text.parse::<IpAddr>().with_context(|| format!("--bind-address {text}"))?),
    };
    config.secure_port = arguments.secure_port;
    config.inherited = apiserver::inherit::inherited_listeners()?;
    config.advertise_address = arguments.advertise_address;
    config.service_cluster_ip_range = arguments.service_cluster_ip_range;
    config.service_node_port_range = arguments.service_node_port_range;
    config.token_auth_file = arguments.token_auth_file;
    config.anonymous_auth = arguments.anonymous_auth;
    config.client_ca_file = arguments.client_ca_file;
    config.tls_files = arguments.tls_cert_file.zip(arguments.tls_private_key_file);
    config.kubelet_client_files =
        arguments.kubelet_client_certificate.zip(arguments.kubelet_client_key);
    config.kubelet_certificate_authority = arguments.kubelet_certificate_authority;
    let plugins = arguments.enable_admission_plugins;
    config.deny_service_external_ips = plugins.contains(&AdmissionPlugin::DenyServiceExternalIps);
    config.service_account_admission = plugins.contains(&AdmissionPlugin::ServiceAccount);
    config.kubelet_preferred_address_types = arguments.kubelet_preferred_address_types;
    config.authorization_mode = arguments.authorization_mode;
    config.audit_log_path = arguments.audit_log_path;
    config.audit_log_rotation = Rotation {
        max_size: arguments.audit_log_maxsize,
        max_backup: arguments.audit_log_maxbackup,
        max_age: arguments.audit_log_maxage,
    };
    config.audit_policy_file = arguments.audit_policy_file;
    config.service_account_issuer = arguments.service_account_issuer;
    config.api_audiences = arguments.api_audiences;
    config.limits.requests_inflight = arguments.max_requests_inflight;
    config.limits.mutating_inflight = arguments.max_mutating_requests_inflight;
    config.limits.request_timeout = arguments.request_timeout;
    config.publish_root_certificate =
        arguments.controllers.iter().any(|name| name == ROOT_CERTIFICATE);
    Ok(config)
}

/// The controllers of this process: clients of its own server like any other, on a thread of
/// their own so that planning delays no answer.
struct Controlling {
    selection: Selection,
    pki: PathBuf,
    pool: plan::AddressPool,
    cluster_cidrs: Option<plan::ClusterCidrs>,
}

impl Controlling {
    /// Controls from when the server answers until the process ends. Writes under way are then cut
    /// off, which is harmless.
    async fn run(self, serving: oneshot::Receiver<Vec<SocketAddr>>) -> anyhow::Result<()> {
        let Ok(addresses) = serving.await else {
            // The server has failed and says why.
            return std::future::pending().await;
        };
        let config = daemon::controller::ControllerConfig {
            kubeconfig: Some(kubeconfig(&self.pki, &addresses)?),
            controllers: self.selection,
            pool: self.pool,
            cluster_cidrs: self.cluster_cidrs,
            seat: None,
            health_bind: None,
        };
        let (done, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("controllers".to_owned())
            .spawn(move || {
                let result = control(config);
                // Nobody listens when the process ends.
                let _ = done.send(result);
            })
            .context("start a thread")?;
        ended.await.context("the controllers have panicked")?
    }
}

fn control(config: daemon::controller::ControllerConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(daemon::controller::run(config, std::future::pending()))
}

/// How the controllers reach the server and prove who they are.
fn kubeconfig(pki: &Path, addresses: &[SocketAddr]) -> anyhow::Result<PathBuf> {
    let mut address = *addresses.first().context("the server listens nowhere")?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let pki = Pki::open(pki)?;
    // Its rights are those of deploy/rbac/controller.yaml.
    let client = pki.kept_client("controller", "portolan:controller", &[])?;
    Ok(pki.keep_kubeconfig("controller", &format!("https://{address}"), &client)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(wanted: &[&str]) -> Selection {
        let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        selection(&wanted).unwrap()
    }

    #[test]
    fn pods_are_scheduled_only_when_asked() {
        assert!(!selected(&["*"]).contains(ControllerName::Scheduler));
        assert!(selected(&["*", "scheduler"]).contains(ControllerName::Scheduler));
    }

    #[test]
    fn the_root_certificate_is_no_controller_of_the_loop() {
        assert!(selected(&["none"]).is_empty());
        assert!(selected(&[ROOT_CERTIFICATE]).is_empty());
        assert!(!selected(&["*", "-root-ca-certificate-publisher-controller"]).is_empty());
    }
}
