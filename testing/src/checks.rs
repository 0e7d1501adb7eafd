//! Tests that need what not every machine has: reported as ignored, with what they need, where it is missing.
//!
//! `#[ignore]` is decided when a test is compiled, and `--include-ignored` runs the test all the same; a test that
//! returns early counts as passed. A test binary of [`Check`]s (`harness = false` in its `Cargo.toml`) decides when it
//! starts:
//!
//! ```no_run
//! use convoy_testing::{Check, run_checks};
//!
//! let photos = std::env::var("PHOTOS").map_err(|_| "PHOTOS, a folder of photographs");
//! run_checks([
//!     Check::new("one_and_one", || assert_eq!(1 + 1, 2)),
//!     Check::needs("a_photograph", photos, |folder| assert!(!folder.is_empty())),
//! ]);
//! ```

use std::fmt::Display;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A test of a binary whose `main` is [`run_checks`]. It fails by a panic, as others do.
pub struct Check(Trial);

impl Check {
    /// A test that needs nothing.
    pub fn new(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Check {
        Check(Trial::test(name, move || {
            run();
            Ok(())
        }))
    }

    /// A test that runs with what it needs, or is ignored for the lack of it, which the error names.
    pub fn needs<T: Send + 'static>(
        name: impl Into<String>,
        needed: Result<T, impl Display>,
        run: impl FnOnce(T) + Send + 'static,
    ) -> Check {
        let needed = needed.map_err(|lack| format!("needs {lack}"));
        Check(Trial::ignorable_test(name, move || {
            Ok(match needed {
                Ok(needed) => {
                    run(needed);
                    Completion::Completed
                }
                Err(lack) => Completion::ignored_with(lack),
            })
        }))
    }
}

/// Runs tests as `cargo test` does, with its options. A test that lacks something is ignored whatever they say.
pub fn run_checks(checks: impl IntoIterator<Item = Check>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), checks.into_iter().map(|Check(trial)| trial).collect()).exit_code()
}
