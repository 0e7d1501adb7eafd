//! Who calls.

use convoy_security::Role;

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, over a plain connection on loopback.
    Local,
    /// Somebody without a certificate.
    Stranger,
    /// A member of the cluster.
    Member {
        /// Its number.
        id: u64,
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Local => f.write_str("local"),
            Caller::Stranger => f.write_str("a stranger"),
            Caller::Member { id, name, .. } => write!(f, "{name} ({id})"),
        }
    }
}

impl Caller {
    /// Whether both are the same identity, whatever certificate it shows.
    pub fn is(&self, other: &Caller) -> bool {
        match (self, other) {
            (Caller::Member { id, .. }, Caller::Member { id: other, .. }) => id == other,
            (Caller::Local, Caller::Local) => true,
            _ => false,
        }
    }
}
