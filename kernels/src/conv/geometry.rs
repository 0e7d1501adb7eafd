//! Forward pass and input gradient as one form: every target pixel is a sum over taps of source pixels.
//!
//! Along one axis, position g of a grid reads the source at `g * step + offset` for each tap and writes the target at
//! `first + g * target_step`. The forward pass is one grid. The input gradient with stride s is s grids, for each
//! residue of the target modulo s one, whose taps are those that meet it; so no product with an inserted zero is
//! ever computed.

use super::ConvShape;

/// One element of the kernel along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Where it reads, relative to the position; outside of the source it reads 0.
    pub offset: isize,
    /// Its index in the weight.
    pub index: usize,
}

/// One axis of a [`Correlation`]. Taps are sorted by offset.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub source: usize,
    pub target: usize,
    pub grid: usize,
    pub step: usize,
    pub first: usize,
    pub target_step: usize,
    pub taps: Vec<Tap>,
}

impl Axis {
    /// Zeros needed before and after the source, so that no tap reads outside.
    pub fn borders(&self) -> [usize; 2] {
        let (Some(low), Some(high)) = (self.taps.first(), self.taps.last()) else {
            return [0, 0];
        };
        let end = ((self.grid - 1) * self.step) as isize + high.offset + 1;
        [(-low.offset).max(0) as usize, (end - self.source as isize).max(0) as usize]
    }

    /// Lowest offset, 0 if there are no taps, and how many source positions the taps of one position span.
    pub fn reach(&self) -> (isize, usize) {
        match (self.taps.first(), self.taps.last()) {
            (Some(low), Some(high)) => (low.offset, (high.offset - low.offset) as usize + 1),
            _ => (0, 1),
        }
    }
}

/// Sums over taps, for images of `source` channels to images of `target` channels, in `groups`.
#[derive(Clone, Debug)]
pub(crate) struct Correlation {
    pub n: usize,
    pub rows: Axis,
    pub cols: Axis,
    pub source_channels: usize,
    pub target_channels: usize,
    pub groups: usize,
    /// Height and width of the weight, of which the taps may be a part.
    pub kernel: [usize; 2],
}

impl Correlation {
    /// Grid positions of one image.
    pub fn positions(&self) -> usize {
        self.rows.grid * self.cols.grid
    }

    /// Source channels of one group.
    pub fn depth(&self) -> usize {
        self.source_channels / self.groups
    }

    /// Taps of one target value's sum.
    pub fn taps(&self) -> usize {
        self.rows.taps.len() * self.cols.taps.len()
    }

    /// Terms of one target value's sum.
    pub fn terms(&self) -> usize {
        self.taps() * self.depth()
    }

    /// Where each tap lies in the kernel, in the order of the sums.
    pub fn tap_indices(&self) -> impl Iterator<Item = usize> {
        let (cols, width) = (&self.cols.taps, self.kernel[1]);
        self.rows.taps.iter().flat_map(move |row| cols.iter().map(move |col| row.index * width + col.index))
    }

    /// Whether each of several channels is a group of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.source_channels && self.groups == self.target_channels
    }
}

/// The forward pass, from x to y.
pub(crate) fn forward(shape: &ConvShape) -> Correlation {
    let axis = |i: usize, source, kernel: usize, grid| Axis {
        source,
        target: grid,
        grid,
        step: shape.stride[i],
        first: 0,
        target_step: 1,
        taps: (0..kernel)
            .map(|index| Tap { offset: (index * shape.dilation[i]) as isize - shape.padding[i] as isize, index })
            .collect(),
    };
    Correlation {
        n: shape.n,
        rows: axis(0, shape.h, shape.kh, shape.oh()),
        cols: axis(1, shape.w, shape.kw, shape.ow()),
        source_channels: shape.ci,
        target_channels: shape.co,
        groups: shape.groups,
        kernel: [shape.kh, shape.kw],
    }
}

/// The input gradient, from dy to dx: one correlation for each pair of residues. Together they write all of dx.
pub(crate) fn backward(shape: &ConvShape) -> Vec<Correlation> {
    let axes = |i: usize, source, kernel: usize, target: usize| -> Vec<Axis> {
        let [stride, padding, dilation] = [shape.stride[i], shape.padding[i], shape.dilation[i]];
        let residues = 0..stride.min(target);
        let axis = |first: usize| {
            let meets = |index: &usize| (first + padding) % stride == index * dilation % stride;
            let tap = |index| {
                let distance = (first + padding) as isize - (index * dilation) as isize;
                Tap { offset: distance / stride as isize, index }
            };
            let taps = (0..kernel).rev().filter(meets).map(tap).collect();
            Axis { source, target, grid: (target - first).div_ceil(stride), step: 1, first, target_step: stride, taps }
        };
        residues.map(axis).collect()
    };
    let rows = axes(0, shape.oh(), shape.kh, shape.h);
    let cols = axes(1, shape.ow(), shape.kw, shape.w);
    let pairs = rows.iter().flat_map(|rows| cols.iter().map(move |cols| (rows, cols)));
    pairs
        .map(|(rows, cols)| Correlation {
            n: shape.n,
            rows: rows.clone(),
            cols: cols.clone(),
            source_channels: shape.co,
            target_channels: shape.ci,
            groups: shape.groups,
            kernel: [shape.kh, shape.kw],
        })
        .collect()
}
