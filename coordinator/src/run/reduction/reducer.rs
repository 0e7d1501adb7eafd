//! The arithmetic of the coordinator, on a thread of its own: it hands the steps of a run what workers send, and tells
//! what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::counted_sum::{Contradiction, CountedSum};
use convoy_model::Network;
use convoy_reduce::{ChunkBuffer, MadeStep, ParameterBoard, ParameterState, StepRules, StepSums, StepTimes};
use convoy_scheduler::{Event, Node, Opening, Owner, OwnersVersion, StepId, Work, WorkerId, tree};
use tokio::sync::mpsc;

use super::chunk_owners::ChunkOwners;
use super::reducer_queue::{AuditAnswer, Command, News};
use super::sum_audits::{AuditWish, SumAudits};

/// Sums and optimizer of one run.
pub(crate) struct Reducer {
    rules: Arc<StepRules>,
    board: Arc<ParameterBoard>,
    committed: Arc<ParameterState>,
    opening: Opening,
    open: Option<OpenTree>,
    owners: ChunkOwners,
    /// Whether what scales the sums of the open step was told.
    scaled: bool,
    audits: SumAudits,
    /// Whether it was told that nothing is waited for but audits.
    audits_left: bool,
    news: mpsc::UnboundedSender<News>,
}

enum OpenTree {
    Train(Box<StepSums>),
    Evaluate { step: StepId, sums: CountedSum<Vec<f64>> },
}

impl Reducer {
    /// A reducer that goes on from `committed`. One chunk in `audit_every` of an owner is added anew.
    pub(crate) fn new(
        plan: Arc<Plan>,
        network: Arc<Network>,
        board: Arc<ParameterBoard>,
        committed: Arc<ParameterState>,
        audit_every: u32,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let rules = Arc::new(StepRules::new(plan, network));
        let (opening, owners) = (Opening::default(), ChunkOwners::default());
        let audits = SumAudits::new(audit_every);
        let (open, scaled, audits_left) = (None, false, false);
        Reducer { rules, board, committed, opening, open, owners, scaled, audits, audits_left, news }
    }

    /// Does what it is told until nobody can tell it anything.
    pub(crate) fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        // Dropped before the commands: whoever loses an answer to one finds that the news have ended.
        let mut reducer = self;
        while let Some(command) = commands.blocking_recv() {
            if matches!(command, Command::End) {
                return reducer.abandon();
            }
            reducer.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open { opening, step, work, shards } => {
                self.opening = opening;
                self.open(step, work, shards);
            }
            Command::Owners { version, of } => self.change_owners(version, of),
            Command::Root { opening, from, index, values, permit } => {
                if opening == self.opening && self.owners.owns(from, index) {
                    self.root(from, index, values);
                }
                drop(permit);
            }
            Command::Squares { opening, from, index, squares, permit } => {
                if opening == self.opening && self.owners.owns(from, index) {
                    self.squares(from, index, squares);
                }
                drop(permit);
            }
            Command::Chunk { opening, node, from, index, values, permit } => {
                if opening == self.opening {
                    self.chunk(node, from, index, values);
                }
                drop(permit);
            }
            Command::Summary { opening, node, from, sums, not_finite, event_after, permit } => {
                // A node that is not finite may be computed again.
                if opening == self.opening && not_finite.is_none() {
                    self.summary(node, from, sums);
                }
                self.tell(News::Node { event_after, not_finite, permit });
                self.finish_step();
            }
            Command::Audit { opening, answer } => {
                if opening == self.opening {
                    self.audit(answer);
                }
            }
            Command::Gone { worker } => {
                let wishes = self.audits.gone(worker);
                self.wish(wishes);
                self.finish_step();
            }
            Command::Commit => self.commit(),
            Command::Abandon | Command::End => self.abandon(),
            Command::Snapshot { reply } => _ = reply.send(self.committed.clone()),
            Command::State { reply } => _ = reply.send(self.committed.clone()),
        }
    }

    fn open(&mut self, step: StepId, work: Work, shards: u32) {
        self.abandon();
        self.open = Some(match work {
            Work::Evaluate => OpenTree::Evaluate { step, sums: CountedSum::over(shards) },
            Work::Train => {
                let (rules, before) = (self.rules.clone(), self.committed.clone());
                self.owners.open(rules.frozen.at(before.step));
                (self.scaled, self.audits_left) = (false, false);
                self.audits.open(shards, &self.owned(), self.owners.workers().len());
                OpenTree::Train(Box::new(StepSums::open(rules, before, shards, &self.board)))
            }
        });
        self.tell_reduced();
    }

    /// The chunks that workers add in the step after the committed parameters.
    fn owned(&self) -> BTreeMap<WorkerId, Vec<usize>> {
        self.owners.by_worker(|index| !self.rules.frozen.contain(self.committed.step, index))
    }

    /// Chunks have other owners. What was added here of those that have moved is worth nothing.
    fn change_owners(&mut self, version: OwnersVersion, of: Arc<[Owner]>) {
        let moved = self.owners.change(version, of);
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let step = open.step();
        self.audits.moved(moved.iter().copied());
        let moved = moved.into_iter().filter(|index| !self.rules.frozen.contain(step, *index));
        open.move_chunks(moved.inspect(|index| self.owners.settle(*index, false)));
        self.tell_reduced();
        for worker in self.owners.workers() {
            if self.owners.has_told_squares(worker) {
                self.tell(News::OwnerSquared { opening: self.opening, worker });
            }
        }
    }

    /// Tells of all owners that have nothing to bring.
    fn tell_reduced(&self) {
        if let Some(OpenTree::Train(_)) = self.open {
            self.owners.reduced().into_iter().for_each(|worker| self.tell_reduced_of(worker));
        }
    }

    fn tell_reduced_of(&self, worker: WorkerId) {
        self.tell(News::OwnerReduced { opening: self.opening, version: self.owners.version(), worker });
    }

    /// The owner `from` of chunk `index` brings its sum.
    fn root(&mut self, from: WorkerId, index: usize, values: ChunkBuffer) {
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        let step = StepId(open.step());
        if self.rules.frozen.contain(step.0, index) {
            return;
        }
        if let Err(contradiction) = open.take_sum(index, from, values) {
            return self.contradicted(step, Work::Train, contradiction);
        }
        let sum = open.brought_sum(index);
        self.owners.settle(index, true);
        if self.owners.has_brought_all(from) {
            self.tell_reduced_of(from);
        }
        let wishes = sum.map(|sum| self.audits.summed(index, sum));
        self.wish(wishes.unwrap_or_default());
        self.finish_step();
    }

    fn squares(&mut self, from: WorkerId, index: usize, squares: f64) {
        if let Some(OpenTree::Train(open)) = &mut self.open {
            open.take_squares(index, squares);
            self.owners.note_squares(index);
            if self.owners.has_told_squares(from) {
                self.tell(News::OwnerSquared { opening: self.opening, worker: from });
            }
            self.tell_scales();
        }
    }

    /// Tells what scales the sums of the open step, once it follows from what owners have told.
    fn tell_scales(&mut self) {
        let Some(OpenTree::Train(open)) = self.open.as_ref().filter(|_| !self.scaled) else { return };
        if let Some(scales) = open.told_scales() {
            self.scaled = true;
            self.tell(News::Scaled { opening: self.opening, scales });
        }
    }

    fn chunk(&mut self, node: Node, from: WorkerId, index: usize, values: ChunkBuffer) {
        let Some(OpenTree::Train(open)) = &mut self.open else { return };
        match open.add_chunk(node, from, index, values) {
            Ok(()) => self.finish_step(),
            Err(contradiction) => {
                let step = StepId(open.step());
                self.contradicted(step, Work::Train, contradiction);
            }
        }
    }

    fn summary(&mut self, node: Node, from: WorkerId, sums: Vec<f64>) {
        let (step, work, counted) = match &mut self.open {
            Some(OpenTree::Train(open)) => (StepId(open.step()), Work::Train, open.add_sums(node, from, sums)),
            Some(OpenTree::Evaluate { step, sums: tree }) if sums.len() == self.rules.plan.metric_layout().len() => {
                (*step, Work::Evaluate, tree.insert(node, from, sums))
            }
            _ => return,
        };
        match counted {
            Ok(()) => {
                self.tell_scales();
                if work == Work::Train {
                    let wishes = self.audits.done(node, from);
                    self.wish(wishes);
                }
            }
            Err(contradiction) => self.contradicted(step, work, contradiction),
        }
    }

    /// Forgets the tree, which holds something wrong, and tells.
    fn contradicted(&mut self, step: StepId, work: Work, contradiction: Contradiction) {
        let Contradiction { node, workers } = contradiction;
        self.abandon();
        let event = Event::NodeContradicted { step, work, node, workers };
        self.tell(News::Contradicted { opening: self.opening, event });
    }

    fn audit(&mut self, answer: AuditAnswer) {
        let wishes = match answer {
            AuditAnswer::Asked { index, workers } => return self.audits.asked(index, workers),
            AuditAnswer::Kept { from, index, node, values, permit } => {
                self.audits.kept(from, index, node, values);
                return drop(permit);
            }
            AuditAnswer::Said { from, node, digests } => {
                let Some(OpenTree::Train(open)) = &self.open else { return };
                let frozen = |index| self.rules.frozen.contain(open.step(), index);
                let owns = |index: usize| self.owners.owns(from, index) && !frozen(index);
                let own: Vec<_> = digests.into_iter().filter(|(index, _)| owns(*index)).collect();
                self.audits.said(from, node, &own, |index| open.brought_sum(index))
            }
            AuditAnswer::Sent { from, index } => self.audits.sent(from, index),
            AuditAnswer::Brought { index, brought } => self.audits.brought(index, brought.as_ref()),
            AuditAnswer::GiveUp if self.audits.have_come() => {
                // Bytes flow: they have as much time again.
                self.audits_left = false;
                Vec::new()
            }
            AuditAnswer::GiveUp => self.audits.give_up(),
        };
        self.wish(wishes);
        self.finish_step();
    }

    /// Does what audits of sums want to be done.
    fn wish(&mut self, wishes: Vec<AuditWish>) {
        let opening = self.opening;
        for wish in wishes {
            match wish {
                AuditWish::AskKept { index, of } => self.tell(News::AskKept { opening, index, of }),
                AuditWish::AskBrought { index, owner } => self.tell(News::AskBrought { opening, index, owner }),
                AuditWish::Found(owner, finding) => self.tell(News::SumAudited { opening, owner, finding }),
                AuditWish::Unanswered(worker) => self.tell(News::Unanswered { opening, worker }),
                AuditWish::Unexplained(owner) => {
                    let Some(OpenTree::Train(open)) = &self.open else { return };
                    let (step, node) = (StepId(open.step()), tree::root(open.shards()));
                    let workers = vec![owner];
                    return self.contradicted(step, Work::Train, Contradiction { node, workers });
                }
            }
        }
    }

    /// Tells when all of the tree is there, and no audit of its sums is open.
    fn finish_step(&mut self) {
        let opening = self.opening;
        if let Some(OpenTree::Train(open)) = &self.open
            && !self.audits.are_over()
        {
            if open.is_made() && !std::mem::replace(&mut self.audits_left, true) {
                self.tell(News::AuditsLeft { opening });
            }
            return;
        }
        match &mut self.open {
            Some(OpenTree::Evaluate { step, sums }) => {
                if let Some(sums) = sums.take() {
                    let step = *step;
                    self.open = None;
                    self.tell(News::Evaluated { opening, step, sums });
                }
            }
            Some(OpenTree::Train(open)) => {
                let step = StepId(open.step());
                match open.made() {
                    Some(MadeStep { sums, norm, digest: Some(digest) }) => {
                        self.tell(News::Reduced { opening, step, digest, sums, norm });
                    }
                    Some(MadeStep { digest: None, .. }) => self.tell(News::NotFinite { opening, step }),
                    None => {}
                }
            }
            None => {}
        }
    }

    fn commit(&mut self) {
        let Some(OpenTree::Train(open)) = self.open.take() else { return };
        let times = open.times();
        let Some(next) = open.into_state() else { return };
        self.audits.committed(&self.owned());
        log_times(self.committed.step, times);
        self.board.commit(next.step);
        self.committed = Arc::new(next);
    }

    fn abandon(&mut self) {
        self.audits.close();
        if let Some(OpenTree::Train(open)) = self.open.take() {
            self.board.abandon(open.step() + 1);
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more only when the run is over.
        _ = self.news.send(news);
    }
}

/// Where the time of a step went: `RUST_LOG=convoy_coordinator::stages=debug` shows a line for each.
fn log_times(step: u64, times: StepTimes) {
    let StepTimes { tree, optimizer, digest } = times;
    let [tree, optimizer, digest] = [tree, optimizer, digest].map(|time| time.as_secs_f64() * 1e3);
    tracing::debug!(target: "convoy_coordinator::stages", step, tree, optimizer, digest, "ms");
}

#[cfg(test)]
mod tests;
