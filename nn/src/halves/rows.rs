//! Operations whose output's rows are computed apart from each other, on as many threads as are idle.

use std::ops::Range;

use convoy_kernels::bf16::{Bf16, Blocks};
use convoy_model::{Network, Node};

use super::buffers::HalfBuffers;
use crate::ComputeError;
use crate::fusion::Group;
use crate::lowering::blocks_of;
use crate::pass_plan::PassKind;
use crate::thread_team::{Team, cut, ranges};

/// A layer that an operation is resolved from.
pub(super) struct HalfLayer<'a> {
    /// The graph.
    pub network: &'a Network,
    /// What the pass is for.
    pub kind: PassKind,
    /// All groups.
    pub groups: &'a [Group],
    /// Its nodes.
    pub group: &'a Group,
}

impl HalfLayer<'_> {
    /// Its first node.
    pub fn node(&self) -> &Node {
        &self.network.nodes[self.group.node]
    }

    /// The groups that read what `node` puts out.
    pub fn readers(&self, node: usize) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.inputs(self.network).contains(&node))
    }

    /// Its first input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn input(&self) -> Result<Blocks, ComputeError> {
        blocks_of(&self.network.nodes[self.node().inputs[0]], self.kind.images)
    }
}

/// Some rows of a tensor.
pub(super) fn part<'a>(tensor: &'a [Bf16], shape: &Blocks, rows: &Range<usize>) -> &'a [Bf16] {
    &tensor[rows.start * shape.row_len()..rows.end * shape.row_len()]
}

/// Has `fill` write all of `to`, some rows at a time.
pub(super) fn fill_rows(team: &Team, shape: Blocks, to: &mut [Bf16], fill: impl Fn(Range<usize>, &mut [Bf16]) + Sync) {
    let threads = team.threads(shape.len(), shape.rows());
    let cuts = cut(to, shape.row_len(), ranges(shape.rows(), threads.count()));
    threads.each(cuts, |(rows, to)| fill(rows, to));
}

/// A tensor whose rows `fill` writes, from all of the buffers.
pub(super) fn tensor_of_rows(
    buffers: &mut HalfBuffers,
    shape: Blocks,
    fill: impl Fn(&HalfBuffers, Range<usize>, &mut [Bf16]) + Sync,
) -> Vec<Bf16> {
    let mut to = buffers.pool.take(shape.len());
    let buffers = &*buffers;
    fill_rows(&buffers.team, shape, &mut to, |rows, to| fill(buffers, rows, to));
    to
}

/// Values that a thread writes of a tensor before it reads them again: about as many as stay in the second-level cache.
const PIECE: usize = 1 << 18;

/// Has `fill` write rows of a tensor, and `sum` their sums while they are in the cache: of all rows that are written so
/// far, those in the range.
pub(super) fn fill_and_sum(
    shape: Blocks,
    rows: Range<usize>,
    to: &mut [Bf16],
    sums: &mut [f64],
    fill: impl Fn(Range<usize>, &mut [Bf16]),
    sum: impl Fn(Range<usize>, &[Bf16], &mut [f64]),
) {
    let [len, sums_len] = [shape.row_len(), shape.row_sums_len()];
    let step = (PIECE / len).max(1);
    for first in rows.clone().step_by(step) {
        let piece = first..rows.end.min(first + step);
        let [from, end] = [piece.start - rows.start, piece.end - rows.start];
        fill(piece.clone(), &mut to[from * len..end * len]);
        sum(piece, &to[..end * len], &mut sums[from * sums_len..end * sums_len]);
    }
}

/// The sums of each row of `shape`, which `fill` writes.
pub(super) fn row_sums(team: &Team, shape: Blocks, fill: impl Fn(Range<usize>, &mut [f64]) + Sync) -> Vec<f64> {
    let len = shape.row_sums_len();
    let mut sums = vec![0.0; shape.rows() * len];
    let threads = team.threads(shape.len(), shape.rows());
    threads.each(cut(&mut sums, len, ranges(shape.rows(), threads.count())), |(rows, sums)| fill(rows, sums));
    sums
}

#[cfg(test)]
mod tests {
    use convoy_kernels::bf16::elementwise::statistics_rows;

    use super::*;

    /// A row is more than a piece, so that each is one; of a second range, whose sums stand at its beginning.
    #[test]
    fn sums_by_pieces_are_those_of_the_whole() {
        let shape = Blocks { n: 32, h: 5, w: 9, c: 1024 };
        assert!(shape.row_len() > PIECE);
        let value = |i: usize| Bf16::from_f32((i * 7919 % 1013) as f32 / 506.5 - 1.0);
        let x: Vec<Bf16> = (0..shape.len()).map(value).collect();
        let mut expected = vec![0.0; shape.rows() * shape.row_sums_len()];
        statistics_rows(shape, &x, 0..shape.rows(), &mut expected);

        let mut written = vec![Bf16::ZERO; shape.len()];
        let mut sums = vec![0.0; expected.len()];
        let fill = |rows: Range<usize>, to: &mut [Bf16]| to.copy_from_slice(part(&x, &shape, &rows));
        let sum = |rows, written: &[Bf16], sums: &mut [f64]| statistics_rows(shape, written, rows, sums);
        fill_and_sum(shape, 0..shape.rows(), &mut written, &mut sums, fill, sum);
        assert!(written == x && sums == expected);

        let (row, sums_len) = (shape.row_len(), shape.row_sums_len());
        let (mut written, mut sums) = (vec![Bf16::ZERO; 3 * row], vec![0.0; 3 * sums_len]);
        let sum = |rows: Range<usize>, written: &[Bf16], sums: &mut [f64]| {
            assert_eq!(written.len(), (rows.end - 2) * row);
            statistics_rows(shape, &x, rows, sums);
        };
        fill_and_sum(shape, 2..5, &mut written, &mut sums, fill, sum);
        assert!(written == x[2 * row..] && sums == expected[2 * sums_len..]);
    }
}
