//! What is typed, for tests.

use clap::error::ErrorKind;

/// The arguments that `words` mean.
pub fn typed<A: clap::Args>(words: &[&str]) -> Result<A, clap::Error> {
    let command = A::augment_args(clap::Command::new("convoy"));
    A::from_arg_matches(&command.try_get_matches_from([&["convoy"], words].concat())?)
}

/// Why `words` mean nothing.
pub fn mistyped<A: clap::Args>(words: &[&str]) -> ErrorKind {
    typed::<A>(words).err().unwrap_or_else(|| panic!("{words:?} mean something")).kind()
}
