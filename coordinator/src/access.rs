//! Who calls, and what they may do.

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, over a plain connection on loopback.
    Local,
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Local => f.write_str("local"),
        }
    }
}

impl Caller {
    /// Whether both are the same identity.
    pub fn is(&self, other: &Caller) -> bool {
        self == other
    }

    /// The caller behind `request`.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Caller {
        request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Local)
    }
}
