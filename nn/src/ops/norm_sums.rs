//! The sums over rows that batch norms need, on as many threads as are idle.
//!
//! Threads take whole chunks of rows, whose f32 sums are kept and then added in f64 in the order of the rows: the bits
//! are those of one thread.

use std::ops::Range;

use convoy_kernels::norm::BatchSums;
use convoy_kernels::norm_block::{BackwardSums, NormBlock};
use convoy_kernels::pool::PoolShape;

use crate::thread_team::{Threads, cut, units};
use crate::values::Statistics;

/// Channels and rows of what a block normalises.
pub(super) fn channels_and_rows(block: &NormBlock<'_>) -> (usize, usize) {
    let channels = block.stats.mean.len();
    (channels, block.x.len() / channels)
}

/// Mean and biased variance of rows of `channels` values.
pub(super) fn statistics(x: &[f32], channels: usize, threads: &Threads<'_>) -> Statistics {
    let mut sums = BatchSums::new(&x[..channels]);
    if threads.count() == 1 {
        sums.add(x);
        return finish_statistics(sums, channels);
    }
    let part = |rows: Range<usize>| {
        let mut part = BatchSums::part(&x[..channels]);
        part.add(&x[rows.start * channels..rows.end * channels]);
        part
    };
    threads.map(units(x.len() / channels, BatchSums::ROWS, threads.count()), part).for_each(|part| sums.append(part));
    finish_statistics(sums, channels)
}

/// Mean and biased variance from sums that have taken in all rows.
pub(super) fn finish_statistics(sums: BatchSums<'_>, channels: usize) -> Statistics {
    let mut statistics = Statistics { mean: vec![0.0; channels], variance: vec![0.0; channels] };
    sums.stats(&mut statistics.mean, &mut statistics.variance);
    statistics
}

/// The sums of a backward pass with neither residual nor pooling, from the output's gradient, of the length of x.
pub(super) fn alone(block: &NormBlock<'_>, dy: &[f32], threads: &Threads<'_>) -> BackwardSums {
    let (channels, rows) = channels_and_rows(block);
    let cuts = units(rows, BackwardSums::ROWS, threads.count());
    in_order(channels, threads, cuts, |rows, sums| {
        let values = rows.start * channels..rows.end * channels;
        sums.add(&NormBlock { x: &block.x[values.clone()], ..*block }, &dy[values]);
    })
}

/// With a residual, whose gradient is written to `d`; output, its gradient and `d` have the length of x.
pub(super) fn with_residual(
    block: &NormBlock<'_>,
    y: &[f32],
    dy: &[f32],
    d: &mut [f32],
    threads: &Threads<'_>,
) -> BackwardSums {
    let (channels, rows) = channels_and_rows(block);
    let cuts = cut(d, channels, units(rows, BackwardSums::ROWS, threads.count()));
    in_order(channels, threads, cuts, |(rows, d), sums| {
        let values = rows.start * channels..rows.end * channels;
        let block = NormBlock { x: &block.x[values.clone()], ..*block };
        sums.add_residual(&block, &y[values.clone()], &dy[values], d);
    })
}

/// With a pooling; the gradient of the norm's output is written to `d`, of the length of x; `dy` is that of the
/// pooling's.
pub(super) fn with_pooling(
    block: &NormBlock<'_>,
    pool: PoolShape,
    dy: &[f32],
    d: &mut [f32],
    threads: &Threads<'_>,
) -> BackwardSums {
    let [x_len, y_len] = [pool.x_len(), pool.y_len()].map(|len| len / pool.n);
    let pixels = pool.h * pool.w;
    // So many images are whole chunks of rows.
    let unit = (1..=BackwardSums::ROWS).find(|images| (images * pixels).is_multiple_of(BackwardSums::ROWS));
    let cuts = cut(d, x_len, units(pool.n, unit.expect("a multiple of any number"), threads.count()));
    in_order(pool.c, threads, cuts, |(images, d), sums| {
        let block = NormBlock { x: &block.x[images.start * x_len..images.end * x_len], ..*block };
        let dy = &dy[images.start * y_len..images.end * y_len];
        sums.add_pooled(&block, PoolShape { n: images.len(), ..pool }, dy, d);
    })
}

/// Sums that take in `cuts` by `add`, with the bits of one after the other.
fn in_order<T: Send>(
    channels: usize,
    threads: &Threads<'_>,
    cuts: impl Iterator<Item = T> + Send,
    add: impl Fn(T, &mut BackwardSums) + Sync,
) -> BackwardSums {
    let mut sums = BackwardSums::new(channels);
    if threads.count() == 1 {
        cuts.for_each(|cut| add(cut, &mut sums));
        return sums;
    }
    let part = |cut| {
        let mut part = BackwardSums::part(channels);
        add(cut, &mut part);
        part
    };
    threads.map(cuts, part).for_each(|part| sums.append(part));
    sums
}
