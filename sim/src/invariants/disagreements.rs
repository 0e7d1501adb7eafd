//! See [`Disagreements`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, Event, Owner, Record, Work};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Of two machines that disagree one lied at least, and neither was evicted before. From the next step on neither owns
/// chunks until the other is evicted, not even after restarts. Where it is about numbers that are counted, the run goes
/// back to parameters from before the first lie of either. Whoever disagrees with more than half of the other machines
/// is evicted.
#[derive(Default)]
pub(super) struct Disagreements {
    evicted: BTreeSet<String>,
    /// Pairs of machines, each way.
    pairs: BTreeSet<(String, String)>,
    /// Machines that disagree with too many, since the event in work.
    outvoted: BTreeSet<String>,
    /// The event in work is about parameters, which nobody has computed with.
    handed_out: bool,
}

impl Invariant for Disagreements {
    fn name(&self) -> &'static str {
        "disagreements"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } | Fact::Died => self.outvoted.clear(),
            Fact::Told { event, .. } => self.handed_out = matches!(event, Event::WrongParameters { .. }),
            Fact::Appended(Record::Evicted { machine, .. }) => {
                self.evicted.insert(machine.clone());
                self.outvoted.remove(machine);
                self.pairs.retain(|(one, other)| one != machine && other != machine);
            }
            Fact::Appended(Record::Disagreed { machines: [one, other], since }) => {
                let lies = [one, other].iter().any(|machine| books.liars.contains(*machine));
                check(lies, || format!("{one} and {other} disagree, and neither ever lied"))?;
                let gone = [one, other].into_iter().find(|machine| self.evicted.contains(*machine));
                check(gone.is_none(), || format!("{one} and {other} disagree, and {gone:?} was evicted before"))?;
                let first = books.lies.first_of(&[one, other]).filter(|_| !self.handed_out);
                check(first.is_none_or(|first| *since <= first), || {
                    format!("{one} and {other} are believed up to {since}, but one of them lied in {first:?}")
                })?;
                self.pairs.extend([(one.clone(), other.clone()), (other.clone(), one.clone())]);
                self.outvoted.extend(self.too_many(books));
            }
            Fact::CarriedOut(Effect::OpenStep { step, work: Work::Train, .. }) => {
                let disputed = books.exchange.of().iter().find_map(|owner| match owner {
                    Owner::Worker(owner) => self.with_whom(&books.machine(*owner)).map(|other| (owner, other)),
                    Owner::Coordinator => None,
                });
                return match disputed {
                    Some((owner, other)) => {
                        Err(format!("{owner} owns chunks of {step}, and {other} disagrees with it"))
                    }
                    None => Ok(()),
                };
            }
            Fact::Rested { .. } => {
                let outvoted = self.outvoted.pop_first();
                return check(outvoted.is_none(), || {
                    format!("{outvoted:?} disagrees with too many and is not evicted")
                });
            }
            _ => {}
        }
        Ok(())
    }
}

impl Disagreements {
    fn with_whom(&self, machine: &String) -> Option<&String> {
        self.pairs.iter().find(|(one, _)| one == machine).map(|(_, other)| other)
    }

    /// Machines of this start that disagree with so many that most others would have to lie otherwise.
    fn too_many(&self, books: &Books) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = books.members.keys().map(|worker| books.machine(*worker)).collect();
        all.extend(self.pairs.iter().map(|(one, _)| one.clone()));
        let others = |machine: &String| self.pairs.iter().filter(|(one, _)| one == machine).count();
        let too_many = |machine: &&String| others(machine) >= 2 && others(machine) * 2 > all.len() - 1;
        books.machines.values().filter(too_many).cloned().collect()
    }
}
