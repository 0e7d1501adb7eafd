//! See [`Membership`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, GoneReason, Record, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// A worker that is silent for as long as the plan allows is lost at that time, and a worker that the run no longer
/// counts as there is disconnected, unless its connection closed.
#[derive(Default)]
pub(super) struct Membership {
    disconnected: BTreeSet<WorkerId>,
}

impl Invariant for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => {
                self.disconnected.clear();
                Ok(())
            }
            Fact::CarriedOut(Effect::Disconnect { worker, .. }) => {
                self.disconnected.insert(*worker);
                Ok(())
            }
            Fact::Appended(Record::WorkerGone { worker, reason }) if *reason != GoneReason::Closed => {
                check(self.disconnected.contains(worker), || format!("{worker} is gone and was not disconnected"))
            }
            Fact::Rested { .. } if books.finished.is_none() => {
                // One that slept hears what waited before it looks for the silent.
                if books.now <= books.asleep_until {
                    return Ok(());
                }
                let longest = books.plan.timeouts.heartbeat_silence;
                let silent = books.members.iter().find(|(_, member)| books.clock.since(member.contact.heard) > longest);
                match silent {
                    Some((worker, _)) => Err(format!("{worker} is silent for more than {longest} and still there")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
