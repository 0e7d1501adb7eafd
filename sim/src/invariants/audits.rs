//! See [`Audits`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, EvictionProof, LedgerEntry, Record, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Only a machine that lied is evicted, unless it disagrees with more liars than half of the others that are there. The
/// run goes back to parameters from before its first lie, be it a node or a sum, and never lends to that machine again,
/// whatever it calls itself, not even after restarts. What the ledger calls audited is right, and was audited by
/// another machine.
#[derive(Default)]
pub(super) struct Audits {
    evicted: BTreeSet<String>,
}

impl Invariant for Audits {
    fn name(&self) -> &'static str {
        "audits"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Appended(Record::Evicted { machine, since, .. }) => {
                let first = books.lies.first_of(&[machine]);
                check(first.is_none_or(|first| *since <= first), || {
                    format!("{machine} is believed up to {since}, but lied in {first:?}")
                })
            }
            Fact::Appended(Record::StepCommitted { step, ledger, .. }) => {
                let lies: Vec<(WorkerId, _)> = books.open_lies().collect();
                let audited = ledger.iter().find(|e| e.auditor.is_some() && lies.contains(&(e.worker, e.node)));
                check(audited.is_none(), || format!("the ledger of {step} has a lie that was audited: {audited:?}"))?;
                let itself =
                    |e: &&LedgerEntry| e.auditor.is_some_and(|other| books.machine(other) == books.machine(e.worker));
                let alone = ledger.iter().find(itself);
                check(alone.is_none(), || format!("the ledger of {step} has a machine that audited itself: {alone:?}"))
            }
            Fact::CarriedOut(Effect::Evict { worker, machine, proof, .. }) => {
                self.evicted.insert(machine.clone());
                let liar = books.liars.contains(machine) || is_outnumbered(books, machine, proof);
                check(liar, || format!("{worker} ({machine}) is evicted and never lied"))
            }
            Fact::CarriedOut(Effect::Send { worker, .. }) => {
                let machine = books.machine(*worker);
                check(!self.evicted.contains(&machine), || format!("{machine} was evicted and gets a lease"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether most of the machines that are there, besides this one, lie and have said so of it.
fn is_outnumbered(books: &Books, machine: &String, proof: &EvictionProof) -> bool {
    let EvictionProof::Disagreements(others) = proof else { return false };
    let liars = others.iter().filter(|other| books.liars.contains(*other)).count();
    let mut all: BTreeSet<String> = books.members.keys().map(|worker| books.machine(*worker)).collect();
    all.extend(others.iter().cloned());
    all.remove(machine);
    liars >= 2 && liars * 2 > all.len()
}
