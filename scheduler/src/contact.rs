//! When a worker was last in contact.

use crate::ids::RunTime;

/// When a worker was last in contact, by what it did. Kept outside of the scheduler, which is told of it before it
/// looks for the silent and the late: so a sign of life is a timestamp, and costs no event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Anything came of it, or it took anything.
    pub heard: RunTime,
    /// Anything came of it. What it takes may only lie in a buffer on the way.
    pub came: RunTime,
    /// Bytes of a node of it came.
    pub pushed: RunTime,
    /// It took bytes of parameters.
    pub fetched: RunTime,
}

impl Contact {
    /// Something came of it at `now`.
    pub fn of_message(now: RunTime) -> Self {
        Contact { heard: now, came: now, ..Contact::default() }
    }

    /// Each time, or that of `newer` where it is later.
    #[must_use]
    pub fn or_later(self, newer: Contact) -> Contact {
        Contact {
            heard: self.heard.max(newer.heard),
            came: self.came.max(newer.came),
            pushed: self.pushed.max(newer.pushed),
            fetched: self.fetched.max(newer.fetched),
        }
    }
}
