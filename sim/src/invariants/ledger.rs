//! See [`Ledger`].

use convoy_scheduler::{LedgerEntry, Record, check_ledger};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Each shard is counted exactly once in each committed step and each evaluation; and the
/// ledger in the journal names the workers it was counted for and no others.
pub(super) struct Ledger;

impl Invariant for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Counted { worker, node, .. } => {
                let counted = books.open.iter().flat_map(|open| &open.counted);
                for (other, ..) in counted {
                    let apart = other.last <= node.first || node.last <= other.first;
                    check(apart, || format!("{node} of {worker} is counted although {other} was counted before"))?;
                }
                Ok(())
            }
            Fact::Appended(Record::StepCommitted { step, ledger, .. }) => {
                check_ledger(ledger, books.plan.shards(*step)).map_err(|error| format!("{step}: {error}"))?;
                let counted = counted(books);
                let named: Vec<LedgerEntry> = ledger.iter().map(|e| LedgerEntry { auditor: None, ..*e }).collect();
                check(named == counted, || format!("the ledger of {step} is {ledger:?}, counted were {counted:?}"))
            }
            Fact::Appended(Record::Evaluated { step, .. }) => check_ledger(&counted(books), books.plan.evaluate_shards)
                .map_err(|error| format!("the evaluation of {step}: {error}")),
            _ => Ok(()),
        }
    }
}

/// The nodes that the reducer has added, from left to right.
fn counted(books: &Books) -> Vec<LedgerEntry> {
    let entry = |(node, worker, _): &(_, _, _)| LedgerEntry { node: *node, worker: *worker, auditor: None };
    let mut counted: Vec<LedgerEntry> = books.open.iter().flat_map(|open| open.counted.iter().map(entry)).collect();
    counted.sort();
    counted
}
