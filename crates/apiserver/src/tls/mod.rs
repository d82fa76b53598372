//! Keys, certificates and TLS.
//!
//! What it is: a small certificate authority in a folder ([`Pki`]), the rustls
//! configurations of the server and of its connections to kubelets, and the text of a
//! kubeconfig.
//!
//! What it is not: it authenticates nobody. A certificate that verified here becomes a
//! user in `auth`.
//!
//! ```text
//!  <dir>/ca.{crt,key} ─ signs ─▶ apiserver.{crt,key}, admin.{crt,key}, apiserver-kubelet-client.{crt,key}
//!                             └▶ Pki::client, Pki::server: whatever the caller needs
//!  <dir>/sa.key       ─ signs ─▶ tokens of ServiceAccounts
//! ```

mod clients;
mod files;
mod kubeconfig;
mod pki;
mod rustls_config;
mod unverified;

pub(crate) use clients::ClientAuthorities;
pub use kubeconfig::kubeconfig;
pub use pki::{CertKey, Pki, PkiError};
pub(crate) use rustls_config::api_server_config;
pub use rustls_config::{TlsError, client_config, server_config};
pub use unverified::unverified_client_config;
