//! rustls configurations: the server's, and that of a client of a certificate authority.

use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::server::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::{CertKey, ClientAuthorities};

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM text holds no certificate or key.
    #[error("cannot read the {what} (PEM)")]
    Pem {
        /// Which text.
        what: &'static str,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// An authority cannot verify clients.
    #[error("the client authorities cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// Key and certificate do not fit, or are of an unknown kind.
    #[error("key and certificate cannot be used")]
    Rustls(#[from] rustls::Error),
}

/// Serves `own`; a client may show a certificate of one of `client_cas`, but need not.
pub fn server_config(own: &CertKey, client_cas: &[&str]) -> Result<ServerConfig, TlsError> {
    let clients = ClientAuthorities::new(client_cas)?;
    config_with(own, clients.verifier())
}

/// Serves `own`. A client may show any certificate, but need not; what a certificate is worth
/// [`ClientAuthorities::verify`] tells.
pub(crate) fn api_server_config(
    own: &CertKey,
    clients: &ClientAuthorities,
) -> Result<ServerConfig, TlsError> {
    config_with(own, clients.any())
}

fn config_with(
    own: &CertKey,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = pair(own)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Trusts servers of `server_ca`, and shows `own` when there is one. Speaks HTTP/1.1.
pub fn client_config(server_ca: &str, own: Option<&CertKey>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(VERSIONS)?
        .with_root_certificates(roots(&[server_ca])?);
    let mut config = match own {
        Some(own) => {
            let (chain, key) = pair(own)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

pub(super) fn roots(pems: &[&str]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(cert.map_err(|source| TlsError::Pem { what: "authority", source })?)?;
        }
    }
    Ok(roots)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(own: &CertKey) -> Result<Pair, TlsError> {
    let chain = CertificateDer::pem_slice_iter(own.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what: "certificate", source })?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "private key", source })?;
    Ok((chain, key))
}

pub(super) const VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

#[cfg(test)]
mod tests {
    use super::super::Pki;
    use super::*;

    #[test]
    fn what_the_authority_issues_can_serve_and_connect() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let serving = pki.server(&["localhost".to_owned()]).unwrap();
        let server = server_config(&serving, &[pki.ca_pem()]).unwrap();
        assert_eq!(server.alpn_protocols[0], b"h2");
        client_config(pki.ca_pem(), Some(&pki.admin().unwrap())).unwrap();
    }

    #[test]
    fn a_text_without_a_key_is_named() {
        let own = CertKey { cert_pem: String::new(), key_pem: "no".into() };
        assert!(matches!(
            client_config("", Some(&own)),
            Err(TlsError::Pem { what: "private key", .. })
        ));
    }
}
