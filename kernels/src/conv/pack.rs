//! Weights as the kernels read them: for each panel of target channels, term by term, the panel's channels side by
//! side; channels beyond the last are zeros.

use super::geometry::Correlation;

/// Target channels that are computed at once, all of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub group: usize,
    /// First target channel, counted within the group.
    pub first: usize,
    /// How many of the panel's channels exist.
    pub width: usize,
}

/// The panels of `size` channels of all groups, in the order of their channels.
pub(super) fn panels(of: &Correlation, size: usize) -> Vec<Panel> {
    let channels = of.target_channels / of.groups;
    let firsts = move |group| {
        (0..channels).step_by(size).map(move |first| Panel { group, first, width: size.min(channels - first) })
    };
    (0..of.groups).flat_map(firsts).collect()
}

/// How an OIHW weight lies in memory, seen from a correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Distance between target channels.
    lane: usize,
    /// Distance between source channels.
    depth: usize,
    /// Distance between groups.
    group: usize,
}

impl Layout {
    /// For the forward pass and the weight gradient: y is the target.
    pub fn forward(shape: &super::ConvShape) -> Layout {
        let (taps, inputs) = (shape.kh * shape.kw, shape.ci / shape.groups);
        Layout { lane: inputs * taps, depth: taps, group: shape.co / shape.groups * inputs * taps }
    }

    /// For the input gradient: dx is the target.
    pub fn backward(shape: &super::ConvShape) -> Layout {
        let forward = Layout::forward(shape);
        Layout { lane: forward.depth, depth: forward.lane, ..forward }
    }

    /// Calls `f(index in the packed panel, index in the weight)` for all that exists of a panel, a few source
    /// channels at a time, so that both sides stay in the cache.
    #[inline(always)]
    fn walk(self, of: &Correlation, panel: Panel, size: usize, mut f: impl FnMut(usize, usize)) {
        const BLOCK: usize = 32;
        let origin = panel.group * self.group + panel.first * self.lane;
        for block in (0..of.depth()).step_by(BLOCK) {
            let depths = block..(block + BLOCK).min(of.depth());
            let taps = of.rows.taps.iter().flat_map(|row| of.cols.taps.iter().map(move |col| (row, col)));
            for (tap, (row, col)) in taps.enumerate() {
                let tap_origin = origin + row.index * of.kernel[1] + col.index;
                for depth in depths.clone() {
                    let packed = (tap * of.depth() + depth) * size;
                    let weight = tap_origin + depth * self.depth;
                    for lane in 0..panel.width {
                        f(packed + lane, weight + lane * self.lane);
                    }
                }
            }
        }
    }

    /// Fills one packed panel from the weight.
    pub fn pack(self, of: &Correlation, panel: Panel, size: usize, weight: &[f32], packed: &mut [f32]) {
        if panel.width < size {
            packed.fill(0.0);
        }
        self.walk(of, panel, size, |to, from| packed[to] = weight[from]);
    }

    /// Writes one packed panel to the weight.
    pub fn unpack(self, of: &Correlation, panel: Panel, size: usize, packed: &[f32], weight: &mut [f32]) {
        self.walk(of, panel, size, |from, to| weight[to] = packed[from]);
    }
}
