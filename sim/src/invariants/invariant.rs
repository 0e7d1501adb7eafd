//! A promise, as a watch checks it.

use crate::bookkeeping::Books;
use crate::facts::Fact;

/// A promise that is checked at every fact.
pub trait Invariant {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Judges a fact, given the books before it.
    ///
    /// # Errors
    /// What was found, if the promise does not hold.
    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String>;
}

/// Turns a condition into a judgement.
///
/// # Errors
/// `what`, unless `holds`.
pub(super) fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
