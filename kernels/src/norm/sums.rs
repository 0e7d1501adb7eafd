//! Sums over rows: in f32 over each few rows, and over those in f64.

use std::ops::Range;

use crate::cpu::simd;
use crate::shape::expect_len;
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};

/// Rows of the sums in f32. It is part of the bits.
pub(crate) const CHUNK: usize = 32;

/// How many rows of `channels` values x has.
///
/// # Panics
/// If x is not whole rows.
pub(super) fn rows(x: &[f32], channels: usize) -> usize {
    assert!(channels > 0 && x.len().is_multiple_of(channels), "{} values are not rows of {channels}", x.len());
    x.len() / channels
}

/// The sums of [`super::batch_stats`], taken over rows that come in parts: of `x - x₀` and of its square for each
/// channel, where x₀ is the first of all rows.
#[derive(Clone)]
pub struct BatchSums<'a> {
    first: &'a [f32],
    rows: usize,
    sums: RowSums,
}

impl<'a> BatchSums<'a> {
    /// Rows that are summed in f32. A [part](BatchSums::part) begins at a multiple of it.
    pub const ROWS: usize = CHUNK;

    /// Sums of nothing; `first` is the first of all rows, `[channels]`.
    pub fn new(first: &'a [f32]) -> Self {
        BatchSums { first, rows: 0, sums: RowSums::new(first.len()) }
    }

    /// Sums of nothing, for rows in the middle: to be [appended](BatchSums::append) to those of the rows before.
    pub fn part(first: &'a [f32]) -> Self {
        BatchSums { first, rows: 0, sums: RowSums::part(first.len()) }
    }

    /// From the sums of so many rows.
    pub(crate) fn of(first: &'a [f32], rows: usize, sums: RowSums) -> Self {
        BatchSums { first, rows, sums }
    }

    /// Takes in the next rows, `[rows, channels]`.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn add(&mut self, x: &[f32]) {
        self.rows += rows(x, self.first.len());
        self.sums.add(x, None, self.first);
    }

    /// Takes in the rows that `part` has taken in, with the bits of taking them in one by one.
    ///
    /// # Panics
    /// If `part` is none, or does not begin at a multiple of [`BatchSums::ROWS`].
    pub fn append(&mut self, part: BatchSums<'_>) {
        self.rows += part.rows;
        self.sums.append(part.sums);
    }

    /// Writes mean and biased variance of the rows, `[channels]` each: computed in f64, rounded once.
    ///
    /// # Panics
    /// If a slice does not fit, or there were no rows.
    pub fn stats(self, mean: &mut [f32], var: &mut [f32]) {
        let (first, rows) = (self.first, self.rows);
        expect_len("mean", mean.len(), first.len());
        expect_len("var", var.len(), first.len());
        assert!(rows > 0, "statistics of no rows");
        let (sums, squares) = self.sums.take();
        for c in 0..first.len() {
            let m = sums[c] / rows as f64;
            let v = squares[c] / rows as f64 - m * m;
            mean[c] = (f64::from(first[c]) + m) as f32;
            var[c] = if v < 0.0 { 0.0 } else { v as f32 };
        }
    }
}

/// For each channel the sum of a and the sum of a (x - mean) over rows that may come in parts, where a is dy, or
/// `x - mean` itself. Both sums are taken in f32 over each [`CHUNK`] rows, in row order, and over the chunks in f64.
#[derive(Clone)]
pub(crate) struct RowSums {
    /// Rows of the chunk in work.
    rows: usize,
    /// Both sums over the chunk in work, `[channels]` each.
    near: [Vec<f32>; 2],
    /// Both sums over the chunks before it, `[channels]` each.
    far: [Vec<f64>; 2],
    /// Of a part: both sums of each chunk, `[chunks, 2, channels]`, to be added to those of the rows before.
    chunks: Option<Vec<f32>>,
}

impl RowSums {
    /// Sums of nothing.
    pub fn new(channels: usize) -> Self {
        RowSums {
            rows: 0,
            near: [vec![0.0; channels], vec![0.0; channels]],
            far: [vec![0.0; channels], vec![0.0; channels]],
            chunks: None,
        }
    }

    /// These sums, `[channels]` each.
    pub fn of(sums: [Vec<f64>; 2]) -> Self {
        RowSums { far: sums, ..RowSums::new(0) }
    }

    /// Sums of rows in the middle, beginning with a chunk.
    pub fn part(channels: usize) -> Self {
        RowSums { chunks: Some(Vec::new()), ..RowSums::new(channels) }
    }

    /// Takes in the rows that a part has taken in, chunk by chunk, with the bits of taking them in one by one.
    pub fn append(&mut self, mut part: RowSums) {
        assert!(self.rows == 0, "a part begins with a chunk");
        if part.rows > 0 {
            part.end_chunk();
        }
        let chunks = part.chunks.expect("only a part is appended");
        for chunk in chunks.chunks_exact(2 * self.near[0].len()) {
            let near = chunk.split_at(self.near[0].len());
            for (far, near) in self.far.iter_mut().zip([near.0, near.1]) {
                for (far, near) in far.iter_mut().zip(near) {
                    *far += f64::from(*near);
                }
            }
        }
    }

    /// Takes in the next rows x, `[rows, channels]`, with a = dy or, where there is none, a = x - mean.
    pub fn add(&mut self, x: &[f32], dy: Option<&[f32]>, mean: &[f32]) {
        self.take_in(x.len(), |part, [sums, products]| match dy {
            Some(dy) => add_products(&x[part.clone()], &dy[part], mean, sums, products),
            None => add_squares(&x[part], mean, sums, products),
        });
    }

    /// Takes in the next rows, `len` values, by `add`: it is given parts of them in order, each to be added to the sums
    /// of its chunk.
    pub fn take_in(&mut self, len: usize, mut add: impl FnMut(Range<usize>, [&mut [f32]; 2])) {
        let channels = self.near[0].len();
        let mut first = 0;
        while first < len {
            let rows = (CHUNK - self.rows).min((len - first) / channels);
            let [sums, products] = &mut self.near;
            add(first..first + rows * channels, [sums, products]);
            self.rows += rows;
            first += rows * channels;
            if self.rows == CHUNK {
                self.end_chunk();
            }
        }
    }

    fn end_chunk(&mut self) {
        self.rows = 0;
        if let Some(chunks) = &mut self.chunks {
            for near in &mut self.near {
                chunks.extend_from_slice(near);
                near.fill(0.0);
            }
            return;
        }
        for (far, near) in self.far.iter_mut().zip(&mut self.near) {
            for (far, near) in far.iter_mut().zip(near) {
                *far += f64::from(std::mem::take(near));
            }
        }
    }

    /// The sums of a and of a (x - mean) over all rows that were taken in, `[channels]` each.
    pub fn take(mut self) -> (Vec<f64>, Vec<f64>) {
        self.end_chunk();
        let [sums, products] = self.far;
        (sums, products)
    }
}

simd! {
    fn add_products(x: &[f32], dy: &[f32], mean: &[f32], sums: &mut [f32], products: &mut [f32]) {
        for_lanes::<PANEL>(mean.len(), &mut Products { x, dy, mean, sums, products });
    }
}

struct Products<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    mean: &'a [f32],
    sums: &'a mut [f32],
    products: &'a mut [f32],
}

impl Lanes for Products<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let channels = self.mean.len();
        let mean: &[f32; W] = chunk(self.mean, first);
        let mut sums: [f32; W] = *chunk(self.sums, first);
        let mut products: [f32; W] = *chunk(self.products, first);
        for (x, dy) in self.x.chunks_exact(channels).zip(self.dy.chunks_exact(channels)) {
            let (x, dy): (&[f32; W], &[f32; W]) = (chunk(x, first), chunk(dy, first));
            for lane in 0..W {
                sums[lane] += dy[lane];
                products[lane] = dy[lane].mul_add(x[lane] - mean[lane], products[lane]);
            }
        }
        *chunk_mut(self.sums, first) = sums;
        *chunk_mut(self.products, first) = products;
    }
}

simd! {
    fn add_squares(x: &[f32], mean: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        for_lanes::<PANEL>(mean.len(), &mut Squares { x, mean, sums, squares });
    }
}

struct Squares<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    sums: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Lanes for Squares<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let mean: &[f32; W] = chunk(self.mean, first);
        let mut sums: [f32; W] = *chunk(self.sums, first);
        let mut squares: [f32; W] = *chunk(self.squares, first);
        for x in self.x.chunks_exact(self.mean.len()) {
            let x: &[f32; W] = chunk(x, first);
            for lane in 0..W {
                let from_mean = x[lane] - mean[lane];
                sums[lane] += from_mean;
                squares[lane] = from_mean.mul_add(from_mean, squares[lane]);
            }
        }
        *chunk_mut(self.sums, first) = sums;
        *chunk_mut(self.squares, first) = squares;
    }
}
