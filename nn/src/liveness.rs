//! How long values live: until their last reader has run.

/// For each step of a pass, the nodes that no later step reads, each named once. `reads` has the nodes that each step
/// reads, below `nodes`, in the order of the steps.
pub(crate) fn last_reads<'a>(nodes: usize, reads: impl DoubleEndedIterator<Item = &'a [usize]>) -> Vec<Vec<usize>> {
    let mut read_later = vec![false; nodes];
    let mut last: Vec<Vec<usize>> = reads
        .rev()
        .map(|step| step.iter().copied().filter(|&node| !std::mem::replace(&mut read_later[node], true)).collect())
        .collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_dies_with_its_last_reader() {
        let reads = [vec![0], vec![1, 0], vec![2, 2], vec![3, 1]];
        assert_eq!(
            last_reads(5, reads.iter().map(Vec::as_slice)),
            [vec![], vec![0], vec![2], vec![3, 1]],
            "0 is read twice, 2 twice by one step; nobody reads 4"
        );
    }
}
