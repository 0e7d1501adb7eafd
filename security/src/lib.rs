//! Who is who between machines: a cluster's authority, certificates, tokens, and encrypted connections. It knows no run
//! and no job.
//!
//! - [`Authority`] signs; an [`Identity`] is a key with its certificate; a [`Token`] admits somebody who has none yet.
//! - [`incoming`] accepts connections for a tonic server, [`connect`] opens one for a tonic client.
//!
//! All cryptography is *ring*'s, all connections are TLS 1.3. Whoever connects trusts a cluster by its [`Pin`] alone.
//!
//! # Examples
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use convoy_security::{Authority, NewKey};
//!
//! let (folder, now) = (tempfile::tempdir()?, SystemTime::now());
//! let authority = Authority::create(folder.path(), now)?;
//! // A member makes a key, which never leaves its machine, and gets a certificate for it.
//! let key = NewKey::generate()?;
//! let signed = authority.sign(&key.public()?, "ox", Duration::from_secs(3600), now)?;
//! let member = key.with(signed.chain_pem)?;
//! assert_eq!(member.pin(), authority.pin());
//! assert_eq!(member.fingerprint(), signed.fingerprint);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod authority;
mod client;
mod error;
mod guests;
mod identity;
mod in_process;
mod key;
mod peers;
mod rarely;
mod secret;
mod server;
mod sockets;
mod tls;
mod token;

pub use authority::{Authority, Certificate};
pub use client::{ConnectError, connect, connect_to_peer};
pub use error::{AuthorityError, KeyError};
pub use identity::{Identity, NewKey};
pub use in_process::{InProcess, in_process};
pub use key::{Fingerprint, Pin, PublicKey};
pub use peers::{KnownPeers, PeerIdentity};
pub use rarely::Rarely;
pub use secret::Secret;
pub use server::{Connection, Limits, Peer, ServerTls, incoming};
pub use token::{Role, Token, TokenError, TokenRecord};
