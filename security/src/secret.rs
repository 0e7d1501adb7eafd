//! Bytes that must not be seen.

use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Text that neither logs nor errors show, and that is wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// 128 random bits, in hexadecimal.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn random() -> Self {
        Secret(random_hex::<16>())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether both are the same text. Takes as long for a wrong one as for the right one.
    pub fn is(&self, other: &Secret) -> bool {
        other.has_hash(&self.hash())
    }

    /// sha256 of the text, in hexadecimal: what may be kept.
    pub(crate) fn hash(&self) -> String {
        HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes()).as_ref())
    }

    /// Whether `hash` is that of this text. Takes as long for a wrong one as for the right one.
    pub(crate) fn has_hash(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `N` random bytes, in hexadecimal.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    HEXLOWER.encode(&bytes)
}
