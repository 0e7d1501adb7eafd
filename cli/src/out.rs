//! Printing to standard output, where a closed pipe is no failure.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CliError;

/// Prints `text` and a line end.
///
/// # Errors
/// When standard output is closed or cannot be written.
pub fn line(text: impl std::fmt::Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(failed)
}

/// Prints `bytes` as they are.
///
/// # Errors
/// As [`line`].
pub fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(failed)
}

/// The failure of a write to standard output.
pub fn failed(source: io::Error) -> CliError {
    match source.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::Io { path: "standard output".into(), source },
    }
}

/// Prints `text` and a line end to standard error. That nobody reads it stops nothing.
pub fn note(text: impl std::fmt::Display) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// What was printed, or would have been if somebody read it: for commands that do more than print.
///
/// # Errors
/// Those of [`line`], but for a closed standard output.
pub fn unless_closed(printed: Result<(), CliError>) -> Result<(), CliError> {
    match printed {
        Err(CliError::BrokenPipe) => Ok(()),
        printed => printed,
    }
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// As [`line`].
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    line(serde_json::to_string(value).expect("what is printed is plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        assert!(matches!(failed(io::ErrorKind::BrokenPipe.into()), CliError::BrokenPipe));
        let full = failed(io::ErrorKind::StorageFull.into());
        assert!(full.to_string().starts_with("standard output: "), "{full}");
    }

    #[test]
    fn whoever_does_more_than_print_goes_on_without_readers() {
        assert!(unless_closed(Err(CliError::BrokenPipe)).is_ok());
        assert!(unless_closed(Ok(())).is_ok());
        assert!(unless_closed(Err(CliError::Usage(String::new()))).is_err());
    }
}
