//! Fields of tables that Convoy writes.

use std::borrow::Cow;

/// A field of a CSV (RFC 4180): in quotes where it needs them.
pub fn csv_field(field: &str) -> Cow<'_, str> {
    match field.contains([',', '"', '\r', '\n']) {
        true => Cow::Owned(format!("\"{}\"", field.replace('"', "\"\""))),
        false => Cow::Borrowed(field),
    }
}
