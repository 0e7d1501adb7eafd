//! What owners are asked about the chunks that they were brought, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use convoy_common::Digest;
use convoy_scheduler::{Node, WorkerId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A chunk of a node, as an owner was brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BroughtDigest {
    pub(crate) node: Node,
    pub(crate) index: usize,
    pub(crate) digest: Digest,
}

/// The answers of all owners that were asked.
pub(crate) type BroughtAnswers = BTreeMap<WorkerId, Vec<BroughtDigest>>;

/// Questions to owners that are not answered.
#[derive(Debug, Default)]
pub(crate) struct BroughtQuestions(Mutex<Questions>);

#[derive(Debug, Default)]
struct Questions {
    last: u64,
    open: BTreeMap<u64, Question>,
}

#[derive(Debug)]
struct Question {
    /// Who was asked and has not answered.
    lacking: BTreeSet<WorkerId>,
    came: BroughtAnswers,
    reply: oneshot::Sender<BroughtAnswers>,
}

impl BroughtQuestions {
    /// A question that nobody was asked yet: its number, and where the answers come once all are there. That ends
    /// without any where nobody can be asked.
    pub(crate) fn begin(&self) -> (u64, oneshot::Receiver<BroughtAnswers>) {
        let (reply, answers) = oneshot::channel();
        let mut questions = self.0.lock();
        questions.last += 1;
        let number = questions.last;
        let question = Question { lacking: BTreeSet::new(), came: BTreeMap::new(), reply };
        questions.open.insert(number, question);
        (number, answers)
    }

    /// These owners are asked. Where there are none, the question is no more.
    pub(crate) fn ask(&self, number: u64, owners: BTreeSet<WorkerId>) {
        let mut questions = self.0.lock();
        if owners.is_empty() {
            questions.open.remove(&number);
        } else if let Some(question) = questions.open.get_mut(&number) {
            question.lacking = owners;
        }
    }

    /// An owner answers. False where it was not asked.
    pub(crate) fn answer(&self, number: u64, from: WorkerId, brought: Vec<BroughtDigest>) -> bool {
        let mut questions = self.0.lock();
        let Some(question) = questions.open.get_mut(&number) else { return false };
        if !question.lacking.remove(&from) {
            return false;
        }
        question.came.insert(from, brought);
        if question.lacking.is_empty()
            && let Some(Question { came, reply, .. }) = questions.open.remove(&number)
        {
            // Whoever asked may be gone.
            _ = reply.send(came);
        }
        true
    }

    /// A worker is gone: what it was asked it does not answer any more.
    pub(crate) fn gone(&self, worker: WorkerId) {
        self.0.lock().open.retain(|_, question| !question.lacking.contains(&worker));
    }

    /// Ends a question when the answer to this is dropped.
    pub(crate) fn end_later(self: &Arc<Self>, number: u64) -> EndLater {
        EndLater { questions: self.clone(), number }
    }

    /// Nobody waits for the answers any more. Who has not answered.
    pub(crate) fn end(&self, number: u64) -> BTreeSet<WorkerId> {
        self.0.lock().open.remove(&number).map(|question| question.lacking).unwrap_or_default()
    }
}

/// Ends a question when it is dropped.
#[derive(Debug)]
pub(crate) struct EndLater {
    questions: Arc<BroughtQuestions>,
    number: u64,
}

impl Drop for EndLater {
    fn drop(&mut self) {
        self.questions.end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);

    #[tokio::test]
    async fn answers_come_when_all_have_answered() {
        let questions = BroughtQuestions::default();
        let (number, answers) = questions.begin();
        questions.ask(number, [ONE, TWO].into());
        let brought = BroughtDigest { node: Node { first: 0, last: 1 }, index: 3, digest: Digest::of(b"x") };
        assert!(questions.answer(number, TWO, vec![brought]));
        assert!(!questions.answer(number, TWO, Vec::new()), "it has answered");
        assert!(!questions.answer(number, WorkerId(3), Vec::new()), "it was not asked");
        assert!(!questions.answer(number + 1, ONE, Vec::new()), "nobody asks that");
        assert!(questions.answer(number, ONE, Vec::new()));
        assert_eq!(answers.await.unwrap(), [(ONE, Vec::new()), (TWO, vec![brought])].into());
    }

    #[tokio::test]
    async fn a_question_to_nobody_or_to_one_that_is_gone_has_no_answer() {
        let questions = BroughtQuestions::default();
        let (number, answers) = questions.begin();
        questions.ask(number, BTreeSet::new());
        assert!(answers.await.is_err());
        let (number, answers) = questions.begin();
        questions.ask(number, [ONE, TWO].into());
        questions.gone(TWO);
        assert!(answers.await.is_err() && !questions.answer(number, ONE, Vec::new()));
        let (number, _answers) = questions.begin();
        questions.ask(number, [ONE, TWO].into());
        questions.answer(number, ONE, Vec::new());
        assert_eq!((questions.end(number), questions.end(number)), ([TWO].into(), BTreeSet::new()));
    }
}
