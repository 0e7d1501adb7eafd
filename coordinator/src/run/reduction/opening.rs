//! What the reducer is open for.

/// Counts what the reducer was opened for: a step, an evaluation, or one of them once more. Whatever belongs to an
/// earlier opening is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening(u64);

impl Opening {
    /// The opening after this one.
    #[must_use]
    pub fn next(self) -> Opening {
        Opening(self.0 + 1)
    }
}
