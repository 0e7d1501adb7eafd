//! Who calls, and what they may do.

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, over a plain connection on loopback.
    Local,
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
