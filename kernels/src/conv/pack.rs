//! Weights as the kernels read them: for each panel of target channels, term by term, the panel's channels side by
//! side. What stands in place of channels beyond the last is of no account: nobody reads what is computed from it.

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

    /// Calls `f(first packed, first in the weight, source channels)` for each lane of a panel and each tap, a few source
    /// channels at a time, so that both sides stay in the cache. From one source channel to the next, the packed
    /// index grows by the panel's size, the weight's by `self.depth`.
    #[inline(always)]
    fn walk(self, of: &Correlation, panel: Panel, size: usize, mut f: impl FnMut(usize, usize, usize)) {
        let taps = of.rows.taps.len() * of.cols.taps.len();
        let block = (288 / taps.max(1)).max(8);
        let origin = panel.group * self.group + panel.first * self.lane;
        for first in (0..of.depth()).step_by(block) {
            let depths = block.min(of.depth() - first);
            for (tap, index) in of.tap_indices().enumerate() {
                for lane in 0..panel.width {
                    let packed = (tap * of.depth() + first) * size + lane;
                    f(packed, origin + index + first * self.depth + lane * self.lane, depths);
                }
            }
        }
    }

    /// Fills one packed panel from the weight.
    pub fn pack(self, of: &Correlation, panel: Panel, size: usize, weight: &[f32], packed: &mut [f32]) {
        if self.lane == 1 {
            return self.pack_rows(of, panel, size, weight, packed);
        }
        self.walk(of, panel, size, |to, from, depths| {
            let from = weight[from..].iter().step_by(self.depth);
            for (to, from) in packed[to..].iter_mut().step_by(size).zip(from).take(depths) {
                *to = *from;
            }
        });
    }

    /// Where the weight's lanes lie side by side already, whole rows are copied.
    fn pack_rows(self, of: &Correlation, panel: Panel, size: usize, weight: &[f32], packed: &mut [f32]) {
        let mut rows = packed.chunks_exact_mut(size);
        for index in of.tap_indices() {
            let first = panel.group * self.group + panel.first + index;
            for (depth, row) in rows.by_ref().take(of.depth()).enumerate() {
                row[..panel.width].copy_from_slice(&weight[first + depth * self.depth..][..panel.width]);
            }
        }
    }

    /// Writes one packed panel to the weight.
    pub fn unpack(self, of: &Correlation, panel: Panel, size: usize, packed: &[f32], weight: &mut [f32]) {
        self.walk(of, panel, size, |from, to, depths| {
            let from = packed[from..].iter().step_by(size);
            for (to, from) in weight[to..].iter_mut().step_by(self.depth).zip(from).take(depths) {
                *to = *from;
            }
        });
    }
}
