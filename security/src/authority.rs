//! The authority of a cluster: one key that signs all certificates.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::error::AuthorityError;
use crate::identity::Identity;
use crate::key::{ALGORITHM, Fingerprint, Pin, PublicKey, write_private};

/// Life of an authority.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of machines may differ by this much.
const SKEW: Duration = Duration::from_secs(300);

fn bad(what: impl fmt::Display) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    let what = what.to_string();
    move |error| AuthorityError::Bad { what, problem: error.to_string() }
}

/// A certificate that was signed for somebody.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// It and the authority's, as PEM.
    pub chain_pem: String,
    /// Its sha256.
    pub fingerprint: Fingerprint,
    /// Seconds since 1970 after which it is worth nothing.
    pub expires_at: u64,
}

/// The authority of a cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    pin: Pin,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of a new cluster: `ca.key`, which only its owner can read, and `ca.pem` in `folder`.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn create(folder: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let key_path = folder.join("ca.key");
        if key_path.exists() {
            return Err(AuthorityError::Exists(folder.to_owned()));
        }
        fs::create_dir_all(folder).map_err(|source| AuthorityError::Io { path: folder.to_owned(), source })?;
        let key = KeyPair::generate_for(ALGORITHM).map_err(bad("key"))?;
        let mut params = params();
        (params.not_before, params.not_after) = ((now - SKEW).into(), (now + LIFE).into());
        let certificate = params.self_signed(&key).map_err(bad("certificate"))?;
        let write = |path: PathBuf, text: &str| {
            write_private(&path, text.as_bytes()).map_err(|source| AuthorityError::Io { path, source })
        };
        write(folder.join("ca.pem"), &certificate.pem())?;
        // Last, because it makes the folder an authority.
        write(key_path, &key.serialize_pem())?;
        Authority::open(folder)
    }

    /// Opens the authority in `folder`.
    ///
    /// # Errors
    /// When there is none, or a file is damaged.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => AuthorityError::Missing(folder.to_owned()),
                _ => AuthorityError::Io { path, source },
            })
        };
        let (key_pem, certificate_pem) = (read("ca.key")?, read("ca.pem")?);
        let key = KeyPair::from_pem(&key_pem).map_err(bad(folder.join("ca.key").display()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| {
            AuthorityError::Bad { what: folder.join("ca.pem").display().to_string(), problem: error.to_string() }
        })?;
        let pin = Pin::of(&certificate);
        Ok(Authority { issuer: Issuer::new(params(), key), certificate_pem, pin })
    }

    /// What the cluster is known by.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Its certificate, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// An identity for a server that is reached by `hosts`: names and IP addresses.
    ///
    /// # Errors
    /// When a host is neither.
    pub fn server(&self, hosts: &[String], life: Duration, now: SystemTime) -> Result<Identity, AuthorityError> {
        if let Some(host) = hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
            let problem = "is neither a host name nor an IP address".to_owned();
            return Err(AuthorityError::Bad { what: format!("`{host}`"), problem });
        }
        let key = KeyPair::generate_for(ALGORITHM).map_err(bad("key"))?;
        let mut params = CertificateParams::new(hosts).map_err(bad(format!("hosts {hosts:?}")))?;
        params.distinguished_name = named("Convoy coordinator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = self.issue(params, &key, life, now)?;
        Identity::from_pem(certificate.chain_pem, key.serialize_pem())
            .map_err(|error| AuthorityError::Bad { what: "identity".to_owned(), problem: error.to_string() })
    }

    /// A certificate for a client that holds the key to `key`. Everything in it but the key is the authority's own.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn sign(
        &self,
        key: &PublicKey,
        name: &str,
        life: Duration,
        now: SystemTime,
    ) -> Result<Certificate, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, key, life, now)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        life: Duration,
        now: SystemTime,
    ) -> Result<Certificate, AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = ((now - SKEW).into(), (now + life).into());
        let certificate = params.signed_by(key, &self.issuer).map_err(bad("certificate"))?;
        let expires_at = (now + life).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Certificate {
            chain_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            fingerprint: Fingerprint::of(certificate.der()),
            expires_at,
        })
    }
}

/// What all authorities say of themselves; their keys differ.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Convoy cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
