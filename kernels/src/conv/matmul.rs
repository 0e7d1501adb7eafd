//! Matrix products whose rows lie at even distances: what Winograd's algorithm leaves of a convolution.

use super::tile::{ROWS, TALL, add_products, add_rows, tall};
use crate::cpu::{Kernel, prefetch};

/// For one panel of channels, `c[row] = start + sum over depth of a[row][depth] * b[depth]`, in order.
pub(crate) struct Product<'a> {
    /// Rows of `depth` values, one every `a_row` values.
    pub a: &'a [f32],
    pub a_row: usize,
    pub rows: usize,
    pub depth: usize,
    /// `depth` rows of a panel.
    pub b: &'a [f32],
    /// A row of a panel for each row of `a`.
    pub c: &'a mut [f32],
    /// Whether the sums start from what stands in `c`, or from 0.
    pub add: bool,
    /// What will be read next, to be asked for meanwhile: too little at a time for the hardware to foresee it.
    pub next: [&'a [f32]; 2],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let b = &self.b.as_chunks::<PANEL>().0[..self.depth];
        let rows = &mut self.c.as_chunks_mut::<PANEL>().0[..self.rows];
        let (twelves, rest) = rows.split_at_mut(tall::<PANEL>(self.rows));
        let twelves = twelves.as_chunks_mut::<TALL>().0;
        let (sixes, rest) = rest.as_chunks_mut::<ROWS>();
        let mut a = self.a;
        let mut prefetches = Prefetches::new(self.next, 2 * twelves.len() + sixes.len());
        for c in twelves {
            prefetches.issue(2);
            *c = if self.add { product(a, self.a_row, b, *c) } else { product(a, self.a_row, b, [[0.0; PANEL]; TALL]) };
            a = &a[(TALL * self.a_row).min(a.len())..];
        }
        for c in sixes {
            prefetches.issue(1);
            *c = if self.add { product(a, self.a_row, b, *c) } else { product(a, self.a_row, b, [[0.0; PANEL]; ROWS]) };
            a = &a[(ROWS * self.a_row).min(a.len())..];
        }
        let (twos, ones) = rest.as_chunks_mut::<2>();
        for c in twos {
            *c = if self.add { product(a, self.a_row, b, *c) } else { product(a, self.a_row, b, [[0.0; PANEL]; 2]) };
            a = &a[(2 * self.a_row).min(a.len())..];
        }
        for c in ones.as_chunks_mut::<1>().0 {
            *c = if self.add { product(a, self.a_row, b, *c) } else { product(a, self.a_row, b, [[0.0; PANEL]; 1]) };
        }
    }
}

/// Slices that are prefetched, a share of them with every tile.
struct Prefetches<'a> {
    next: [&'a [f32]; 2],
    /// Lines of each at a time.
    share: [usize; 2],
    issued: usize,
}

impl<'a> Prefetches<'a> {
    #[inline(always)]
    fn new(next: [&'a [f32]; 2], times: usize) -> Self {
        Prefetches { next, share: next.map(|next| next.len() / 16 / times.max(1) + 1), issued: 0 }
    }

    #[inline(always)]
    fn issue(&mut self, times: usize) {
        for (next, share) in self.next.iter().zip(self.share) {
            for line in self.issued * share..((self.issued + times) * share).min(next.len() / 16) {
                prefetch::<16>(next, 16 * line);
            }
        }
        self.issued += times;
    }
}

#[inline(always)]
fn product<const R: usize, const PANEL: usize>(
    a: &[f32],
    a_row: usize,
    b: &[[f32; PANEL]],
    start: [[f32; PANEL]; R],
) -> [[f32; PANEL]; R] {
    let mut sums = start;
    add_rows(|row| &a[row * a_row..], b, &mut sums);
    sums
}

/// For one panel of channels, `sums[depth] += (sum over rows of a[row][depth] * b[row])`, rows in order.
pub(crate) struct Outer<'a> {
    /// Rows of as many values as `sums` has rows, one every `a_row` values.
    pub a: &'a [f32],
    pub a_row: usize,
    /// Rows of a panel.
    pub b: &'a [f32],
    /// Rows of a panel.
    pub sums: &'a mut [f32],
}

impl Kernel for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let b = self.b.as_chunks::<PANEL>().0;
        let sums = self.sums.as_chunks_mut::<PANEL>().0;
        let (twelves, sums) = sums.split_at_mut(tall::<PANEL>(sums.len()));
        let first = twelves.len();
        for (i, sums) in twelves.as_chunks_mut::<TALL>().0.iter_mut().enumerate() {
            outer(&self.a[i * TALL..], self.a_row, b, sums);
        }
        let (sixes, ones) = sums.as_chunks_mut::<ROWS>();
        for (i, sums) in sixes.iter_mut().enumerate() {
            outer(&self.a[first + i * ROWS..], self.a_row, b, sums);
        }
        let first = first + sixes.len() * ROWS;
        let (threes, ones) = ones.as_chunks_mut::<3>();
        for (i, sums) in threes.iter_mut().enumerate() {
            outer(&self.a[first + i * 3..], self.a_row, b, sums);
        }
        let first = first + threes.len() * 3;
        for (i, sums) in ones.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            outer(&self.a[first + i..], self.a_row, b, sums);
        }
    }
}

#[inline(always)]
fn outer<const R: usize, const PANEL: usize>(a: &[f32], a_row: usize, b: &[[f32; PANEL]], to: &mut [[f32; PANEL]; R]) {
    let mut sums = [[0.0; PANEL]; R];
    for (a, b) in a.chunks(a_row).zip(b) {
        let a: &[f32; R] = a.first_chunk().expect("a row holds all values of a tile");
        add_products(a, b, &mut sums);
    }
    for (to, sums) in to.iter_mut().zip(&sums) {
        let mut total = *to;
        for lane in 0..PANEL {
            total[lane] += sums[lane];
        }
        *to = total;
    }
}
