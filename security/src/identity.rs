//! A key with its certificate.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PublicKeyData};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::KeyError;
use crate::key::{ALGORITHM, Fingerprint, Pin, PublicKey, write_private};
use crate::secret::Secret;
use crate::tls::provider;

/// A key that was made here and has no certificate yet. It never leaves this machine.
pub struct NewKey(KeyPair);

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(ALGORITHM).map(NewKey).map_err(|error| KeyError::Bad(error.to_string()))
    }

    /// What the authority signs.
    ///
    /// # Errors
    /// Never for a key of this kind.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::new(self.0.der_bytes().to_vec()).map_err(|error| KeyError::Bad(error.to_string()))
    }

    /// Joins the key with what was signed for it: certificate and authority, as PEM.
    ///
    /// # Errors
    /// When that is for another key.
    pub fn with(self, chain_pem: String) -> Result<Identity, KeyError> {
        Identity::from_pem(chain_pem, self.0.serialize_pem())
    }
}

/// A key with its certificate and that of the authority.
#[derive(Debug, Clone)]
pub struct Identity {
    chain_pem: String,
    key_pem: Secret,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads a chain (own certificate, then the authority's) and a key.
    ///
    /// # Errors
    /// When they make no sense, or do not belong together.
    pub fn from_pem(chain_pem: String, key_pem: String) -> Result<Self, KeyError> {
        let bad = |error: &dyn std::fmt::Display| KeyError::Bad(error.to_string());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| bad(&error))?;
        if chain.len() != 2 {
            return Err(KeyError::Bad(format!("{} certificates where there should be two", chain.len())));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| bad(&error))?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| bad(&error))?;
        Ok(Identity { chain_pem, key_pem: Secret::new(key_pem), certified: Arc::new(certified) })
    }

    /// Reads the identity that was saved as `name` in `folder`.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn load(folder: &Path, name: &str) -> Result<Self, KeyError> {
        let read = |extension: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            fs::read_to_string(&path).map_err(|source| KeyError::Io { path, source })
        };
        Identity::from_pem(read("pem")?, read("key")?)
    }

    /// Writes `NAME.pem` and `NAME.key`, readable by their owner alone.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, folder: &Path, name: &str) -> Result<(), KeyError> {
        let write = |extension: &str, text: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            write_private(&path, text.as_bytes()).map_err(|source| KeyError::Io { path, source })
        };
        fs::create_dir_all(folder).map_err(|source| KeyError::Io { path: folder.to_owned(), source })?;
        write("key", self.key_pem.expose())?;
        write("pem", &self.chain_pem)
    }

    /// What its certificate is known by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certified.cert[0])
    }

    /// The cluster that it is of.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certified.cert[1])
    }

    /// When to ask for a new certificate: two thirds into a life of this length.
    pub fn renew_after(life: Duration) -> Duration {
        life * 2 / 3
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}
