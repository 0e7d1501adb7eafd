//! See [`Order`].

use convoy_scheduler::{Effect, Record, Work};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// One thing after the other. A step starts from the committed parameters. Each step is committed once in each start,
/// when all its shards are counted and no lease of it is out. The parameters at the end of an epoch are evaluated once,
/// before the next step. Checkpoints hold the committed parameters, each once at a time.
pub(super) struct Order;

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        let committed = books.committed;
        match fact {
            Fact::CarriedOut(Effect::OpenStep { step, work, .. }) => {
                check(*step == committed, || format!("{step} is opened, {committed} is committed"))?;
                let due = if books.evaluated { Work::Train } else { Work::Evaluate };
                check(*work == due, || format!("{work} of {step} is opened, {due} is due"))
            }
            Fact::CarriedOut(Effect::Commit { step, .. }) => {
                check(*step == committed, || format!("{step} is committed after {committed}"))?;
                let covered = books.open.as_ref().is_some_and(|open| open.work == Work::Train && open.is_covered());
                check(covered, || format!("{step} is committed without all its shards"))?;
                let out = books.members.values().any(|member| !member.held.is_empty());
                check(!out, || format!("{step} is committed while leases of it are out"))
            }
            Fact::Appended(Record::Evaluated { step, .. }) => {
                check(*step == committed && !books.evaluated, || format!("{step} is evaluated out of turn"))
            }
            Fact::CarriedOut(Effect::Checkpoint { step, .. }) => {
                check(*step == committed, || format!("{step} is saved, {committed} is committed"))?;
                check(!books.being_written.contains(step), || format!("{step} is saved twice at a time"))
            }
            _ => Ok(()),
        }
    }
}
