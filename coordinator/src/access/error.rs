//! Why access cannot be managed.

use convoy_security::{AuthorityError, KeyError, TokenError};

use crate::store_error::StoreError;
use crate::store_file::Halted;

/// Why access cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is kept of members and tokens.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such member.
    #[error("there is no member `{0}`; `convoy cluster members` shows them")]
    UnknownMember(String),
}

impl From<AccessError> for Halted<AccessError> {
    fn from(error: AccessError) -> Self {
        Halted::Refused(error)
    }
}
