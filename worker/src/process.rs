//! What tells this process from others.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// A value of this process: the same whenever it is asked for, and another in every other process.
pub(crate) fn process() -> &'static str {
    static PROCESS: LazyLock<String> = LazyLock::new(|| {
        // Process numbers come again, and are the same in two containers.
        let drawn = RandomState::new().build_hasher().finish();
        format!("{}-{drawn:016x}", std::process::id())
    });
    &PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_value_that_holds_its_number() {
        assert_eq!(process(), process());
        assert!(process().starts_with(&format!("{}-", std::process::id())), "{}", process());
    }
}
