//! The state of a node's audit: whether it is computed a second time, and the digests that workers got.

use crate::ids::WorkerId;

/// A digest of a node's numbers with the worker that got it; `None` where the worker found a NaN or an infinity.
pub(super) type Ballot = (WorkerId, Option<[u8; 32]>);

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
        wrong: Vec<WorkerId>,
    },
}

/// The verdict that the last of `ballots` brings.
pub(super) fn verdict(ballots: &[Ballot]) -> Verdict {
    let workers = |ballots: Vec<&Ballot>| ballots.into_iter().map(|(worker, _)| *worker).collect::<Vec<_>>();
    let last = ballots.last().and_then(|(_, digest)| *digest);
    let agrees = |ballot: &&Ballot| ballot.1 == last;
    // Two that find a NaN need not have found the same.
    if last.is_none() || ballots.iter().filter(agrees).count() < 2 {
        return Verdict::Undecided { workers: workers(ballots.iter().collect()) };
    }
    let (right, wrong) = ballots.iter().partition(agrees);
    Verdict::Decided { right: workers(right), wrong: workers(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ballots: &[(u32, Option<u8>)], right: &[u32], wrong: &[u32]) {
        let ballots: Vec<Ballot> =
            ballots.iter().map(|(worker, digest)| (WorkerId(*worker), digest.map(|digest| [digest; 32]))).collect();
        let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect::<Vec<_>>();
        let expected = match right.is_empty() {
            true => Verdict::Undecided { workers: ids(wrong) },
            false => Verdict::Decided { right: ids(right), wrong: ids(wrong) },
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
}
