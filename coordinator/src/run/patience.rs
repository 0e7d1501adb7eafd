//! How long a run waits before it tries its disk again. Tests have less time.

use std::time::Duration;

use convoy_common::backoff::Backoff;

const MILLIS: u64 = if cfg!(test) { 2 } else { 500 };

/// How often a full disk is tried again.
pub(crate) const TRY_EVERY: Duration = Duration::from_millis(MILLIS);

/// Pauses before something else that failed is tried again.
pub(crate) const PAUSES: Backoff =
    Backoff { first: Duration::from_millis(2 * MILLIS), last: Duration::from_millis(10 * MILLIS) };

/// How long a run that shall stop waits for room on a full disk.
pub(crate) const LAST_TRIES: Duration = Duration::from_millis(10 * MILLIS);
