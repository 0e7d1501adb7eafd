//! What both ends of a connection share.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::{DigitallySignedStruct, Error as TlsError};
use rustls_pki_types::CertificateDer;

/// The application protocol of all connections.
pub(crate) const ALPN: &[u8] = b"h2";

/// All cryptography is *ring*'s.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// That the other end has the key to `certificate`, in TLS 1.3.
pub(crate) fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    let algorithms = &provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
}

/// The same for TLS 1.2, which no connection of ours speaks.
pub(crate) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    let algorithms = &provider().signature_verification_algorithms;
    rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
}
