//! See [`WaitingFor`].

use convoy_scheduler::{Owner, StepId, Waiting, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::{Books, Member, Open};
use crate::facts::Fact;

/// After every event the run says what it waits for, and that is so. A worker that it names is there and holds the
/// lease that it names; no worker is there that computes where it waits for workers; the reducer has all nodes where it
/// waits for the reducer; a checkpoint that it names is being written; and it waits for nothing only after its end.
#[derive(Default)]
pub(super) struct WaitingFor {
    /// What it said last, which is mostly what it says again.
    said: Option<Waiting>,
}

impl Invariant for WaitingFor {
    fn name(&self) -> &'static str {
        "waiting"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        let Fact::Rested { waiting, .. } = fact else { return Ok(()) };
        if self.said.as_ref() != Some(*waiting) {
            check(!waiting.to_string().trim().is_empty(), || "the run does not say what it waits for".to_owned())?;
            self.said = Some((*waiting).clone());
        }
        check(is_so(books, waiting), || format!("the run says that it waits for {waiting}, and that is not so"))
    }
}

fn is_so(books: &Books, waiting: &Waiting) -> bool {
    let open = |at: &StepId| books.open.as_ref().filter(|open| open.step == *at);
    let holds = |worker: &WorkerId, fits: &dyn Fn(&Member) -> bool| books.members.get(worker).is_some_and(fits);
    match waiting {
        Waiting::Start => false,
        Waiting::Workers { step, work } => {
            open(step).is_some_and(|open| open.work == *work && !open.is_covered())
                && books.members.values().all(|member| member.threads == 0)
        }
        Waiting::Parameters { worker, step, .. } => {
            holds(worker, &|member| !member.held.is_empty() && member.ready < Some(*step))
        }
        Waiting::Node { worker, work, step, node, .. } => holds(worker, &|member| {
            let lease = member.held.values().find(|lease| lease.node == *node);
            lease.is_some_and(|lease| (lease.work, lease.at.step) == (*work, *step)) && member.ready >= Some(*step)
        }),
        Waiting::Judge { work, step, node, .. } => {
            open(step).is_some_and(|open| open.work == *work) && books.disputed.contains(node)
        }
        Waiting::Sums { owner, step, .. } => {
            open(step).is_some_and(Open::is_covered) && books.exchange.of().contains(&Owner::Worker(*owner))
        }
        Waiting::Reducer { work, step, .. } => open(step).is_some_and(|open| open.work == *work && open.is_covered()),
        Waiting::Checkpoint { step } => books.being_written.contains(step),
        Waiting::Nothing { outcome } => books.finished.as_ref() == Some(outcome),
    }
}
