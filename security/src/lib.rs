//! Who is who between machines: a cluster's authority, certificates, tokens, and encrypted connections. It knows no run
//! and no job.
//!
//! - [`Authority`] signs; an [`Identity`] is a key with its certificate; a [`Token`] admits somebody who has none yet.
//! - [`incoming`] accepts connections for a tonic server, [`connect`] opens one for a tonic client.
//!
//! All cryptography is *ring*'s, all connections are TLS 1.3. Whoever connects trusts a cluster by its [`Pin`] alone.
#![forbid(unsafe_code)]

mod authority;
mod client;
mod identity;
mod secret;
mod server;
mod token;

use std::sync::Arc;

pub use authority::{Authority, AuthorityError, Certificate, Fingerprint, Pin, PublicKey};
pub use client::{ConnectError, connect};
pub use identity::{Identity, KeyError, NewKey};
pub use secret::Secret;
pub use server::{Connection, Limits, Peer, ServerTls, incoming};
pub use token::{Role, Token, TokenError, TokenRecord};

/// The application protocol of all connections.
const ALPN: &[u8] = b"h2";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
