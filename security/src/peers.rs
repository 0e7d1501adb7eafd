//! Connections between processes that know each other by what somebody whom both trust tells them, and by nothing else.
//!
//! Each makes a key at its start and keeps it in memory alone. Its certificate is signed by itself, and names nobody:
//! the handshake proves that the other end has the key, and the fingerprint says which process that is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::RwLock;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use crate::error::KeyError;
use crate::key::{ALGORITHM, Fingerprint};
use crate::tls::{proof_of_key, provider};

/// A process's key with a certificate that it has signed itself.
#[derive(Debug, Clone)]
pub struct PeerIdentity(Arc<CertifiedKey>);

impl PeerIdentity {
    /// Makes a key, and the certificate.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let bad = |error: &dyn std::fmt::Display| KeyError::Bad(error.to_string());
        let key = KeyPair::generate_for(ALGORITHM).map_err(|error| bad(&error))?;
        let certificate = CertificateParams::default().self_signed(&key).map_err(|error| bad(&error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider());
        Ok(PeerIdentity(Arc::new(certified.map_err(|error| bad(&error))?)))
    }

    /// What others know it by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.cert[0])
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.0.clone()
    }
}

/// The processes that a server lets in, which may change while it runs. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct KnownPeers(Arc<RwLock<BTreeMap<Fingerprint, usize>>>);

impl KnownPeers {
    /// Lets in `peer` from now on, until it is removed as often as it was inserted.
    pub fn insert(&self, peer: Fingerprint) {
        *self.0.write().entry(peer).or_default() += 1;
    }

    /// Takes one insertion of `peer` back. Connections that it has are not closed by that: who serves them asks for
    /// each call.
    pub fn remove(&self, peer: Fingerprint) {
        if let Entry::Occupied(mut times) = self.0.write().entry(peer) {
            *times.get_mut() -= 1;
            if *times.get() == 0 {
                times.remove();
            }
        }
    }

    /// Whether `peer` is let in.
    pub fn contains(&self, peer: Fingerprint) -> bool {
        self.0.read().contains_key(&peer)
    }
}

impl ClientCertVerifier for KnownPeers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        match self.contains(Fingerprint::of(end_entity)) {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    proof_of_key!();
}

/// Trusts the one server whose certificate has this fingerprint.
#[derive(Debug)]
pub(crate) struct TheOne(pub(crate) Fingerprint);

#[derive(Debug, thiserror::Error)]
#[error("the certificate is another process's")]
pub(crate) struct AnotherProcess;

impl ServerCertVerifier for TheOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match Fingerprint::of(end_entity) == self.0 {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(AnotherProcess))))),
        }
    }

    proof_of_key!();
}
