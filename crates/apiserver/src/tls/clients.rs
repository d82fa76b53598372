//! Certificates of clients.
//!
//! kube-apiserver answers 401 to a certificate of an unknown authority, it does not break the
//! handshake off: so the handshake takes every certificate whose key the client holds, and what
//! the certificate is worth is found out afterwards.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::TlsError;
use super::rustls_config::roots;

/// The authorities that vouch for clients.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuthorities(Arc<dyn ClientCertVerifier>);

impl ClientAuthorities {
    /// From PEM texts.
    ///
    /// # Errors
    ///
    /// A text that is no certificate.
    pub(crate) fn new(pems: &[&str]) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(pems)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        Ok(Self(builder.allow_unauthenticated().build()?))
    }

    /// Whether one of the authorities vouches for this certificate, now.
    pub(crate) fn verify(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> bool {
        self.0.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
    }

    /// For a handshake that others than these authorities' clients do not pass.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.clone()
    }

    /// For a handshake that everybody passes.
    pub(super) fn any(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyAuthority(self.0.clone()))
    }
}

/// Takes certificates of every authority; that the client holds the key is still checked.
#[derive(Debug)]
struct AnyAuthority(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyAuthority {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
