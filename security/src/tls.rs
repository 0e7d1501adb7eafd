//! What both ends of a connection share.

use std::sync::Arc;

/// The application protocol of all connections.
pub(crate) const ALPN: &[u8] = b"h2";

/// All cryptography is *ring*'s.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
