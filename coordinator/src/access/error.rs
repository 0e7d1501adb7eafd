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
    /// More than one member has the name.
    #[error("there are several members `{name}`: {numbers}; give the number of one of them")]
    AmbiguousMember {
        /// The name.
        name: String,
        /// Their numbers.
        numbers: String,
    },
    /// A name that would be taken for a number.
    #[error("`{0}` is a number, and members are told apart by numbers; choose another --name")]
    NumberAsName(String),
    /// A member of this name came by the same token and was revoked.
    #[error("`{0}` was revoked, and does not come back by the same token; ask the cluster's admin for another one")]
    RevokedName(String),
}

impl From<AccessError> for Halted<AccessError> {
    fn from(error: AccessError) -> Self {
        Halted::Refused(error)
    }
}
