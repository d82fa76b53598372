//! Users by client certificate: CN is the name, every O a group (kube-apiserver
//! `--client-ca-file`).

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use x509_parser::parse_x509_certificate;

use super::{AUTHENTICATED, CREDENTIAL_ID};
use crate::api::User;

/// The user that a verified certificate (DER) names; `None` when it names nobody.
pub(crate) fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok())
        .chain([AUTHENTICATED])
        .map(str::to_owned)
        .collect();
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![credential_id(der)])]);
    (!name.is_empty()).then(|| User { name: name.to_owned(), groups, extra, ..User::default() })
}

/// `X509SHA256=` and the certificate's fingerprint.
fn credential_id(der: &[u8]) -> String {
    let hash = digest(&SHA256, der);
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X509SHA256={digits}")
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::tls::Pki;

    #[test]
    fn common_name_and_organizations_become_user_and_groups() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let pair = pki.client("system:node:n1", &["system:nodes", "more"]).unwrap();
        let der = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap();
        let user = user_of_certificate(&der).unwrap();
        assert_eq!(user.name, "system:node:n1");
        assert_eq!(user.groups, ["system:nodes", "more", AUTHENTICATED]);
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn noise_is_nobody() {
        assert_eq!(user_of_certificate(b"noise"), None);
    }
}
