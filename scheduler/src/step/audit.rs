//! The state of a node's audit: whether it is computed a second time, and the digests that workers got.

use std::collections::BTreeSet;

use crate::ids::WorkerId;
use crate::node_digest::NodeDigest;
use crate::owners::Owner;

/// What is said of the numbers that a worker got for a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ballot {
    pub worker: WorkerId,
    /// `None` where the worker found a NaN or an infinity.
    pub digest: Option<NodeDigest>,
    /// Whether its numbers are counted: then each part of the digest is what an owner says to have been brought.
    /// Otherwise all of it is what the worker says itself.
    pub counted: bool,
}

/// Whether a node is computed a second time, to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Audit {
    #[default]
    No,
    /// It will be, once it is done.
    Wanted,
    /// It is done, and other workers compute it until two agree. The ballots stand in order of arrival.
    Open(Vec<Ballot>),
    /// This worker agreed with the one whose numbers are counted.
    Agreed(WorkerId),
}

/// The state of an audit after one more ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No two agree yet.
    Undecided {
        /// All that have computed the node.
        workers: Vec<WorkerId>,
    },
    /// Two agree.
    Decided {
        /// Those two, and others that agree with them.
        right: Vec<WorkerId>,
        /// The others.
        wrong: Vec<WrongBallot>,
    },
}

/// A worker whose numbers for a node are not those that two others agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongBallot {
    /// Which worker.
    pub worker: WorkerId,
    /// Who says so of the numbers that are counted: the owners of the parts that differ. `None` where two others have
    /// got the same themselves and it has said itself what it got, or found a NaN.
    pub say: Option<BTreeSet<Owner>>,
    /// Where it has said itself what it got: the only other one that has got what these owners say.
    pub judge: Option<WorkerId>,
}

/// The verdict that the last of `ballots` brings.
pub(super) fn verdict(ballots: &[Ballot]) -> Verdict {
    let undecided = || Verdict::Undecided { workers: ballots.iter().map(|ballot| ballot.worker).collect() };
    // Two that find a NaN need not have found the same.
    let Some(last) = ballots.last().and_then(|ballot| ballot.digest.as_ref()) else { return undecided() };
    let (right, wrong): (Vec<&Ballot>, Vec<&Ballot>) =
        ballots.iter().partition(|ballot| ballot.digest.as_ref() == Some(last));
    if right.len() < 2 {
        return undecided();
    }
    // Of one that agrees with what is counted, and of no other, it is not known whether two say so: the owners of what
    // differs may be of its own machine.
    let themselves: Vec<WorkerId> = right.iter().filter(|ballot| !ballot.counted).map(|ballot| ballot.worker).collect();
    let alone = themselves.first().copied().filter(|_| themselves.len() == 1);
    let wrong = wrong.into_iter().map(|ballot| {
        let judge = alone.filter(|_| !ballot.counted);
        let told = ballot.digest.as_ref().filter(|_| ballot.counted || judge.is_some());
        WrongBallot { worker: ballot.worker, say: told.map(|digest| digest.differs_at(last)), judge }
    });
    Verdict::Decided { right: right.into_iter().map(|ballot| ballot.worker).collect(), wrong: wrong.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ballots: &[(u32, Option<u8>)], right: &[u32], wrong: &[u32]) {
        let ballot = |(worker, digest): &(u32, Option<u8>)| Ballot {
            worker: WorkerId(*worker),
            digest: digest.map(|digest| NodeDigest::whole([digest; 32])),
            counted: false,
        };
        let ballots: Vec<Ballot> = ballots.iter().map(ballot).collect();
        let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect::<Vec<_>>();
        let expected = match right.is_empty() {
            true => Verdict::Undecided { workers: ids(wrong) },
            false => {
                let wrong =
                    ids(wrong).into_iter().map(|worker| WrongBallot { worker, say: None, judge: None }).collect();
                Verdict::Decided { right: ids(right), wrong }
            }
        };
        assert_eq!(verdict(&ballots), expected);
    }

    #[test]
    fn two_that_agree_decide() {
        check(&[(1, Some(7)), (2, Some(7))], &[1, 2], &[]);
        check(&[(1, Some(7)), (2, Some(8)), (3, Some(7))], &[1, 3], &[2]);
        check(&[(1, None), (2, Some(8)), (3, Some(8))], &[2, 3], &[1]);
    }

    #[test]
    fn differing_digests_and_two_nans_decide_nothing() {
        check(&[(1, Some(7)), (2, Some(8))], &[], &[1, 2]);
        check(&[(1, None), (2, None)], &[], &[1, 2]);
    }

    #[test]
    fn of_what_is_counted_the_owners_say_that_it_is_wrong() {
        let worker = |id| Owner::Worker(WorkerId(id));
        let ballot = |id, bytes: [u8; 2], counted| {
            let digest = NodeDigest::of_parts([(worker(1), [bytes[0]; 32]), (worker(2), [bytes[1]; 32])]);
            Ballot { worker: WorkerId(id), digest: Some(digest), counted }
        };
        let ballots = [ballot(1, [5, 6], true), ballot(2, [5, 7], false), ballot(3, [5, 7], false)];
        let Verdict::Decided { right, wrong } = verdict(&ballots) else { panic!("two agree") };
        assert_eq!(right, [WorkerId(2), WorkerId(3)]);
        assert_eq!(wrong, [WrongBallot { worker: WorkerId(1), say: Some([worker(2)].into()), judge: None }]);
    }

    #[test]
    fn who_agrees_with_what_owners_say_is_named_where_nobody_else_does() {
        let worker = |id| Owner::Worker(WorkerId(id));
        let ballot = |id, bytes: [u8; 2], counted| {
            let digest = NodeDigest::of_parts([(worker(1), [bytes[0]; 32]), (worker(3), [bytes[1]; 32])]);
            Ballot { worker: WorkerId(id), digest: Some(digest), counted }
        };
        let mut ballots = vec![ballot(1, [5, 6], true), ballot(2, [5, 7], false), ballot(3, [5, 6], false)];
        let Verdict::Decided { wrong, .. } = verdict(&ballots) else { panic!("two agree") };
        let say = Some([worker(3)].into());
        assert_eq!(wrong, [WrongBallot { worker: WorkerId(2), say, judge: Some(WorkerId(3)) }]);
        ballots[0] = ballot(1, [5, 8], true);
        ballots.push(ballot(4, [5, 6], false));
        let Verdict::Decided { wrong, .. } = verdict(&ballots) else { panic!("two agree") };
        assert_eq!(wrong[1], WrongBallot { worker: WorkerId(2), say: None, judge: None }, "two have got it themselves");
    }
}
