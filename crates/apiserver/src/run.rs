//! Starting and stopping the whole server.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use wire::kinds::Env;

use crate::audit::Audit;
pub use crate::audit::{AuditError, PolicyError};
use crate::auth::{Authenticator, ServiceAccountTokens, StaticTokens};
pub use crate::auth::{KeyError, TokenFileError};
use crate::config::ApiserverConfig;
use crate::http::accept::listen;
use crate::http::{Inflight, Metrics, Server};
use crate::poststart::{self, BootstrapError};
use crate::proxy::Dialer;
use crate::registry::{self, Registry, StoreError};
use crate::tls::{
    CertKey, ClientAuthorities, Pki, PkiError, TlsError, api_server_config, client_config,
    unverified_client_config,
};

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum RunError {
    /// Keys and certificates.
    #[error("cannot prepare the server's certificates")]
    Pki(#[from] PkiError),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// The key for ServiceAccount tokens.
    #[error("cannot sign ServiceAccount tokens")]
    Key(#[from] KeyError),
    /// `--token-auth-file`.
    #[error("cannot use --token-auth-file")]
    Tokens(#[from] TokenFileError),
    /// A file named by a flag.
    #[error("cannot read {}, named by {flag}", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An address to listen on.
    #[error("cannot listen on {address}; is another server running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener made by the parent.
    #[error("cannot use an inherited listener")]
    Inherited(#[source] io::Error),
    /// Neither a bind address nor an inherited listener.
    #[error("there is no address to listen on; give --bind-address or pass listeners")]
    NoListener,
    /// The audit log.
    #[error("cannot keep an audit log")]
    Audit(#[from] AuditError),
    /// The store.
    #[error("cannot open the state in {}", path.display())]
    Registry {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// What every cluster has.
    #[error("cannot create the objects that every cluster has")]
    Bootstrap(#[from] BootstrapError),
}

/// Serves the Kubernetes API until `shutdown` is done, then ends watches and lets open requests
/// finish for a few seconds.
///
/// `ready` is called once, with the addresses listened on, when requests are answered. Must run in
/// a tokio runtime with time and I/O enabled.
pub async fn run(
    config: ApiserverConfig,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), RunError> {
    raise_descriptor_limit();
    let pki = Pki::open(config.state_dir.join("pki"))?;
    let listeners = listeners(&config).await?;
    let addresses: Vec<SocketAddr> = listeners.iter().map(|(_, address)| *address).collect();
    let authorities = client_authorities(&config, &pki)?;
    let authorities: Vec<&str> = authorities.iter().map(String::as_str).collect();
    let clients = ClientAuthorities::new(&authorities)?;
    let own = serving_pair(&config, &pki, &addresses)?;
    let tls = TlsAcceptor::from(Arc::new(api_server_config(&own, &clients)?));
    let (drain, draining) = watch::channel(false);
    let server = Arc::new(server(&config, &pki, &addresses, clients, draining).await?);
    let limit = Arc::new(Semaphore::new(config.limits.connections));
    let mut serving = JoinSet::new();
    for (listener, _) in listeners {
        serving.spawn(listen(server.clone(), tls.clone(), listener, limit.clone()));
    }
    ready(&addresses);
    shutdown.await;
    // Nobody left to tell is fine.
    let _ = drain.send(true);
    while serving.join_next().await.is_some() {}
    Ok(())
}

async fn server(
    config: &ApiserverConfig,
    pki: &Pki,
    addresses: &[SocketAddr],
    clients: ClientAuthorities,
    draining: watch::Receiver<bool>,
) -> Result<Server, RunError> {
    let advertised = advertised(config, addresses);
    let registry = Registry::open(registry::Config {
        state: config.state_dir.clone(),
        authorization: config.authorization_mode.clone(),
        env: Env {
            service_cidrs: config.service_cluster_ip_range.clone(),
            node_ports: config.service_node_port_range,
            advertise: (advertised.ip(), advertised.port()),
        },
        ca_certificate: config.publish_root_certificate.then(|| pki.ca_pem().to_owned()),
        deny_external_ips: config.deny_service_external_ips,
        service_account_admission: config.service_account_admission,
    })
    .map_err(|source| RunError::Registry { path: config.state_dir.clone(), source })?;
    poststart::start(&registry).await?;
    let tokens = match &config.token_auth_file {
        Some(path) => StaticTokens::read(path)?,
        None => StaticTokens::default(),
    };
    let policy = config.audit_policy_file.as_deref();
    let open = |log: &Path| Audit::open(log, config.audit_log_rotation, policy);
    let audit = config.audit_log_path.as_deref().map(open).transpose()?;
    let service_accounts = ServiceAccountTokens::new(
        &pki.service_account_key()?,
        &config.service_account_issuer,
        &config.api_audiences,
    )?;
    Ok(Server {
        metrics: Metrics::new(registry.allocator.metrics()),
        registry,
        authenticator: Authenticator { tokens, service_accounts, anonymous: config.anonymous_auth },
        clients,
        audit,
        dialer: dialer(config, pki)?,
        limits: config.limits,
        inflight: Inflight::new(&config.limits),
        advertised,
        draining,
    })
}

/// The address of `default/kubernetes`, with the port of the listener that serves it.
fn advertised(config: &ApiserverConfig, addresses: &[SocketAddr]) -> SocketAddr {
    let address = config.advertised();
    let own = addresses.iter().find(|listener| listener.ip() == address);
    let port = own.or_else(|| addresses.last()).map_or(config.secure_port, SocketAddr::port);
    SocketAddr::new(address, port)
}

fn dialer(config: &ApiserverConfig, pki: &Pki) -> Result<Dialer, RunError> {
    let client = match &config.kubelet_client_files {
        Some((cert, key)) => CertKey {
            cert_pem: read("--kubelet-client-certificate", cert)?,
            key_pem: read("--kubelet-client-key", key)?,
        },
        None => {
            pki.kept_client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", &[])?
        }
    };
    let authority = match &config.kubelet_certificate_authority {
        Some(path) => read("--kubelet-certificate-authority", path)?,
        None => pki.ca_pem().to_owned(),
    };
    Ok(Dialer {
        tls: Arc::new(client_config(&authority, Some(&client))?),
        unverified_tls: Arc::new(unverified_client_config()?),
        preferred: config.kubelet_preferred_address_types.clone(),
    })
}

fn serving_pair(
    config: &ApiserverConfig,
    pki: &Pki,
    addresses: &[SocketAddr],
) -> Result<CertKey, RunError> {
    Ok(match &config.tls_files {
        Some((cert, key)) => CertKey {
            cert_pem: read("--tls-cert-file", cert)?,
            key_pem: read("--tls-private-key-file", key)?,
        },
        None => pki.kept_server("apiserver", &serving_names(config, addresses))?,
    })
}

/// PEM texts with the authorities of client certificates.
fn client_authorities(config: &ApiserverConfig, pki: &Pki) -> Result<Vec<String>, RunError> {
    let mut authorities = vec![pki.ca_pem().to_owned()];
    if let Some(path) = &config.client_ca_file {
        authorities.push(read("--client-ca-file", path)?);
    }
    Ok(authorities)
}

/// By these names and addresses clients may call the server.
fn serving_names(config: &ApiserverConfig, addresses: &[SocketAddr]) -> Vec<String> {
    let mut names: Vec<String> = IN_CLUSTER_NAMES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let addresses = addresses.iter().map(SocketAddr::ip);
    let first_services = config.service_cluster_ip_range.iter().filter_map(first_address);
    for address in addresses.chain([config.advertised()]).chain(first_services) {
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
    }
    names
}

/// The address of Service `default/kubernetes`: the first after the network's own.
fn first_address(range: &IpNet) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(network) => {
            u32::from(network).checked_add(1).map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(network) => {
            u128::from(network).checked_add(1).map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

async fn listeners(config: &ApiserverConfig) -> Result<Vec<(TcpListener, SocketAddr)>, RunError> {
    let mut listeners = Vec::new();
    for listener in &config.inherited {
        let listener = listener
            .try_clone()
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
            .map_err(RunError::Inherited)?;
        let address = listener.local_addr().map_err(RunError::Inherited)?;
        listeners.push((listener, address));
    }
    if let Some(ip) = config.bind_address {
        let address = SocketAddr::new(ip, config.secure_port);
        let failed = |source| RunError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        listeners.push((listener, address));
    }
    if listeners.is_empty() { Err(RunError::NoListener) } else { Ok(listeners) }
}

fn read(flag: &'static str, path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::File {
        flag,
        path: path.to_owned(),
        source,
    })
}

/// A thousand watches need a thousand descriptors, and more than that is often the soft limit.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot raise RLIMIT_NOFILE");
    }
}

const IN_CLUSTER_NAMES: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_covers_the_service_and_the_listeners() {
        let mut config = ApiserverConfig::new("/nowhere");
        config.advertise_address = Some("172.30.0.1".parse().unwrap());
        let names = serving_names(&config, &["127.0.0.1:1".parse().unwrap()]);
        for name in ["kubernetes.default.svc", "10.96.0.1", "fd00:10:96::1", "172.30.0.1"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert_eq!(names.iter().filter(|name| *name == "127.0.0.1").count(), 1);
    }

    #[test]
    fn the_advertised_port_is_that_of_the_advertised_address() {
        let mut config = ApiserverConfig::new("/nowhere");
        config.advertise_address = Some("172.30.0.1".parse().unwrap());
        let listeners = ["127.0.0.1:40000".parse().unwrap(), "172.30.0.1:6443".parse().unwrap()];
        assert_eq!(advertised(&config, &listeners).port(), 6443);
        assert_eq!(advertised(&config, &listeners[..1]).port(), 40000);
    }
}
