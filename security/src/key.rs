//! Public keys, what certificates are known by, and files that only their owner reads.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use rcgen::{PublicKeyData, SignatureAlgorithm};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;

/// The algorithm of all keys: ECDSA on P-256 with SHA-256.
pub(crate) static ALGORITHM: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

macro_rules! sha256 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// That of a certificate.
            pub fn of(certificate: &CertificateDer<'_>) -> Self {
                $name(digest(&SHA256, certificate).as_ref().try_into().expect("sha256 has 32 bytes"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.map($name).ok_or_else(|| format!("`{text}` is not 64 hexadecimal digits"))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    };
}

sha256! {
    /// sha256 of an authority's certificate: what a cluster is known by.
    Pin
}
sha256! {
    /// sha256 of a member's certificate.
    Fingerprint
}

/// A public key that somebody wants a certificate for: an uncompressed point of P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Takes the 65 bytes of a key.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(bytes: Vec<u8>) -> Result<Self, AuthorityError> {
        match bytes[..] {
            [4, ..] if bytes.len() == 65 => Ok(PublicKey(bytes)),
            _ => Err(AuthorityError::Bad { what: "public key".to_owned(), problem: "is no key of P-256".to_owned() }),
        }
    }

    /// Its 65 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        ALGORITHM
    }
}

/// Writes a file that only its owner can read, and puts it in place as a whole.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    // One that was left behind could be readable by others.
    _ = fs::remove_file(&temporary);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        _ = fs::remove_file(&temporary);
    }
    placed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pin_is_64_hexadecimal_digits() {
        let text = "0f".repeat(32);
        let pin: Pin = text.parse().unwrap();
        assert_eq!((pin, pin.to_string()), (Pin([0x0f; 32]), text.clone()));
        assert_eq!(text.to_uppercase().parse(), Ok(pin));
        for wrong in ["", "0f", &text[1..], &format!("{text}0"), &text.replace('f', "g")] {
            assert!(wrong.parse::<Pin>().unwrap_err().contains("is not 64 hexadecimal digits"), "{wrong}");
        }
    }

    #[test]
    fn a_public_key_is_an_uncompressed_point() {
        let bytes = [&[4][..], &[7; 64]].concat();
        assert_eq!(PublicKey::new(bytes.clone()).unwrap().bytes(), bytes);
        for wrong in [vec![], vec![4; 64], vec![4; 66], vec![3; 65]] {
            assert!(PublicKey::new(wrong).unwrap_err().to_string().contains("no key of P-256"));
        }
    }

    #[test]
    fn a_private_file_is_its_owners_alone_and_replaces_one_that_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(write_private(&folder.path().join("none/key"), b"new").is_err());
    }
}
