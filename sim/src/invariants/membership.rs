//! See [`Membership`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, GoneReason, Record, WorkerId};

use super::{Invariant, check};
use crate::facts::{Books, Fact};

/// Who is silent for as long as the plan allows is put out at that time, and whoever is put out is told.
#[derive(Default)]
pub(super) struct Membership {
    put_out: BTreeSet<WorkerId>,
}

impl Invariant for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => {
                self.put_out.clear();
                Ok(())
            }
            Fact::Left(Effect::Disconnect { worker, .. }) => {
                self.put_out.insert(*worker);
                Ok(())
            }
            Fact::Appended(Record::WorkerGone { worker, reason }) if *reason != GoneReason::Closed => {
                check(self.put_out.contains(worker), || format!("{worker} is put out and was not told"))
            }
            Fact::Rested { .. } if books.finished.is_none() => {
                let longest = books.plan.heartbeat_silence;
                let silent = books.members.iter().find(|(_, member)| books.now.since(member.heard) > longest);
                match silent {
                    Some((worker, _)) => Err(format!("{worker} is silent for more than {longest} and still there")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
