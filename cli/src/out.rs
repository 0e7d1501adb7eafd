//! Printing: to standard output, where a closed pipe is no failure, and to standard error. Names, reasons and logs come
//! from others, so nothing is printed that a terminal would obey.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use serde::Serialize;

use crate::error::CliError;

/// `text` with control characters shown, not obeyed: an escape sequence of a terminal, or a mark that turns the
/// direction of writing, becomes `\u{1b}`. Ends of lines and tabs stay.
pub fn printable<T: fmt::Display>(text: T) -> Printable<T> {
    Printable(text)
}

/// See [`printable`].
pub struct Printable<T>(T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Shown(f), "{}", self.0)
    }
}

/// Shows what is written to it.
struct Shown<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Shown<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_obeyed(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", c.escape_unicode())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn is_obeyed(c: char) -> bool {
    c.is_control() && !"\n\t".contains(c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints `text` and a line end.
///
/// # Errors
/// When standard output is closed or cannot be written.
pub fn line(text: impl fmt::Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", printable(text)).and_then(|()| stdout.flush()).map_err(failed)
}

/// Prints lines of UTF-8 as they come.
///
/// # Errors
/// As [`line`].
pub fn lines(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{}", printable(String::from_utf8_lossy(text))).and_then(|()| stdout.flush()).map_err(failed)
}

/// The failure of a write to standard output.
pub fn failed(source: io::Error) -> CliError {
    match source.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::Io { path: "standard output".into(), source },
    }
}

/// Prints `text` and a line end to standard error. That nobody reads it stops nothing.
pub fn note(text: impl fmt::Display) {
    _ = writeln!(io::stderr().lock(), "{}", printable(text));
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
    fn terminals_obey_nobody_else() {
        let shown = |text: &str| printable(text).to_string();
        assert_eq!(shown("\u{1b}]0;OWNED\u{7}\u{1b}[31m"), r"\u{1b}]0;OWNED\u{7}\u{1b}[31m");
        assert_eq!(shown("gpj.\u{202e}exe\r\u{9b}2J"), r"gpj.\u{202e}exe\u{d}\u{9b}2J");
        assert_eq!(shown("two\nlines\tand \u{fc}ml\u{e4}uts \u{b7}"), "two\nlines\tand \u{fc}ml\u{e4}uts \u{b7}");
    }

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
