//! Waiting for a state.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. No test waits for this time when all is well.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Looks every 2 ms until `ready` gives something, which is returned. It blocks its thread.
///
/// # Panics
/// After [`DEADLINE`], naming `what` was waited for.
///
/// # Examples
/// ```
/// let mut looks = 0;
/// let found = convoy_testing::wait_for("the third look", || {
///     looks += 1;
///     (looks == 3).then_some("found")
/// });
/// assert_eq!(found, "found");
/// ```
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
