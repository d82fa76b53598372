//! A certificate authority in a folder, and what it issues.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::files::{read_if_present, write_secret};
use super::kubeconfig;

/// A certificate authority and the folder that it lives in.
///
/// Opening the same folder again, also from another process, gives the same authority.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    ca: CertKey,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertKey {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
}

/// Why keys or certificates could not be had.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot issue a certificate for {subject:?}")]
    Issue {
        /// The common name.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The authority in the folder is unusable.
    #[error("the authority in {} is damaged: {reason}; remove the folder to start anew", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More organizations than a certificate made here can carry.
    #[error("a client certificate for {subject:?} cannot name {count} groups; two is the most")]
    TooManyGroups {
        /// The common name.
        subject: String,
        /// How many were asked for.
        count: usize,
    },
}

impl Pki {
    /// Opens the authority in `dir`, making folder, key and certificate when they are missing.
    ///
    /// A lock file keeps two processes from making two authorities.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PkiError> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(file("create", &dir))?;
        let _lock = lock(&dir)?;
        let ca = match stored(&dir, "ca")? {
            Some(ca) => ca,
            None => save(&dir, "ca", new_authority()?)?,
        };
        let damaged = |reason: String| PkiError::Damaged { dir: dir.clone(), reason };
        let key = KeyPair::from_pem(&ca.key_pem).map_err(|error| damaged(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, key)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Self { dir, ca, issuer })
    }

    /// The authority's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca.cert_pem
    }

    /// A new client certificate: user `common_name` in the groups `organizations` (two at most).
    pub fn client(&self, common_name: &str, organizations: &[&str]) -> Result<CertKey, PkiError> {
        let mut name = DistinguishedName::new();
        // rcgen keeps one value for each type, so a second group needs the same type by number.
        let kinds = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        if organizations.len() > kinds.len() {
            return Err(PkiError::TooManyGroups {
                subject: common_name.to_owned(),
                count: organizations.len(),
            });
        }
        for (kind, organization) in kinds.into_iter().zip(organizations) {
            name.push(kind, *organization);
        }
        name.push(DnType::CommonName, common_name);
        self.issue(common_name, name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A new serving certificate for these DNS names and IP addresses; the first is its common
    /// name.
    pub fn server(&self, names: &[String]) -> Result<CertKey, PkiError> {
        let subject = names.first().map_or("portolan", String::as_str);
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, subject);
        self.issue(subject, name, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The client certificate kept as `<file>.crt` and `<file>.key`, issued anew when it is
    /// missing, of another authority, user or groups, or about to expire.
    pub fn kept_client(
        &self,
        file: &str,
        common_name: &str,
        organizations: &[&str],
    ) -> Result<CertKey, PkiError> {
        let is_wanted = |cert: &X509Certificate<'_>| {
            let subject = cert.subject();
            let user: Vec<_> = subject.iter_common_name().map(|name| name.as_str()).collect();
            let groups: Vec<_> = subject.iter_organization().map(|name| name.as_str()).collect();
            user == [Ok(common_name)]
                && groups.iter().flatten().eq(organizations.iter())
                && groups.len() == organizations.len()
        };
        self.kept(file, is_wanted, || self.client(common_name, organizations))
    }

    /// The serving certificate kept as `<file>.crt` and `<file>.key`, issued anew also when it
    /// lacks one of the names.
    pub fn kept_server(&self, file: &str, names: &[String]) -> Result<CertKey, PkiError> {
        self.kept(file, |cert| covers(cert, names), || self.server(names))
    }

    /// Writes `<name>.kubeconfig`, readable by the owner only, and says where it is.
    pub fn keep_kubeconfig(
        &self,
        name: &str,
        server_url: &str,
        client: &CertKey,
    ) -> Result<PathBuf, PkiError> {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        write_secret(&path, kubeconfig(server_url, self.ca_pem(), client).as_bytes())
            .map_err(file("write", &path))?;
        Ok(path)
    }

    /// The administrator's client certificate (`admin.crt`): group `system:masters`.
    pub fn admin(&self) -> Result<CertKey, PkiError> {
        self.kept_client("admin", "kubernetes-admin", &["system:masters"])
    }

    /// The key that signs ServiceAccount tokens (`sa.key`), PKCS #8 DER, ECDSA on P-256.
    pub fn service_account_key(&self) -> Result<Vec<u8>, PkiError> {
        let path = self.dir.join("sa.key");
        let _lock = lock(&self.dir)?;
        let issue = |source| PkiError::Issue { subject: "sa.key".to_owned(), source };
        let key = match read_if_present(&path).map_err(file("read", &path))? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(issue)?,
            None => {
                let key = KeyPair::generate().map_err(issue)?;
                write_secret(&path, key.serialize_pem().as_bytes())
                    .map_err(file("write", &path))?;
                key
            }
        };
        Ok(key.serialize_der())
    }

    fn kept(
        &self,
        file: &str,
        is_wanted: impl FnOnce(&X509Certificate<'_>) -> bool,
        issue: impl FnOnce() -> Result<CertKey, PkiError>,
    ) -> Result<CertKey, PkiError> {
        let _lock = lock(&self.dir)?;
        if let Some(kept) = stored(&self.dir, file)?
            && usable(&kept.cert_pem, &self.ca.cert_pem, is_wanted)
        {
            return Ok(kept);
        }
        save(&self.dir, file, issue()?)
    }

    fn issue(
        &self,
        subject: &str,
        name: DistinguishedName,
        alt_names: &[String],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<CertKey, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.to_owned(), source };
        let mut params = CertificateParams::new(alt_names.to_vec()).map_err(failed)?;
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_LIFETIME);
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(CertKey { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for CertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertKey").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

fn new_authority() -> Result<CertKey, PkiError> {
    let failed = |source| PkiError::Issue { subject: AUTHORITY.to_owned(), source };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, AUTHORITY_LIFETIME);
    let key = KeyPair::generate().map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(CertKey { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

fn valid_for(params: &mut CertificateParams, lifetime: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
}

/// Whether a kept certificate is of this authority, lasts, and says what is wanted.
fn usable(
    cert_pem: &str,
    ca_pem: &str,
    is_wanted: impl FnOnce(&X509Certificate<'_>) -> bool,
) -> bool {
    let (Ok((_, cert)), Ok((_, ca))) =
        (parse_x509_pem(cert_pem.as_bytes()), parse_x509_pem(ca_pem.as_bytes()))
    else {
        return false;
    };
    let (Ok(cert), Ok(ca)) = (cert.parse_x509(), ca.parse_x509()) else { return false };
    let lasts = cert.validity().time_to_expiration().is_some_and(|left| {
        left.whole_seconds() > i64::try_from(RENEW_BEFORE.as_secs()).unwrap_or(i64::MAX)
    });
    lasts && cert.verify_signature(Some(ca.public_key())).is_ok() && is_wanted(&cert)
}

fn covers(cert: &X509Certificate<'_>, names: &[String]) -> bool {
    let covered: Vec<String> = match cert.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(alt_name).collect(),
        _ => Vec::new(),
    };
    names.iter().all(|name| covered.contains(name))
}

fn alt_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}

fn stored(dir: &Path, file_name: &str) -> Result<Option<CertKey>, PkiError> {
    let [cert, key] = paths(dir, file_name);
    let cert_pem = read_if_present(&cert).map_err(file("read", &cert))?;
    let key_pem = read_if_present(&key).map_err(file("read", &key))?;
    Ok(cert_pem.zip(key_pem).map(|(cert_pem, key_pem)| CertKey { cert_pem, key_pem }))
}

/// Writes the key first: a certificate on disk always has a key beside it.
fn save(dir: &Path, file_name: &str, pair: CertKey) -> Result<CertKey, PkiError> {
    let [cert, key] = paths(dir, file_name);
    if cert.exists() {
        fs::remove_file(&cert).map_err(file("remove", &cert))?;
    }
    write_secret(&key, pair.key_pem.as_bytes()).map_err(file("write", &key))?;
    write_secret(&cert, pair.cert_pem.as_bytes()).map_err(file("write", &cert))?;
    Ok(pair)
}

fn paths(dir: &Path, file_name: &str) -> [PathBuf; 2] {
    [dir.join(format!("{file_name}.crt")), dir.join(format!("{file_name}.key"))]
}

/// Held until the returned file is dropped.
fn lock(dir: &Path) -> Result<File, PkiError> {
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(file("create", &path))?;
    lock.lock().map_err(file("lock", &path))?;
    Ok(lock)
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { doing, path, source }
}

const AUTHORITY: &str = "portolan-ca";
const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
const LEAF_LIFETIME: Duration = DAY.saturating_mul(365);
/// A kept certificate with less than this left is issued anew.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Certificates start to be valid this long ago, for machines whose clock is late.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn opening_again_gives_the_same_authority_and_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let first = Pki::open(folder.path()).unwrap();
        let admin = first.admin().unwrap();
        let second = Pki::open(folder.path()).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(admin, second.admin().unwrap());
        assert_eq!(first.service_account_key().unwrap(), second.service_account_key().unwrap());
    }

    #[test]
    fn a_serving_certificate_is_replaced_when_a_name_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let one = pki.kept_server("apiserver", &names(&["localhost", "127.0.0.1"])).unwrap();
        let same = pki.kept_server("apiserver", &names(&["127.0.0.1"])).unwrap();
        let other = pki.kept_server("apiserver", &names(&["localhost", "fd00::1"])).unwrap();
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn a_certificate_of_another_authority_is_not_reused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let foreign = Pki::open(one.path()).unwrap().admin().unwrap();
        let pki = Pki::open(two.path()).unwrap();
        save(two.path(), "admin", foreign.clone()).unwrap();
        assert_ne!(pki.admin().unwrap(), foreign);
    }

    #[test]
    fn a_certificate_of_other_groups_is_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        let master = pki.kept_client("c", "controller", &["system:masters"]).unwrap();
        let plain = pki.kept_client("c", "controller", &[]).unwrap();
        assert_ne!(plain, master);
        assert_eq!(pki.kept_client("c", "controller", &[]).unwrap(), plain);
        assert_ne!(pki.kept_client("c", "another", &[]).unwrap(), plain);
    }

    #[test]
    fn a_damaged_authority_is_reported_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Pki::open(folder.path()).unwrap();
        fs::write(folder.path().join("ca.key"), "nonsense").unwrap();
        assert!(matches!(Pki::open(folder.path()), Err(PkiError::Damaged { .. })));
    }

    #[test]
    fn three_groups_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        assert!(pki.client("user", &["a", "b"]).is_ok());
        assert!(matches!(
            pki.client("user", &["a", "b", "c"]),
            Err(PkiError::TooManyGroups { count: 3, .. })
        ));
    }
}
