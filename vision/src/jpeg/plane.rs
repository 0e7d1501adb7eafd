//! The samples of a component.

use std::cell::RefCell;
use std::ops::Range;

use super::frame::{Component, Frame};
use super::idct;
use crate::pixels::Window;

/// MCUs of a frame, which hold the pixels of a window and those beside it that upsampling reads.
pub(super) struct Area {
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
}

impl Area {
    pub(super) fn of(frame: &Frame, window: Window) -> Self {
        let (across, down) = frame.mcus();
        Area {
            columns: needed(window.x, window.width, 8 * frame.across, across),
            rows: needed(window.y, window.height, 8 * frame.down, down),
        }
    }
}

/// Of `count` MCUs of `size` pixels a side.
fn needed(start: u32, length: u32, size: usize, count: usize) -> Range<usize> {
    let margin = if size > 8 { 2 } else { 0 };
    let (start, end) = (start as usize, (start + length) as usize);
    start.saturating_sub(margin) / size..(end + margin).div_ceil(size).min(count)
}

/// Most bytes of a plane whose memory a thread keeps, and how many it keeps.
const MAX_SPARE: (usize, usize) = (16 << 20, 4);

thread_local! {
    /// Memory of planes that are no more: to get it anew for each picture would take a fifth of the time.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The samples of one component in an area of whole MCUs.
pub(super) struct Plane {
    pub(super) width: usize,
    samples: Vec<u8>,
}

impl Plane {
    /// Room for the samples of a component, all of which have to be written.
    pub(super) fn new(component: &Component, area: &Area) -> Self {
        let width = area.columns.len() * 8 * component.across;
        let mut samples = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        samples.resize(width * area.rows.len() * 8 * component.down, 0);
        Plane { width, samples }
    }

    /// Computes a block from its coefficients; `last` is the place of the last one in zigzag order.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, column: usize, coefficients: &[i32; 64], last: usize) -> Option<()> {
        let out = self.samples.get_mut(row * 8 * self.width + column * 8..)?;
        idct::block(coefficients, last, out, self.width);
        Some(())
    }

    /// A row of samples, the nearest where there is no such row.
    #[inline(always)]
    pub(super) fn row(&self, row: isize) -> &[u8] {
        let last = self.samples.len() / self.width - 1;
        &self.samples[row.clamp(0, last as isize) as usize * self.width..][..self.width]
    }

    /// Continues the last of `across` columns and `down` rows to the end of the area.
    pub(super) fn continue_from(&mut self, across: usize, down: usize) {
        for row in self.samples.chunks_exact_mut(self.width).take(down) {
            let last = row[across - 1];
            row[across..].fill(last);
        }
        let last = (down - 1) * self.width..down * self.width;
        for row in down..self.samples.len() / self.width {
            self.samples.copy_within(last.clone(), row * self.width);
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let samples = std::mem::take(&mut self.samples);
        // A thread that ends has no place for it.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if samples.capacity() <= MAX_SPARE.0 && spare.len() < MAX_SPARE.1 {
                spare.push(samples);
            }
        });
    }
}
