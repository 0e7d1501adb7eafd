//! See [`Determinism`].

use super::invariant::Invariant;
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Equal events make equal states and equal effects, and the driver carries out every effect in its order. Checked by a
/// second run that is told the same, in scenarios that ask for one.
pub(super) struct Determinism;

impl Invariant for Determinism {
    fn name(&self) -> &'static str {
        "determinism"
    }

    fn look(&mut self, _: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Differed => Err("two runs were told the same and did not do the same".to_owned()),
            _ => Ok(()),
        }
    }
}
