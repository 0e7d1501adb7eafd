//! The part of one data set that becomes validation data.

use convoy_common::random::{Purpose, permutation};

/// For each sample, given its stratum, whether it becomes validation data. Of each stratum, `fraction` of the samples
/// do, rounded half up; at least one is left for training. They are chosen by a permutation at addresses under (`seed`,
/// split, stratum).
pub(crate) fn held_out(strata: &[u32], fraction: f64, seed: u64) -> Vec<bool> {
    let mut members = vec![Vec::new(); strata.iter().max().map_or(0, |last| *last as usize + 1)];
    strata.iter().enumerate().for_each(|(index, stratum)| members[*stratum as usize].push(index));
    let mut chosen = vec![false; strata.len()];
    for (stratum, members) in (0..).zip(members) {
        let count = ((members.len() as f64 * fraction + 0.5) as usize).min(members.len().saturating_sub(1));
        for position in permutation(seed, Purpose::Split, stratum, members.len() as u32).into_iter().take(count) {
            chosen[members[position as usize]] = true;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stratum_gives_its_share() {
        let strata: Vec<u32> = (0..100).map(|i| if i < 10 { 0 } else { 1 }).chain([2]).collect();
        let chosen = held_out(&strata, 0.2, 7);
        let count = |stratum| chosen.iter().zip(&strata).filter(|(chosen, s)| **chosen && **s == stratum).count();
        assert_eq!((count(0), count(1), count(2)), (2, 18, 0));
        assert_eq!(chosen, held_out(&strata, 0.2, 7));
        assert_ne!(chosen, held_out(&strata, 0.2, 8));
        assert!(!held_out(&strata, 0.0, 7).contains(&true));
    }
}
