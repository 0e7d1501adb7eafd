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
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::Io { path: "standard output".into(), source },
    })
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// As [`line`].
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    line(serde_json::to_string(value).expect("what is printed is plain data"))
}
